"""A run as tables: on the terminal, and in the README between its markers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastconv.bench.report import ALL, Document, headline

if TYPE_CHECKING:
    from rich.table import Table

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_REFUSED_MARK = "–"

Row = dict[str, Any]


def results(report: Document) -> Table:
    """One row for each case, number of threads, cache and contestant."""
    from rich.table import Table
    from rich.text import Text

    # Text, not str: rich would take "[demo]" in a remedy for a colour.
    table = Table(title=Text(_title(report)), title_justify="left", caption_justify="left")
    table.caption = Text(_absent(report))
    table.add_column("case", no_wrap=True)
    table.add_column("threads", justify="right")
    table.add_column("contestant", no_wrap=True)
    table.add_column("algorithm", no_wrap=True)
    for name in ("median", "spread", "GFLOP/s", "% peak", "% bandwidth", "workspace", "memory", "error",
                 "best rival's time"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    fastest = _fastest(report)
    duels = {(d["case"], d["threads"], d["cache"], d["contestant"]): d for d in report["duels"]}
    previous: tuple[Any, ...] = ()
    for row in sorted(report["entries"], key=_place(report)):
        here = (row["case"], row["threads"], row["cache"])
        if previous and here != previous:
            table.add_section()
        shown = (
            (row["case"] + " (cold)" * (row["cache"] == "cold"), str(row["threads"])) if here != previous else ("", "")
        )
        duel = duels.get((*here, row["contestant"]))
        best = row["median_seconds"] is not None and row["median_seconds"] == fastest[here]
        table.add_row(*shown, row["contestant"], row["algorithm"] or "", *_numbers(row), _duel(duel),
                      style="bold" if best else "")  # fmt: skip
        previous = here
    return table


def _place(report: Document) -> Any:
    cases = [case["name"] for case in report["cases"]]
    names = [c["name"] for c in report["contestants"]]
    return lambda r: (cases.index(r["case"]), r["threads"], r["cache"] == "cold", names.index(r["contestant"]))


def _fastest(report: Document) -> dict[tuple[Any, ...], float]:
    result: dict[tuple[Any, ...], float] = {}
    for row in report["entries"]:
        if row["median_seconds"] is not None:
            here = (row["case"], row["threads"], row["cache"])
            result[here] = min(result.get(here, row["median_seconds"]), row["median_seconds"])
    return result


def _numbers(row: Row) -> tuple[str, ...]:
    error = "not a number" if row["error"] is None else f"{row['error']:.1e}"
    error = error if row["right"] else f"[red]{error} > {row['error_allowed']:.1e}[/]"
    sizes = _size(row["workspace_bytes"]), _size(row["peak_memory_bytes"])
    if row["median_seconds"] is None:
        return "wrong", "", "", "", "", *sizes, error
    low, high = row["quartile_seconds"]
    spread = f"{100 * (high - low) / row['median_seconds']:.0f} %" + "!" * row["disturbed"]
    return (_time(row["median_seconds"]), spread, f"{row['gflops']:.3g}", _percent(row["percent_of_peak"]),
            _percent(row["percent_of_bandwidth"]), *sizes, error)  # fmt: skip


def _size(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.1f} MiB"


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"


def _duel(duel: Row | None) -> str:
    if duel is None:
        return ""
    colour = {"ahead": "green", "behind": "red", "undecided": "yellow"}[duel["verdict"]]
    return f"[{colour}]{duel['ratio']:.2f} {duel['rival']}[/]"


def _title(report: Document) -> str:
    probes = [
        f"{threads} thread{'s' * (threads != '1')}: {found['fma_gflops']:.0f} GFLOP/s, "
        + ", ".join(f"{name} {level['gbs']:.0f} GB/s" for name, level in found["bandwidth"].items())
        for threads, found in report["probes"].items()
        if found["fma_gflops"] is not None
    ]
    return "\n".join((headline(report), *probes))


def _absent(report: Document) -> str:
    """Why somebody is missing; a contestant that refuses several cases for several reasons gets a line for each."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in report["absent"]:
        cases = reasons.setdefault((row["contestant"], row["because"]), [])
        if row["case"] not in cases:
            cases.append(row["case"])
    disturbed = ["!: too few quiet rounds, so all count"] * any(row["disturbed"] for row in report["entries"])
    return "\n".join([
        *disturbed,
        *(f"{name}: {because}" + (f" ({', '.join(cases)})" if all(cases) else "")
          for (name, because), cases in reasons.items()),
    ])  # fmt: skip


def summary(report: Document) -> Table | None:
    """Each contestant of ours against the best rival, by group; None without rivals."""
    if not report["groups"]:
        return None
    from rich.table import Table

    table = Table(title="time of the best rival / ours, by group: above 1 is faster", title_justify="left")
    for name in ("group", "threads", "cache", "contestant"):
        table.add_column(name)
    for name in ("cases", "geometric mean", "worst", "ahead", "behind", "undecided"):
        table.add_column(name, justify="right")
    # Every group of the first contestant, which is auto where it took part; of the others what they come to in all.
    first = report["groups"][0]["contestant"]
    shown = [g for g in report["groups"] if g["contestant"] == first or g["group"] == ALL]
    for g in sorted(shown, key=lambda g: (g["threads"], g["cache"], g["group"] == ALL)):
        table.add_row(g["group"], str(g["threads"]), g["cache"], g["contestant"], str(g["cases"]),
                      f"{g['geometric_mean']:.2f}", f"{g['worst']:.2f} {g['worst_case']}",
                      *(str(g[verdict]) for verdict in ("ahead", "behind", "undecided")))  # fmt: skip
    return table


def agreement_lines(found: Document) -> list[str]:
    """What `report.agreement` found, as text."""
    lines = []
    for kind, where in (("", ""), ("steady_", "where both runs' probes do, ")):
        agree, pairs = found[f"{kind}agree"], found[f"{kind}pairs"]
        share = 100 * agree / pairs if pairs else 100.0
        lines.append(f"{where}{agree} of {pairs} ratios agree within 10 % ({share:.1f} %)")
    lines += [
        f"  {o['case']}, {o['threads']} thread{'s' * (o['threads'] != 1)}, {o['cache']}: "
        f"{o['rival']} / {o['contestant']} {o['first']:.3f} then {o['second']:.3f}"
        for o in found["outliers"]
    ]
    return lines


def markdown(report: Document) -> str:
    """The README's tables, one for each number of threads; the fastest of a row is bold."""
    kinds = {c["name"]: c["kind"] for c in report["contestants"]}
    ours = [name for name, kind in kinds.items() if kind == "backend"]
    duels = {(d["case"], d["threads"], d["cache"], d["contestant"]): d for d in report["duels"]}
    parts = [
        f"GFLOP/s of the direct operation count, median of {report['rounds']} interleaved rounds. {headline(report)}.",
        "",
    ]
    for threads in report["threads"]:
        heads = [f"{threads} thread{'s' * (threads != 1)}", *ours, *["best rival", "its time / auto's"] * bool(duels)]
        parts += ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
        for case in report["cases"]:
            rows = {
                row["contestant"]: row
                for row in report["entries"]
                if (row["case"], row["threads"], row["cache"]) == (case["name"], threads, "hot")
            }
            best = min((r["median_seconds"] for r in rows.values() if r["median_seconds"] is not None), default=None)
            cells = [_cell(rows.get(name), best) for name in ours]
            if duels:
                duel = duels.get((case["name"], threads, "hot", "auto"))
                cells += [_rival(duel, rows, best), _score(duel)]
            parts.append(f"| {case['name']} `{case['layer']}` | " + " | ".join(cells) + " |")
        parts.append("")
        parts += [_all(group) for group in report["groups"] if _first(group, report, threads)]
    rivals = [f"{c['title']} {c['version']}" for c in report["contestants"] if c["kind"] == "peer"]
    if rivals:
        parts.append(
            f"Rivals, set as bench/README.md says: {', '.join(rivals)}. The last column is above 1 where fastconv is "
            "faster; its 95 % interval in brackets."
        )
    parts.append(
        "Made by `fastconv bench --json FILE`, then `fastconv bench --readme README.md --from FILE`. In brackets: "
        "percent of the machine's FMA peak, probed in the same round (over 100 where an algorithm "
        f"needs fewer operations than the direct one). {_REFUSED_MARK}: does not take this layer."
    )
    parts += [f"Not here: {row['contestant']} ({row['because']})." for row in report["absent"] if not row["case"]]
    return "\n".join(parts)


def _first(group: Row, report: Document, threads: int) -> bool:
    """Whether the group is that of all cases, of the first contestant."""
    here = (group["group"], group["contestant"], group["threads"], group["cache"])
    return here == (ALL, report["groups"][0]["contestant"], threads, "hot")


def _all(group: Row) -> str:
    mean, worst, case = f"{group['geometric_mean']:.2f}", f"{group['worst']:.2f}", group["worst_case"]
    counts = ", ".join(f"{group[verdict]} {verdict}" for verdict in ("ahead", "behind", "undecided"))
    return f"In all {group['cases']} cases of the run: geometric mean {mean}, worst {worst} ({case}); {counts}.\n"


def _cell(row: Row | None, best: float | None) -> str:
    if row is None:
        return _REFUSED_MARK
    if row["gflops"] is None:
        return "wrong"
    rate = f"{row['gflops']:.0f}" if row["gflops"] >= 10 else f"{row['gflops']:.2g}"
    rate = f"**{rate}**" if row["median_seconds"] == best else rate
    return rate if row["percent_of_peak"] is None else f"{rate} ({_percent(row['percent_of_peak'])})"


def _rival(duel: Row | None, rows: dict[str, Row], best: float | None) -> str:
    return _REFUSED_MARK if duel is None else f"{duel['rival']} {_cell(rows[duel['rival']], best)}"


def _score(duel: Row | None) -> str:
    return _REFUSED_MARK if duel is None else f"{duel['ratio']:.2f} [{duel['low']:.2f}, {duel['high']:.2f}]"


def rewrite(path: Path, report: Document) -> bool:
    """Put the tables between the markers of a Markdown file; True if that changed it.

    Raises
    ------
    ValueError
        If the file does not hold the two markers, once each and in order.
    """
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path} must hold the lines '{BEGIN}' and '{END}' once each, in this order")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    new = f"{head}{BEGIN}\n{markdown(report)}\n{END}{tail}"
    if new == text:
        return False
    path.write_text(new, encoding="utf-8")
    return True
