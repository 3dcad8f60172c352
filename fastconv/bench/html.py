"""A run as one page: inline SVG and style, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from fastconv.bench import html_cases, html_history, html_summary, planes, style
from fastconv.bench.history import Track
from fastconv.bench.html_cases import Key, Row, counted
from fastconv.bench.planes import Mark, Roof, Series
from fastconv.bench.report import Document, headline
from fastconv.bench.scale import quantity

_ROOF_AXES = "operations per byte", "GFLOP/s"
_SIZE_AXES = "operations of the direct algorithm", "milliseconds"


def page(report: Document, history: Sequence[Track] = ()) -> str:
    """The whole page as text.

    ``history`` comes from `fastconv.bench.history.read`.
    """
    entries: dict[Key, list[Row]] = {}
    for entry in report["entries"]:
        entries.setdefault((entry["case"], entry["threads"], entry["cache"]), []).append(entry)
    parts = [_head(report), *html_summary.section(report), *_rooflines(report, entries), *_sizes(report, entries),
             *html_cases.section(report, entries), *html_history.section(history), _absent(report)]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'<title>fastconv bench, {escape(report["date"][:10])}</title><link rel="icon" href="data:,">'
        f"<style>{style.CSS}</style></head><body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def _head(report: Document) -> str:
    links = (("summary", "Against the best rival"), ("roofline", "Roofline"), ("size", "Time against size"),
             ("cases", "Case by case"), ("history", "History"), ("absent", "Not here"))  # fmt: skip
    places = "".join(f'<a href="#{name}">{title}</a>' for name, title in links if name != "absent" or report["absent"])
    caches = ", ".join(f"{name} {size}" for name, size in report["machine"]["caches"].items())
    return (
        f'<header><h1>How fast is fastconv?</h1><p class="lead">{escape(headline(report))}'
        f"{f'; caches {escape(caches)}' if caches else ''}</p><nav>{places}</nav></header>"
        f'<p class="how">{counted(len(report["cases"]), "case")}, {counted(report["rounds"], "interleaved round")}, '
        f"{' and '.join(map(str, report['threads']))} {'threads' if report['threads'] != [1] else 'thread'}: "
        '<b class="ours">blue and round</b> is fastconv, <b class="peer">grey and square</b> is somebody else, '
        '<b class="behind">orange</b> is a loss. Speed counts the operations of the direct algorithm, so one that '
        "needs fewer may pass the dashed line, the machine's measured peak; point at anything for its numbers.</p>"
        f"{_probes(report)}{_rivals(report)}"
    )


def _probes(report: Document) -> str:
    """What the machine was measured to do."""
    found = {threads: probes for threads, probes in report["probes"].items() if probes["fma_gflops"] is not None}
    names = list(dict.fromkeys(name for probes in found.values() for name in probes["bandwidth"]))
    if not found:
        return ""
    rows = []
    for threads, probes in found.items():
        levels = [probes["bandwidth"].get(name) for name in names]
        cells = "".join(f"<td>{level['gbs']:.0f} GB/s</td>" if level else "<td></td>" for level in levels)
        rows.append(f"<tr><th>{counted(int(threads), 'thread')}</th><td>{probes['fma_gflops']:.0f} GFLOP/s</td>"
                    f"{cells}</tr>")  # fmt: skip
    heads = "".join(f"<th>{escape(name)}</th>" for name in ("measured", "multiply-adds", *names))
    return f'<div class="wide"><table class="probes"><thead><tr>{heads}</tr></thead>{"".join(rows)}</table></div>'


def _rivals(report: Document) -> str:
    """Everybody who took part, with version and setting."""
    who = "".join(
        f'<li><b class="{_kind(c["kind"])}">{escape(c["name"])}</b> {escape(c["title"])} {escape(c["version"])}'
        f' <span class="small">{escape(c["setting"])}</span></li>'
        for c in report["contestants"]
    )
    count = counted(len(report["contestants"]), "contestant")
    return f'<details class="who"><summary>{count} and how they are set</summary><ul>{who}</ul></details>'


def _kind(kind: str) -> str:
    return "ours" if kind == "backend" else "peer"


def _fastest(report: Document, entries: dict[Key, list[Row]], threads: int, kind: str) -> Iterator[tuple[Row, Row]]:
    """Each case with the fastest entry of one kind; from hot caches, or cold ones if the run has no others."""
    kinds = {c["name"]: c["kind"] for c in report["contestants"]}
    for case in report["cases"]:
        rows = [
            row
            for row in entries.get((case["name"], threads, report["caches"][0]), [])
            if kinds[row["contestant"]] == kind and row["median_seconds"] is not None
        ]
        if rows:
            yield case, min(rows, key=lambda row: float(row["median_seconds"]))


def _rooflines(report: Document, entries: dict[Key, list[Row]]) -> Iterator[str]:
    yield '<section id="roofline"><h2>Roofline</h2><p>Each case twice: the fastest of fastconv and the fastest rival. '
    yield "To the right a case computes more for each byte of x, w and result. The lines are what the machine was "
    yield f'measured to do, {report["caches"][0]} caches.</p><div class="pair">'
    for threads in report["threads"]:
        marks = []
        for kind in ("peer", "backend"):
            for case, row in _fastest(report, entries, threads, kind):
                speed = case["flops"] / row["median_seconds"] / 1e9
                tip = f"{case['name']}: {row['contestant']}, {quantity(speed, 'GFLOP/s')}"
                marks.append(Mark(case["flops"] / case["bytes"], speed, _kind(kind), tip, case["name"]))
        name = counted(threads, "thread")
        yield f'<figure id="roofline-{threads}"><figcaption>{name}</figcaption>'
        if marks:
            yield planes.roofline(marks, _roofs(report["probes"].get(str(threads))), _ROOF_AXES, f"roofline, {name}")
        else:
            yield "<p>No result was right.</p>"
        yield "</figure>"
    yield "</div></section>"


def _roofs(probes: Row | None) -> list[Roof]:
    if probes is None or probes["fma_gflops"] is None:
        return []
    peak = probes["fma_gflops"]
    levels = sorted(probes["bandwidth"].items(), key=lambda item: float(item[1]["gbs"]))
    named = [Roof(f"{name} {level['gbs']:.0f} GB/s", peak, level["gbs"]) for name, level in levels]
    return [Roof(f"multiply-adds {peak:.0f} GFLOP/s", peak), *named]


def _sizes(report: Document, entries: dict[Key, list[Row]]) -> Iterator[str]:
    yield '<section id="size"><h2>Time against size</h2><p>Every contestant on every case. Left of all stand the '
    yield "times of each one's smallest case, where a call costs more than its sums. Point at a name to see its "
    yield 'points; large ones are the fastest of their kind.</p><div class="pair">'
    for threads in report["threads"]:
        best = {
            (case["name"], row["contestant"])
            for kind in ("peer", "backend")
            for case, row in _fastest(report, entries, threads, kind)
        }
        name = counted(threads, "thread")
        yield f'<figure id="size-{threads}"><figcaption>{name}</figcaption>'
        found = list(_series(report, entries, threads, best))
        probes = report["probes"].get(str(threads))
        peak = probes and probes["fma_gflops"]
        roof = Roof("all of it at the peak", peak, 1e-6 / peak) if peak else None
        yield planes.sizes(found, roof, _SIZE_AXES, f"time against size, {name}") if found else "<p>Nothing timed.</p>"
        yield "</figure>"
    yield "</div></section>"


def _series(
    report: Document, entries: dict[Key, list[Row]], threads: int, best: set[tuple[str, str]]
) -> Iterator[Series]:
    """The points of each contestant by size, ours last so that they lie on top."""
    flops = {case["name"]: case["flops"] for case in report["cases"]}
    by_name: dict[str, list[Row]] = {}
    for case in flops:
        for row in entries.get((case, threads, report["caches"][0]), []):
            if row["median_seconds"] is not None:
                by_name.setdefault(row["contestant"], []).append(row)
    for c in sorted(report["contestants"], key=lambda c: str(c["kind"]), reverse=True):
        rows = sorted(by_name.get(c["name"], []), key=lambda row: (flops[row["case"]], row["median_seconds"]))
        marks = tuple(
            Mark(flops[row["case"]], row["median_seconds"] * 1e3,
                 _kind(c["kind"]) + " faint" * ((row["case"], c["name"]) not in best),
                 f"{c['name']} on {row['case']}: {quantity(row['median_seconds'], 'seconds')}")
            for row in rows
        )  # fmt: skip
        if marks:
            yield Series(c["name"], _kind(c["kind"]), marks)


def _absent(report: Document) -> str:
    """Who took part in nothing, and who left out which cases."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for row in report["absent"]:
        reasons.setdefault((row["contestant"], row["because"]), {})[row["case"]] = None
    items = "".join(
        f"<li><b>{escape(name)}</b>: {escape(because)}"
        + (f' <span class="small">({escape(", ".join(cases))})</span>' if all(cases) else "")
        + "</li>"
        for (name, because), cases in reasons.items()
    )
    return f'<section id="absent"><h2>Not here</h2><ul>{items}</ul></section>' if items else ""
