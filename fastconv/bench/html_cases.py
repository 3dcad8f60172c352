"""The page's tables: one case after the other, every contestant a row, a bar for each number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from fastconv.bench import charts
from fastconv.bench.charts import Bar
from fastconv.bench.report import Document
from fastconv.bench.scale import Scale, digits, quantity, short

OPEN_CASES = 40
"""Up to this many cases the bars of all are unfolded."""

SIGNS = {"ahead": "▲", "undecided": "≈", "behind": "▼"}
"""Verdicts are told apart without colour too."""

_SIDE_BY_SIDE = 2
"""So many numbers of threads stand in one table."""

Row = dict[str, Any]
Key = tuple[str, int, str]


def counted(count: int, what: str) -> str:
    """A number with its word.

    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{count} {what}{'s' * (count != 1)}"


def section(report: Document, entries: dict[Key, list[Row]]) -> Iterator[str]:
    """All cases, folded if they are many."""
    unfolded = " open" * (len(report["cases"]) <= OPEN_CASES)
    kinds = {c["name"]: "ours" if c["kind"] == "backend" else "peer" for c in report["contestants"]}
    absent, first = _reasons(report), leader(report)
    yield '<section id="cases"><h2>Case by case</h2><p>Fastest first; the whisker goes from quartile to quartile. '
    yield "Workspace is what a plan of fastconv says that it needs, memory what the contestant's process grew by: the "
    yield "most of the numbers of threads beside them.</p>"
    if any(row["disturbed"] for row in report["entries"]):
        yield "<p><b>!</b> marks too few quiet rounds: there all of them count.</p>"
    for case in report["cases"]:
        name, layer = escape(case["name"]), escape(case["layer"])
        yield f'<details{unfolded} class="case" id="bars-{name}"><summary><b>{name}</b> <code>{layer}</code> '
        yield f"{_chips(report, case['name'], first)}</summary>"
        kind = "" if case["op"] == "conv" else f"{case['op'].replace('_', ' ')}, "
        yield f'<p class="small">{escape(case["source"])}. {escape(kind)}{escape(case["dtype"])}, '
        yield f"{short(case['flops'])} operations, {short(case['bytes'])} bytes</p>"
        for cache in report["caches"]:
            for start in range(0, len(report["threads"]), _SIDE_BY_SIDE):
                threads = report["threads"][start : start + _SIDE_BY_SIDE]
                columns = {count: entries.get((case["name"], count, cache), []) for count in threads}
                if any(columns.values()):
                    yield _table(case, columns, cache, kinds, report["probes"])
        if because := absent.get(case["name"]):
            yield f'<p class="small">Not here: {escape("; ".join(because))}.</p>'
        yield "</details>"
    yield "</section>"


def _reasons(report: Document) -> dict[str, list[str]]:
    """For each case who is not in it and why, those of one reason together."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for row in report["absent"]:
        found.setdefault(row["case"], {}).setdefault(row["because"], {})[row["contestant"]] = None
    return {
        case: [f"{', '.join(names)} ({because})" for because, names in reasons.items()]
        for case, reasons in found.items()
    }


def leader(report: Document) -> str | None:
    """The contestant of ours that the page is about: the first with a duel, which is ``auto`` where it took part."""
    fought = {duel["contestant"] for duel in report["duels"]}
    return next((str(c["name"]) for c in report["contestants"] if c["name"] in fought), None)


def _chips(report: Document, case: str, first: str | None) -> str:
    """How the leader's duels ended, seen without unfolding."""
    many = len(report["caches"]) > 1
    return " ".join(
        f'<span class="chip {d["verdict"]}" title="{escape(d["contestant"])}, 95 % between {d["low"]:.3g} and '
        f'{d["high"]:.3g}">{SIGNS[d["verdict"]]} {digits(d["ratio"])}× {escape(d["rival"])}, '
        f"{counted(d['threads'], 'thread')}{', ' + d['cache'] if many else ''}</span>"
        for d in report["duels"]
        if (d["case"], d["contestant"]) == (case, first)
    )


def _table(case: Row, columns: dict[int, list[Row]], cache: str, kinds: dict[str, str], probes: Row) -> str:
    """Contestants down, numbers of threads across; sorted by the last of them."""
    unit = "GFLOP/s" if case["op"] == "conv" else "GB/s"
    limits = {count: _limit(case, probes.get(str(count))) for count in columns}
    scales = {count: Scale(0.0, _highest(case, rows, limits[count]), 0, 100, log=False)
              for count, rows in columns.items()}  # fmt: skip
    order: dict[str, float] = {}
    for rows in columns.values():
        order |= {row["contestant"]: row["median_seconds"] or float("inf") for row in rows}
    body = []
    for name in sorted(order, key=lambda name: order[name]):
        mine = {count: next((r for r in rows if r["contestant"] == name), None) for count, rows in columns.items()}
        cells = "".join(_cells(case, row, columns[count], scales[count], limits[count])
                        for count, row in mine.items())  # fmt: skip
        body.append(f'<tr class="{kinds.get(name, "peer")}"><th>{escape(name)}</th>{cells}'
                    f"{_rest([row for row in mine.values() if row])}</tr>")  # fmt: skip
    heads = "".join(
        f'<th colspan="2">{counted(count, "thread")}{_peak(limits[count])}</th><th class="x" colspan="2"></th>'
        for count in columns
    )
    percent = "of peak" if case["op"] == "conv" else "of width"
    names = f'<th></th><th>{unit}</th><th class="x">time</th><th class="x">{percent}</th>' * len(columns)
    return (
        f'<div class="wide"><table class="bars {cache}"><thead><tr><th>{cache} caches</th>{heads}<th colspan="4"></th>'
        f'</tr><tr><th></th>{names}<th>workspace</th><th>memory</th><th>error</th><th class="l">algorithm</th></tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _peak(limit: float | None) -> str:
    return f", peak {limit:.0f}" if limit else ""


def _limit(case: Row, probes: Row | None) -> float | None:
    return probes["fma_gflops"] if probes and case["op"] == "conv" else None


def _rate(case: Row, seconds: float) -> float:
    return float(case["flops"] if case["op"] == "conv" else case["bytes"]) / seconds / 1e9


def _highest(case: Row, rows: Sequence[Row], limit: float | None) -> float:
    fastest = [_rate(case, row["quartile_seconds"][0]) for row in rows if row["quartile_seconds"]]
    return 1.02 * max([*fastest, limit or 1e-9])


def _cells(case: Row, row: Row | None, rivals: Sequence[Row], scale: Scale, limit: float | None) -> str:
    """Bar, speed, time and percent of one contestant at one number of threads."""
    if row is None:
        return f'<td class="chart">{charts.no_bar(scale, limit)}</td><td>–</td><td class="x"></td><td class="x"></td>'
    seconds = row["median_seconds"]
    if seconds is None:
        because = "wrong, not timed" if not row["right"] else "failed while timed"
        return f'<td class="wrong" colspan="2">{because}</td><td class="x" colspan="2"></td>'
    slow, fast = (_rate(case, quartile) for quartile in row["quartile_seconds"][::-1])
    percent = row["percent_of_peak" if case["op"] == "conv" else "percent_of_bandwidth"]
    fastest = min(r["median_seconds"] for r in rivals if r["median_seconds"] is not None)
    best = ' class="best"' if seconds == fastest else ""
    picture = charts.bar(Bar(_rate(case, seconds), slow, fast), scale, limit)
    return (
        f'<td class="chart" title="{escape(_tip(row, slow, fast))}">{picture}</td>'
        f"<td{best}>{digits(_rate(case, seconds))}{'!' * row['disturbed']}</td>"
        f'<td class="x">{quantity(seconds, "seconds")}</td>'
        f'<td class="x">{"" if percent is None else f"{percent:.0f} %"}</td>'
    )


def _tip(row: Row, slow: float, fast: float) -> str:
    return (f"{row['contestant']}: quartiles {digits(slow)} and {digits(fast)}, "
            f"{sum(row['kept'])} of {len(row['kept'])} rounds count")  # fmt: skip


def _rest(rows: Sequence[Row]) -> str:
    """Memory, error and algorithm: what hardly depends on the number of threads."""
    sizes = (max((row[key] for row in rows if row[key] is not None), default=None)
             for key in ("workspace_bytes", "peak_memory_bytes"))  # fmt: skip
    cells = "".join(f"<td>{'' if size is None else quantity(size, 'bytes') if size else '0'}</td>" for size in sizes)
    numbers = [row["error"] for row in rows]
    wrong = next((row for row in rows if not row["right"]), None)
    error = "not a number" if None in numbers else f"{max(numbers):.0e}" if any(numbers) else "0"
    error += f" > {wrong['error_allowed']:.0e}" if wrong and None not in numbers else ""
    algorithms = ", ".join(dict.fromkeys(row["algorithm"] for row in rows if row["algorithm"]))
    return f'{cells}<td class="{"wrong" if wrong else "error"}">{error}</td><td class="l">{escape(algorithms)}</td>'
