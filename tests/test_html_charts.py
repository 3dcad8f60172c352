"""The charts of the page as such, and the history that asv wrote."""

import json
import math
import re
from xml.etree import ElementTree

import made_up_run
import pytest
from made_up_run import chance

from fastconv.bench import charts, history, html, planes
from fastconv.bench.scale import Scale


def percent(element, name):
    return float(element.get(name).removesuffix("%"))


def history_of(page):
    return page[page.index('id="history"') : page.index("</section>", page.index('id="history"'))]


def test_a_duel_lies_where_its_ratio_is():
    found = [charts.Dot(ratio, "ahead", "") for ratio in (0.5, 1.0, 2.0, 4.0)]
    drawn = ElementTree.fromstring(charts.dots(found, 1.4, charts.ratio_scale([0.5, 4.0]), "all"))
    places = [percent(circle, "cx") for circle in drawn.iter("circle")]
    assert [b - a for a, b in zip(places, places[1:], strict=False)] == pytest.approx(
        [places[1] - places[0]] * 3, abs=0.02
    )


def test_dots_that_would_touch_move_apart():
    found = [charts.Dot(1.0, "ahead", "")] * 5
    drawn = ElementTree.fromstring(charts.dots(found, 1.0, charts.ratio_scale([1.0]), "all"))
    heights = sorted(float(circle.get("cy")) for circle in drawn.iter("circle"))
    assert len(set(heights)) == 5 and heights[0] >= 4 and heights[-1] <= float(drawn.get("height")) - 4


def test_names_on_a_roofline_do_not_lie_on_each_other():
    places = [(10 ** (3 * chance("x", n)), 10 ** (2 * chance("y", n))) for n in range(60)]
    marks = [planes.Mark(x, y, "ours", "", f"a-layer-of-a-long-name-{n}") for n, (x, y) in enumerate(places)]
    chart = ElementTree.fromstring(planes.roofline(marks, [planes.Roof("peak", 200.0)], ("x", "y"), "roofline"))
    at = [
        (float(t.get("x")), float(t.get("y")), len(t.text) * 5) for t in chart.iter("text") if t.get("class") == "name"
    ]
    assert 1 < len(at) < 60
    for x, y, size in at:
        assert not any((x, y) != (u, v) and abs(y - v) < 9 and x < u + other and u < x + size for u, v, other in at)


def test_scales_put_values_where_they_belong():
    scale = Scale(1.0, 100.0, 0.0, 10.0)
    assert [scale(v) for v in (0.1, 1, 10, 100, 1e6)] == [0, 0, 5, 10, 10]
    assert Scale(0.0, 4.0, 10.0, 30.0, log=False)(1.0) == 15


def results(folder, environments=("env",)):
    """Commits as asv writes them, the second without one value, the last of another version of the benchmark."""
    (folder / "box").mkdir(parents=True)
    spec = {"unit": "seconds", "param_names": ["backend", "threads"], "version": "1"}
    (folder / "benchmarks.json").write_text(json.dumps({"bench.Conv.time_plan": spec, "version": 2}))
    (folder / "box" / "machine.json").write_text(json.dumps({"machine": "box", "version": 1}))
    (folder / "box" / "torn-file.json").write_text("{")
    columns = ["result", "params", "version", "started_at", "duration"]
    for environment in environments:
        for number, values in enumerate([[1.0, 2.0], [None, 2.5], [1.5, math.nan], [9.0, 9.0]]):
            row = [values, [["'auto'", "'fft<'"], ["1"]], "0" if number == 3 else "1", 0, 1.0]
            run = {"commit_hash": f"{number}{'f' * 39}", "date": 1000 * (9 - number), "env_name": environment}
            run |= {"result_columns": columns, "results": {"bench.Conv.time_plan": row, "bench.Gone.time": None}}
            (folder / "box" / f"{number}fffffff-{environment}.json").write_text(json.dumps(run))
    return folder


def test_the_history_is_what_asv_wrote_of_this_version(tmp_path):
    first, second = history.read(results(tmp_path / "results"))
    assert (first.place, first.benchmark, first.unit) == ("box", "bench.Conv.time_plan", "seconds")
    assert first.parameters == (("backend", "auto"), ("threads", "1"))
    assert [(p.commit, p.value) for p in first.points] == [("2fffffff", 1.5), ("0fffffff", 1.0)]  # by date
    assert [p.value for p in second.points] == [2.5, 2.0]


def test_no_history_is_an_empty_one_and_the_page_says_how_to_make_it(tmp_path):
    assert history.read(tmp_path / "nowhere") == []
    assert "asv run" in history_of(html.page(made_up_run.document(cases=())))


def test_environments_of_one_machine_are_kept_apart(tmp_path):
    places = [track.place for track in history.read(results(tmp_path / "results", ("old", "new")))]
    assert places == ["box, new"] * 2 + ["box, old"] * 2


def test_the_page_draws_the_history_with_its_gaps(tmp_path):
    tracks = history.read(results(tmp_path / "results"))
    section = history_of(html.page(made_up_run.document(cases=()), tracks))
    chart = ElementTree.fromstring(re.search(r"<svg.*?</svg>", section)[0])
    assert section.count("<svg") == 1
    curves = {g.find("text").text: g for g in chart.iter("g")}
    assert list(curves) == ["auto 1.00 s", "fft< 2.00 s"] and "3 commits" in section
    auto, fft = curves.values()
    assert [c.find("title").text for c in auto.iter("circle")] == [
        "2fffffff of 1970-01-01: auto 1.50 s", "0fffffff of 1970-01-01: auto 1.00 s"
    ]  # fmt: skip
    assert auto.find("polyline") is None and fft.find("polyline") is not None  # the gap is not bridged
    assert len({c.get("cx") for c in chart.iter("circle")}) == 3


def test_a_value_of_zero_is_drawn_too():
    curve = planes.Curve("", 0, (0.0, 2.0), ("a", "b"))
    chart = ElementTree.fromstring(planes.panel([curve], "", ["1", "2"], "history"))
    low, high = (float(c.get("cy")) for c in chart.iter("circle"))
    assert low > high
