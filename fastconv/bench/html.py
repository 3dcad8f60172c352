"""A run as one page: inline SVG and style, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from fastconv.bench import charts, style
from fastconv.bench.charts import Bar, Dot, Line, short
from fastconv.bench.history import Track
from fastconv.bench.report import ALL, Document, headline

OPEN_CASES = 40
"""Up to this many cases the bars of all are unfolded."""

MOST_TRACKS = 60
"""So many curves of the history are drawn, the newest and longest first; beyond, a page is no longer looked at."""

_ROOF_AXES = "operations per byte", "GFLOP/s"
_SIZE_AXES = "operations of the direct algorithm", "milliseconds"

Row = dict[str, Any]


def page(report: Document, history: Sequence[Track] = ()) -> str:
    """The whole page as text.

    ``history`` comes from `fastconv.bench.history.read`.
    """
    parts = [_head(report), *_summary(report), *_cases(report), *_rooflines(report), *_sizes(report), _history(history),
             _absent(report)]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<title>fastconv bench, {escape(report["date"][:10])}</title><link rel="icon" href="data:,">'
        f"<style>{style.CSS}</style></head><body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


def _head(report: Document) -> str:
    rows = []
    for threads, found in report["probes"].items():
        if found["fma_gflops"] is not None:
            levels = "".join(f"<td>{level['gbs']:.0f}</td>" for level in found["bandwidth"].values())
            rows.append(f"<tr><th>{_threads(int(threads))}</th><td>{found['fma_gflops']:.0f}</td>{levels}</tr>")
    names = next((list(found["bandwidth"]) for found in report["probes"].values() if found["bandwidth"]), [])
    heads = "".join(f"<th>{escape(name)}, GB/s</th>" for name in names)
    probes = f"<table><tr><th></th><th>multiply-adds, GFLOP/s</th>{heads}</tr>{''.join(rows)}</table>" if rows else ""
    rivals = [c for c in report["contestants"] if c["kind"] == "peer"]
    who = "".join(
        f"<li><b>{escape(c['title'])}</b> {escape(c['version'])}: {escape(c['setting'])}</li>" for c in rivals
    )
    how = f"<details><summary>{len(rivals)} rivals and how they are set</summary><ul>{who}</ul></details>" * bool(who)
    return (
        f'<h1>How fast is fastconv?</h1><p class="lead">{escape(headline(report))}</p>'
        f"<p>{len(report['cases'])} cases, {report['rounds']} interleaved rounds. "
        '<b class="ours">Blue</b> is fastconv, '
        '<b class="peer">grey</b> is somebody else. Speed counts the operations of the direct algorithm, so one that '
        "needs fewer may pass the dashed line, the machine's peak. Point at anything for its numbers.</p>"
        f"{probes}{how}"
    )


def _summary(report: Document) -> Iterator[str]:
    yield '<section id="summary"><h2>Against the best rival</h2>'
    if not report["duels"]:
        yield "<p>Nobody else took part; <code>fastconv bench --peers all</code> asks everybody who is installed.</p>"
    group_of = {case["name"]: case["group"] for case in report["cases"]}
    first = next((d["contestant"] for d in report["duels"]), None)
    for threads in report["threads"]:
        for cache in report["caches"]:
            key = (threads, cache, first)
            duels = [d for d in report["duels"] if (d["threads"], d["cache"], d["contestant"]) == key]
            groups = {g["group"]: g for g in report["groups"] if (g["threads"], g["cache"], g["contestant"]) == key}
            if not duels:
                continue
            rows = []
            for name in [*(name for name in groups if name != ALL), ALL]:
                dots = [Dot(d["ratio"], 0, d["verdict"], _duel(d)) for d in duels if name in (ALL, group_of[d["case"]])]
                group = groups[name]
                note = f"{group['geometric_mean']:.2f} mean, {group['worst']:.2f} worst"
                rows.append((name, dots, group["geometric_mean"], note))
            counts = ", ".join(f"{groups[ALL][v]} {v}" for v in ("ahead", "behind", "undecided"))
            title = f"{_threads(threads)}, {cache} caches: time of the best rival over fastconv's {first}"
            yield f"<h3>{escape(title)}</h3><p>Right of 1 fastconv is faster: {counts}.</p>"
            yield charts.dots_by_row(rows, title)
    yield "</section>"


def _duel(duel: Row) -> str:
    return (f"{duel['case']}: {duel['rival']} takes {duel['ratio']:.2f} [{duel['low']:.2f}, {duel['high']:.2f}] times "
            f"as long; {duel['verdict']}")  # fmt: skip


def _cases(report: Document) -> Iterator[str]:
    yield '<section id="cases"><h2>Case by case</h2>'
    unfolded = " open" * (len(report["cases"]) <= OPEN_CASES)
    kinds = {c["name"]: c["kind"] for c in report["contestants"]}
    for case in report["cases"]:
        yield f'<details{unfolded} id="bars-{escape(case["name"])}"><summary><b>{escape(case["name"])}</b> '
        yield f"<code>{escape(case['layer'])}</code></summary>"
        flops, size = short(case["flops"]), short(case["bytes"])
        yield f'<p class="small">{escape(case["source"])}. {flops} operations, {size} bytes.</p><div class="pair">'
        for threads in report["threads"]:
            for cache in report["caches"]:
                rows = [
                    e
                    for e in report["entries"]
                    if (e["case"], e["threads"], e["cache"]) == (case["name"], threads, cache)
                ]
                yield f"<figure><figcaption>{_threads(threads)}{', cold caches' * (cache == 'cold')}</figcaption>"
                yield _bars(case, rows, kinds, report["probes"].get(str(threads)))
                yield "</figure>"
        yield "</div></details>"
    yield "</section>"


def _bars(case: Row, rows: list[Row], kinds: dict[str, str], probes: Row | None) -> str:
    conv = case["op"] == "conv"
    amount, unit = (case["flops"], "GFLOP/s") if conv else (case["bytes"], "GB/s")
    percent = "percent_of_peak" if conv else "percent_of_bandwidth"
    made = []
    for row in sorted(rows, key=lambda row: row["median_seconds"] or float("inf")):
        kind = "ours" if kinds.get(row["contestant"]) == "backend" else "peer"
        seconds = row["median_seconds"]
        if seconds is None:
            error = "not a number" if row["error"] is None else f"{row['error']:.1e}"
            made.append(Bar(row["contestant"], None, 0, 0, f"wrong: error {error}", kind, "not timed"))
            continue
        slow, fast = (amount / quartile / 1e9 for quartile in row["quartile_seconds"][::-1])
        share = "" if row[percent] is None else f" · {row[percent]:.0f} %"
        mark = " !" * row["disturbed"]
        speed = amount / seconds / 1e9
        note = f"{speed:.3g} · {_time(seconds)}{share}{mark}"
        made.append(Bar(row["contestant"], speed, slow, fast, note, kind, _tip(row, unit)))
    limit = (probes or {}).get("fma_gflops") if conv else None
    return charts.bars(
        made, limit, f"peak {limit:.0f}" if limit else "", f"{unit} of each contestant on {case['name']}"
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def _tip(row: Row, unit: str) -> str:
    sizes = [f"{name} {row[key] / 2**20:.1f} MiB" for name, key in
             (("workspace", "workspace_bytes"), ("memory", "peak_memory_bytes")) if row[key] is not None]  # fmt: skip
    parts = [row["contestant"], row["algorithm"], unit, f"{sum(row['kept'])} of {len(row['kept'])} rounds count",
             f"error {row['error']:.1e} of {row['error_allowed']:.1e} allowed", *sizes,
             "hardly a quiet round" * row["disturbed"]]  # fmt: skip
    return ", ".join(filter(None, parts))


def _fastest(report: Document, threads: int, kind: str) -> Iterator[tuple[Row, Row]]:
    """Each case with the fastest entry of one kind, hot caches."""
    kinds = {c["name"]: c["kind"] for c in report["contestants"]}
    for case in report["cases"]:
        rows = [
            e
            for e in report["entries"]
            if (e["case"], e["threads"], e["cache"]) == (case["name"], threads, "hot")
            and kinds.get(e["contestant"]) == kind
            and e["median_seconds"] is not None
        ]
        if rows:
            yield case, min(rows, key=lambda row: float(row["median_seconds"]))


def _rooflines(report: Document) -> Iterator[str]:
    yield '<section id="roofline"><h2>Roofline</h2><p>Operations of the direct algorithm for each byte of x, w and '
    yield "result, against speed: the fastest of fastconv and the fastest rival of each case. The lines are what the "
    yield 'machine was measured to do: slanted by bandwidth, level by multiply-adds.</p><div class="pair">'
    for threads in report["threads"]:
        dots: list[Dot] = []
        at: dict[str, list[tuple[float, float]]] = {}
        for kind, colour in (("peer", "peer"), ("backend", "ours")):
            for case, row in _fastest(report, threads, kind):
                speed, intensity = case["flops"] / row["median_seconds"] / 1e9, case["flops"] / case["bytes"]
                tip = f"{case['name']}: {row['contestant']}, {speed:.3g} GFLOP/s"
                dots.append(Dot(intensity, speed, colour, tip))
                at.setdefault(case["name"], []).append((intensity, speed))
        if dots:
            gaps = [Line(tuple(pair), "gap") for pair in at.values() if len(pair) > 1]
            name = f"roofline, {_threads(threads)}"
            yield f'<figure id="roofline-{threads}"><figcaption>{_threads(threads)}</figcaption>'
            yield charts.plane([*gaps, *_roofs(report["probes"].get(str(threads)), dots)], dots, _ROOF_AXES, name)
            yield "</figure>"
    yield "</div></section>"


def _roofs(probes: Row | None, dots: Sequence[Dot]) -> list[Line]:
    if probes is None or probes["fma_gflops"] is None:
        return []
    low, high, peak = min(dot.x for dot in dots) / 1.3, max(dot.x for dot in dots) * 1.3, probes["fma_gflops"]
    result = [Line(((low, peak), (high, peak)), "roof", f"multiply-adds {peak:.0f} GFLOP/s")]
    for name, level in probes["bandwidth"].items():
        end = min(high, peak / level["gbs"])
        if end > low:
            line = ((low, low * level["gbs"]), (end, end * level["gbs"]))
            result.append(Line(line, "roof", f"{name} {level['gbs']:.0f} GB/s"))
    return result


def _sizes(report: Document) -> Iterator[str]:
    yield '<section id="size"><h2>Time against size</h2><p>Left is what a call costs before it computes anything.</p>'
    yield '<div class="pair">'
    kinds = {c["name"]: c["kind"] for c in report["contestants"]}
    flops = {case["name"]: case["flops"] for case in report["cases"]}
    for threads in report["threads"]:
        dots = []
        for row in report["entries"]:
            if row["threads"] == threads and row["cache"] == "hot" and row["median_seconds"] is not None:
                tip = f"{row['contestant']} on {row['case']}: {_time(row['median_seconds'])}"
                colour = "ours" if kinds.get(row["contestant"]) == "backend" else "peer"
                dots.append(Dot(flops[row["case"]], row["median_seconds"] * 1e3, colour, tip))
        dots.sort(key=lambda dot: dot.kind == "ours")  # ours above the others
        if dots:
            yield f'<figure id="size-{threads}"><figcaption>{_threads(threads)}</figcaption>'
            yield charts.plane([], dots, _SIZE_AXES, f"time against size, {_threads(threads)}")
            yield "</figure>"
    yield "</div></section>"


def _history(history: Sequence[Track]) -> str:
    if not history:
        return ('<section id="history"><h2>History</h2><p>There are no results of asv here; '
                "<code>asv run main~5..main</code> makes them.</p></section>")  # fmt: skip
    commits = {(point.date, point.commit) for track in history for point in track.points}
    order = [commit for _, commit in sorted(commits)]
    shown = sorted(history, key=lambda track: -len(track.points))[:MOST_TRACKS]
    parts = []
    for track in sorted(shown, key=lambda track: (track.benchmark, track.parameters)):
        at = {point.commit: point.value for point in track.points}
        tips = [f"{commit}: {at[commit]:.4g} {track.unit}" if commit in at else "" for commit in order]
        name = f"{track.benchmark} {track.parameters}"
        curve = charts.spark([at.get(commit) for commit in order], tips, name)
        last = f"{track.points[-1].value:.3g} {escape(track.unit)}"
        parts.append(f"<figure>{curve}<figcaption>{escape(track.benchmark.rpartition('.')[2])} "
                     f"{escape(track.parameters)}: {last}</figcaption></figure>")  # fmt: skip
    rest = f" {len(history) - len(shown)} more are in asv's own pages." * (len(history) > len(shown))
    lead = f"{len(order)} commits, old to new, each curve from zero.{rest}"
    return f'<section id="history"><h2>History</h2><p>{lead}</p><div class="sparks">{"".join(parts)}</div></section>'


def _absent(report: Document) -> str:
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in report["absent"]:
        reasons.setdefault((row["contestant"], row["because"]), []).append(row["case"])
    items = "".join(
        f"<li><b>{escape(name)}</b>: {escape(because)}"
        + (f" ({escape(', '.join(cases))})" if all(cases) else "")
        + "</li>"
        for (name, because), cases in reasons.items()
    )
    return f'<section id="absent"><h2>Not here</h2><ul class="small">{items}</ul></section>' if items else ""
