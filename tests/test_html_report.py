"""The page of a run: well-formed, escaped, complete, true to the document, and asking the network for nothing."""

import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from fastconv.bench import charts, contest, contestants, history, html, report
from fastconv.bench.cases import find

CASES = ("tiny-8x16", "resnet-64x56-3x3", "photo-3x3", "resnet-max-3x3s2")
OURS, RIVALS = ("auto", "cython"), ("torch", "onnxruntime")
SPEED = {"auto": 1.0, "cython": 1.2, "torch": 2.0, "onnxruntime": 0.8}  # time, as a multiple of the first's
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBES = {"fma_gflops": 250.0, "bandwidth": {"L1": {"bytes": 24576, "gbs": 480.0, "by": "copying"},
          "memory": {"bytes": 1 << 27, "gbs": 40.0, "by": "reading"}}}  # fmt: skip


def document(threads=(1, 2), caches=("hot", "cold"), names=(*OURS, *RIVALS), cases=CASES, wrong=()):
    """A run that might have been."""
    entries = []
    for case in map(find, cases):
        for workers in threads:
            for cache in caches:
                for name in names:
                    algorithm = "shifted product" if name in OURS else None
                    blank = contest.Entry(case.name, workers, cache, name, algorithm, 1 << 20, 2e-7, 1e-6)
                    if name in wrong:
                        entries.append(contest.replace(blank, error=0.5))
                        continue
                    seconds = SPEED[name] * (case.flops / 2e11 + 2e-5) / workers
                    rounds = [contest.Sample(seconds * (1 + 0.01 * (i % 5)), (250.0,), 40.0, 0.0) for i in range(12)]
                    entries.append(contest._timed(blank, case, 3, rounds, [True] * 12, False))
    who = [contestants.Contestant(n, "backend" if n in OURS else "peer", f"The <{n}>", "1.0", "a & b").to_dict()
           for n in names]  # fmt: skip
    absences = [contest.Absence("photo-3x3", "cython", "it is <late> & tired"), contest.Absence("", "jax", "not here")]
    probes = {str(workers): PROBES for workers in threads}
    return json.loads(json.dumps(report.document([find(c) for c in cases], entries, absences, who, probes,
                                                 threads=threads, rounds=12, caches=caches)))  # fmt: skip


class Page(HTMLParser):
    """Tags that are closed in order, all ids, all attributes that could fetch something."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [v for n, v in attrs if n in ("src", "href", "srcset", "data", "action", "xlink:href", "poster")]
        assert tag not in ("script", "iframe", "object", "embed", "img", "base")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "link", "br"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def run():
    return document()


@pytest.fixture(scope="module")
def page(run):
    return html.page(run)


def figures(page):
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_the_page_holds_every_chart(page):
    wanted = {"summary", "roofline-1", "roofline-2", "size-1", "size-2", "history", *(f"bars-{c}" for c in CASES)}
    assert wanted <= set(Page(page).ids)
    assert len(figures(page)) == 4 + len(CASES) * 4 + 4  # summaries, bars by threads and cache, rooflines and sizes


def test_nothing_on_the_page_could_fetch_anything(page):
    assert Page(page).links == ["data:,"]
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page


def test_what_comes_from_outside_is_escaped(page):
    assert "The <torch>" not in page and "The &lt;torch&gt;" in page and "it is &lt;late&gt; &amp; tired" in page


def test_bars_are_as_long_as_the_values_that_they_stand_for(run, page):
    section = page[page.index('id="bars-resnet-64x56-3x3"') :]
    first = ElementTree.fromstring(re.search(r"<svg.*?</svg>", section, re.DOTALL)[0])
    widths = {group.find("text").text: float(group.find("rect").get("width")) for group in first.iter("g")}
    rates = {e["contestant"]: e["gflops"] for e in run["entries"]
             if (e["case"], e["threads"], e["cache"]) == ("resnet-64x56-3x3", 1, "hot")}  # fmt: skip
    assert list(widths) == sorted(rates, key=lambda name: -rates[name])  # fastest first
    for name, rate in rates.items():
        assert widths[name] / widths["auto"] == pytest.approx(rate / rates["auto"], rel=0.02)


def test_losses_are_there_like_wins(run, page):
    assert {d["verdict"] for d in run["duels"]} == {"behind"} and page.count('class="behind"') >= len(CASES)
    assert "0 ahead, 4 behind, 0 undecided" in page


def test_every_case_is_on_the_roofline_and_under_the_right_size(run, page):
    roofline = page[page.index('id="roofline-1"') : page.index('id="roofline-2"')]
    assert all(f"{case}: " in roofline for case in CASES) and "multiply-adds 250 GFLOP/s" in roofline
    size = page[page.index('id="size-1"') : page.index('id="size-2"')]
    assert size.count("<circle") == len(CASES) * len(SPEED)


@pytest.mark.parametrize(
    "options",
    [{"threads": (1,), "caches": ("hot",), "names": ("auto",), "cases": ("tiny-8x16",)}, {"names": OURS},
     {"wrong": (*OURS, *RIVALS)}, {"wrong": ("torch",)}],
    ids=["one of each", "no rivals", "all wrong", "one wrong"],
)  # fmt: skip
def test_a_page_of_less_is_a_page(options):
    text = html.page(document(**options))
    Page(text)
    assert ("wrong: error" in text) == bool(options.get("wrong"))
    assert ("Nobody else took part" in text) == ("torch" not in options.get("names", RIVALS) or "wrong" in options and
                                                 len(options["wrong"]) == 4)  # fmt: skip


def test_a_run_without_probes_has_no_roofs():
    run = document()
    run["probes"] = {"1": {"fma_gflops": None, "bandwidth": {}}, "2": {"fma_gflops": None, "bandwidth": {}}}
    assert "multiply-adds" not in Page(html.page(run)).text


def test_a_page_of_everything_is_small_enough_to_open(run):
    large = copy.deepcopy(run)
    for number in range(1, 30):
        for part in ("cases", "entries", "duels"):
            for row in run[part]:
                key = "name" if part == "cases" else "case"
                large[part].append({**row, key: f"{row[key]}-{number}"})
    assert len(html.page(large)) < 3e6


def results(folder):
    """Three commits as asv writes them, the second without one value."""
    (folder / "box").mkdir(parents=True)
    (folder / "benchmarks.json").write_text(json.dumps({"bench.Conv.time_plan": {"unit": "seconds"}, "version": 2}))
    (folder / "box" / "machine.json").write_text(json.dumps({"machine": "box", "version": 1}))
    (folder / "box" / "torn-file.json").write_text("{")
    for number, values in enumerate([[1.0, 2.0], [None, 2.5], [1.5, float("nan")]]):
        row = [values, [["'a'", "'b'"], ["1"]], "1", 0, 1.0]
        columns = ["result", "params", "version", "started_at", "duration"]
        run = {"commit_hash": f"{number}{'f' * 39}", "date": 1000 * (9 - number), "result_columns": columns}
        run["results"] = {"bench.Conv.time_plan": row}
        (folder / "box" / f"{number}fffffff-env.json").write_text(json.dumps(run))
    return folder


def test_the_history_is_what_asv_wrote(tmp_path):
    first, second = history.read(results(tmp_path / "results"))
    assert (first.machine, first.benchmark, first.parameters, first.unit) == (
        "box",
        "bench.Conv.time_plan",
        "a, 1",
        "seconds",
    )
    assert [(p.commit, p.value) for p in first.points] == [("2fffffff", 1.5), ("0fffffff", 1.0)]  # by date
    assert [p.value for p in second.points] == [2.5, 2.0]
    assert history.read(tmp_path / "nowhere") == []


def test_the_page_draws_the_history_with_its_gaps(run, tmp_path):
    text = html.page(run, history.read(results(tmp_path / "results")))
    section = text[text.index('id="history"') :]
    assert "3 commits" in section and section.count("<svg") == 2 and "0fffffff: 1 seconds" in section
    assert section.count('class="curve"') == 3  # two pieces around the gap, and one curve


def test_scales_put_values_where_they_belong():
    log = charts.Scale(1.0, 100.0, 0.0, 10.0)
    assert [log(v) for v in (0.1, 1, 10, 100, 1e6)] == [0, 0, 5, 10, 10] and log.decades() == [1, 10, 100]
    assert charts.Scale(0.0, 4.0, 10.0, 30.0, log=False)(1.0) == 15


def browse(source, folder, *options):
    """What Chromium prints, and the hosts that it asks for anything, without those of its own services."""
    log = folder / "net.json"
    switches = ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update",
                "disable-sync", "no-first-run", "hide-scrollbars", "host-resolver-rules=MAP * ~NOTFOUND",
                f"user-data-dir={folder / 'profile'}", f"log-net-log={log}")  # fmt: skip
    command = [BROWSER, *(f"--{switch}" for switch in switches), *options, source.as_uri()]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    hosts = set(re.findall(r'"url":"(?:https?|wss?|ftp)://([^/":]+)', log.read_text(errors="replace")))
    own = (".google.com", ".googleapis.com", ".gvt1.com", ".gstatic.com")
    return said, {host for host in hosts if not host.endswith(own)}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")
def test_a_browser_draws_the_page_and_asks_the_network_for_nothing(page, tmp_path):
    from PIL import Image

    source, shot = tmp_path / "page.html", tmp_path / "page.png"
    source.write_text(page, encoding="utf-8")
    drawn, asked = browse(source, tmp_path, "--dump-dom")
    assert drawn.count("<svg") == page.count("<svg") and "Case by case" in drawn and asked == set()
    _, asked = browse(source, tmp_path, f"--screenshot={shot}", "--window-size=1200,3000")
    colours = {colour for _, colour in Image.open(shot).convert("RGB").getcolors(1 << 24)}
    assert {(21, 101, 192), (154, 163, 173)} <= colours and asked == set()  # ours and theirs


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")
def test_a_page_that_fetches_something_would_be_noticed(tmp_path):
    source = tmp_path / "page.html"
    source.write_text('<!doctype html><img src="http://planted.example/x.png">', encoding="utf-8")
    assert browse(source, tmp_path, "--dump-dom")[1] == {"planted.example"}
