"""The page of a run: well-formed, escaped, complete, true to the document, and asking the network for nothing."""

import copy
import json
import math
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import made_up_run
import pytest

from fastconv.bench import html, html_cases
from fastconv.bench.scale import digits, quantity

CASES = ("tiny-8x16", "resnet-64x56-3x3", "lecture-1x1", "photo-3x3", "resnet-max-3x3s2")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FETCHING = ("src", "href", "srcset", "data", "action", "formaction", "xlink:href", "poster", "background", "ping")
EMPTY_TAGS = ("meta", "link", "br")


class Page(HTMLParser):
    """A page whose tags are closed in order: its ids, its words, and every attribute that could fetch something."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in EMPTY_TAGS:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in FETCHING]
        assert tag not in ("script", "iframe", "object", "embed", "img", "base", "image", "use")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY_TAGS:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def run():
    return made_up_run.document(cases=CASES, caches=("hot", "cold"))


@pytest.fixture(scope="module")
def page(run):
    return html.page(run)


def part(page, start, end="</section>"):
    begin = page.index(f'id="{start}"')
    return page[begin : page.index(end, begin)]


def rows_of(page, case, cache):
    """The table of one case and cache: for each contestant the cells of its row."""
    table = next(
        t for t in re.findall(r"<table.*?</table>", part(page, f"bars-{case}", "</details>")) if cache in t[:30]
    )
    rows = ElementTree.fromstring(re.search(r"<tbody>.*</tbody>", table)[0])
    return {row.find("th").text: row.findall("td") for row in rows}


def entries_of(run, case, threads=1, cache="hot"):
    wanted = (case, threads, cache)
    return {e["contestant"]: e for e in run["entries"] if (e["case"], e["threads"], e["cache"]) == wanted}


def percent(element, name):
    return float(element.get(name).removesuffix("%"))


def svgs(text):
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def test_the_page_holds_every_chart_once(page):
    ids = Page(page).ids
    wanted = {"summary", "roofline-1", "roofline-2", "size-1", "size-2", "history", *(f"bars-{c}" for c in CASES)}
    assert wanted <= set(ids) and len(set(ids)) == len(ids)
    assert all(len(list(found.iter())) > 1 for found in svgs(page) if found.get("class") != "bar")


def test_nothing_on_the_page_could_fetch_anything(page):
    parsed = Page(page)
    inside = {link for link in parsed.links if link.startswith("#")}
    assert set(parsed.links) - inside == {"data:,"} and {link[1:] for link in inside} <= set(parsed.ids)
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page


def test_what_comes_from_outside_is_escaped():
    strange = json.loads(json.dumps(made_up_run.document(cases=CASES[:2])).replace("lecture", "x").replace(
        "tiny-8x16", "<i>&'").replace("ncnn", "<q>&'"))  # fmt: skip
    text = html.page(strange)
    for tag in ("<i>", "<q>", "<well>", "<fastconv>"):
        assert tag not in text
    assert "<i>&'" in unescape(text) and "<i>&'" in "".join(Page(text).words)


def test_the_head_says_what_was_measured_on_what(run, page):
    head = unescape(page[: page.index('id="summary"')])
    for wanted in (
        run["machine"]["processor"],
        run["versions"]["numpy"],
        run["date"][:10],
        "1 and 2 threads",
        "16 interleaved rounds",
        "165 GFLOP/s",
        "330 GFLOP/s",
        "480 GB/s",
        "set <well> & truly",
    ):
        assert wanted in head


@pytest.mark.parametrize("cache", ["hot", "cold"])
@pytest.mark.parametrize("case, rate", [("resnet-64x56-3x3", "gflops"), ("resnet-max-3x3s2", "gbs")])
def test_bars_are_as_long_as_the_values_that_they_stand_for(run, page, case, rate, cache):
    rows = rows_of(page, case, cache)
    for place, threads in ((0, 1), (4, 2)):
        entries = entries_of(run, case, threads, cache)
        widths = {name: percent(cells[place].find("svg/rect"), "width") for name, cells in rows.items()}
        assert widths.keys() == entries.keys()
        one_percent = entries["auto"][rate] / widths["auto"]
        assert all(entries[name][rate] / one_percent == pytest.approx(widths[name], abs=0.02) for name in entries)


def test_the_tick_stands_at_the_peak_and_the_whisker_at_the_quartiles(run, page):
    entry, cells = entries_of(run, "lecture-1x1")["auto"], rows_of(page, "lecture-1x1", "hot")["auto"]
    bar, whisker, tick = cells[0].findall("svg/rect")
    one_percent = entry["gflops"] / percent(bar, "width")
    assert percent(tick, "x") * one_percent == pytest.approx(165, rel=1e-3)
    low, high = (entry["gflops"] * entry["median_seconds"] / seconds for seconds in entry["quartile_seconds"][::-1])
    assert percent(whisker, "x") * one_percent == pytest.approx(low, rel=1e-3)
    assert percent(whisker, "width") * one_percent == pytest.approx(high - low, abs=0.03 * one_percent)


def test_a_row_has_the_numbers_of_its_entry(run, page):
    entry, cells = entries_of(run, "lecture-1x1")["auto"], rows_of(page, "lecture-1x1", "hot")["auto"]
    assert [cell.text for cell in cells[1:4]] == [
        digits(entry["gflops"]), quantity(entry["median_seconds"], "seconds"), f"{entry['percent_of_peak']:.0f} %"
    ]  # fmt: skip
    assert [cell.text for cell in cells[8:]] == [
        quantity(entry["workspace_bytes"], "bytes"), quantity(entry["peak_memory_bytes"], "bytes"), "2e-07",
        entry["algorithm"]]  # fmt: skip


def test_rows_stand_fastest_first_and_the_fastest_is_marked(run, page):
    rows = rows_of(page, "photo-3x3", "hot")
    entries = entries_of(run, "photo-3x3", threads=2)
    assert list(rows) == sorted(entries, key=lambda name: entries[name]["median_seconds"])
    assert [name for name, cells in rows.items() if cells[5].get("class") == "best"] == [next(iter(rows))]


def test_losses_are_there_like_wins(run, page):
    summary = part(page, "summary")
    for verdict in ("ahead", "behind", "undecided"):
        duels = [d for d in run["duels"] if d["contestant"] == "auto" and d["verdict"] == verdict]
        assert summary.count(f'<g class="{verdict}">') == 2 * len(duels)  # with its group, and with all
        for duel in duels:
            chip = f"{digits(duel['ratio'])}× {duel['rival']}"
            assert chip in part(page, f"bars-{duel['case']}", "</summary>")
    worst = min((d for d in run["duels"] if d["contestant"] == "auto"), key=lambda d: d["ratio"])
    assert worst["verdict"] == "behind" and f'at worst: \n<span class="name">{worst["case"]}</span>' in summary


def test_every_case_is_on_the_roofline_where_its_intensity_is(run, page):
    (chart,) = svgs(part(page, "roofline-1", "</figure>"))
    titles = {m.find("title").text: m for m in chart.iter() if m.find("title") is not None}
    cases = {case["name"]: case for case in run["cases"]}
    for kind in ("backend", "peer"):
        names = {c["name"] for c in run["contestants"] if c["kind"] == kind}
        found = [title.split(": ")[0] for title in titles if title.split(": ")[1].split(",")[0] in names]
        assert sorted(found) == sorted(CASES)
    places = [(math.log(cases[title.split(": ")[0]]["flops"] / cases[title.split(": ")[0]]["bytes"]), m)
              for title, m in titles.items() if m.tag == "circle"]  # fmt: skip
    (first, one), (second, other), *rest = places
    slope = (float(other.get("cx")) - float(one.get("cx"))) / (second - first)
    assert all(float(m.get("cx")) == pytest.approx(float(one.get("cx")) + (x - first) * slope, abs=1) for x, m in rest)
    texts = {t.text for t in chart.iter("text")}
    assert {"multiply-adds 165 GFLOP/s", "L1 480 GB/s", "L2 160 GB/s", "L3 60 GB/s", "memory 18 GB/s"} <= texts


def test_time_against_size_has_every_contestant_with_the_price_of_its_smallest_call(run, page):
    (chart,) = svgs(part(page, "size-2", "</figure>"))
    groups = {g.find("text").text.split("  ")[0]: g for g in chart.iter("g")}
    for name, group in groups.items():
        mine = [e for e in run["entries"] if (e["contestant"], e["threads"], e["cache"]) == (name, 2, "hot")]
        assert len([m for m in group if m.find("title") is not None]) == len(mine)
    smallest = entries_of(run, "tiny-8x16", threads=2)
    assert groups["cython"].find("text").text == f"cython  {quantity(smallest['cython']['median_seconds'], 'seconds')}"
    assert set(groups) == {e["contestant"] for e in run["entries"]}


def test_who_left_out_a_case_stands_there_once_with_the_reason(page):
    notes = part(page, "bars-resnet-64x56-3x3", "</details>")
    assert notes.count("Not here: opencv (one channel only).") == 1
    assert "<b>tvm</b>: not installed; &#x27;pip install &lt;tvm&gt; &amp; co&#x27;" in part(page, "absent")


@pytest.mark.parametrize(
    "options",
    [{"threads": (1,), "names": ("auto",), "cases": CASES[:1]}, {"names": ("torch",)}, {"names": made_up_run.OURS},
     {"wrong": (*made_up_run.OURS, *made_up_run.RIVALS)}, {"wrong": ("torch",)}, {"threads": (1, 2, 4, 8)},
     {"caches": ("cold",)}, {"cases": ()}, {"rounds": 3}],
    ids=["one of each", "rivals only", "no rivals", "all wrong", "one wrong", "many threads", "cold only", "no case",
         "few rounds"],
)  # fmt: skip
def test_a_page_of_less_is_a_page(options):
    run = made_up_run.document(**{"cases": CASES[:2]} | options)
    text = html.page(run)
    Page(text)
    svgs(text)
    assert ("wrong, not timed" in text) == any(not e["right"] for e in run["entries"])
    assert ("Nobody else took part" in text) == (not run["duels"])
    assert all(f'id="roofline-{threads}"' in text for threads in run["threads"])


def test_a_contestant_that_failed_while_it_was_timed_is_told_from_a_wrong_one(run):
    failed = copy.deepcopy(run)
    for entry in failed["entries"]:
        if entry["contestant"] == "fft":
            entry |= {"median_seconds": None, "quartile_seconds": None, "seconds": [], "kept": []}
    text = html.page(failed)
    assert "failed while timed" in text and "wrong, not timed" not in text


def test_disturbed_entries_are_marked(run, page):
    noisy = copy.deepcopy(run)
    noisy["entries"][0]["disturbed"] = True
    assert "too few quiet rounds" in html.page(noisy) and "too few quiet rounds" not in page


def test_a_run_without_probes_has_no_roofs(run):
    bare = {"fma_gflops": None, "bandwidth": {}}
    text = html.page(run | {"probes": {"1": bare, "2": bare}})
    assert "multiply-adds" not in Page(text).words and "all of it at the peak" not in text


def test_a_page_of_everything_is_small_enough_to_open_and_folded():
    names = (*made_up_run.OURS, *made_up_run.RIVALS)
    run = made_up_run.document(cases=CASES[:4], rounds=3)
    for number in range(30):
        for rows, key in ((run["cases"], "name"), (run["entries"], "case"), (run["duels"], "case")):
            rows += [{**row, key: f"{row[key]}-{number}"} for row in rows if row[key] in CASES]
    assert len(run["cases"]) == 124 and len(names) == 14
    text = html.page(run)
    assert len(text) < 3e6 * 14 / 17 and "<details open" not in text
    assert html_cases.OPEN_CASES > 34  # those that run by default stand open


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
    assert drawn.count("<svg") == page.count("<svg") and set(Page(page).ids) == set(Page(drawn).ids) and asked == set()
    _, asked = browse(source, tmp_path, f"--screenshot={shot}", "--window-size=1200,4000")
    colours = dict((colour, count) for count, colour in Image.open(shot).convert("RGB").getcolors(1 << 24))
    ours, theirs = (11, 102, 183), (154, 163, 173)
    assert colours[ours] > 2000 and colours[theirs] > 2000 and asked == set()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")
def test_a_page_that_fetches_something_would_be_noticed(tmp_path):
    source = tmp_path / "page.html"
    source.write_text('<!doctype html><img src="http://planted.example/x.png">', encoding="utf-8")
    assert browse(source, tmp_path, "--dump-dom")[1] == {"planted.example"}
