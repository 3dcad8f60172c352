"""What a run of the benchmark leaves behind: a JSON document, a table to look at, the README's table.

The document is the source of the other two, so a table can always be made again from a file.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastconv.bench.contest import Absence, Entry
from fastconv.bench.machine import machine, versions

if TYPE_CHECKING:
    from rich.table import Table

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
SCHEMA = 1
_NEEDED = {"case", "layer", "threads", "backend", "gflops", "percent_of_peak", "median_seconds", "rounds"}

Document = dict[str, Any]


def stamp() -> Document:
    """Date, machine and versions: what a number is worth nothing without."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"date": date, "machine": machine(), "versions": versions()}


def document(entries: Sequence[Entry], absences: Sequence[Absence], threads: Sequence[int]) -> Document:
    """The whole run as plain data."""
    return stamp() | {
        "schema": SCHEMA,
        "threads": list(threads),
        "entries": [_plain(entry) for entry in entries],
        "absent": [{"case": a.case, "backend": a.backend, "because": a.because} for a in absences],
    }


def _plain(entry: Entry) -> dict[str, Any]:
    # JSON has no NaN, which is the error of a result that has one.
    error = entry.error if math.isfinite(entry.error) else None
    return asdict(entry) | {"right": entry.right, "error": error}


def check(value: Any, source: str) -> Document:
    """``value`` if it is a document that this version writes.

    Raises
    ------
    ValueError
        If it is not; the message names ``source``.
    """
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ValueError(f"{source} is not a report of 'fastconv bench --json' (schema {SCHEMA})")
    missing = [key for key in ("date", "machine", "versions", "threads", "entries", "absent") if key not in value]
    for entry in value.get("entries", []):
        missing += sorted(_NEEDED - entry.keys())
    if missing:
        raise ValueError(f"{source} lacks {missing[0]!r}; run 'fastconv bench --json {source}' again")
    return value


def table(report: Document) -> Table:
    """The run as a rich table, one row for each case, number of threads and backend."""
    from rich.table import Table
    from rich.text import Text

    # Text, not str: rich would take "[demo]" in a remedy for a colour.
    result = Table(title=Text(headline(report)), title_justify="left", caption_justify="left")
    result.caption = Text(_absent(report))
    for name in ("case", "threads", "backend", "algorithm"):
        result.add_column(name, justify="right" if name == "threads" else "left", no_wrap=name in ("case", "backend"))
    for name in ("median", "spread", "GFLOP/s", "% of peak", "workspace", "error"):
        result.add_column(name, justify="right", no_wrap=True)
    previous = ("", 0)
    for row in report["entries"]:
        here = (row["case"], row["threads"])
        if previous[0] and here != previous:
            result.add_section()
        shown = (row["case"], str(row["threads"])) if here != previous else ("", "")
        best = row["gflops"] is not None and row["gflops"] == max(_rates(report, *here).values())
        result.add_row(*shown, row["backend"], row["algorithm"], *_numbers(row), style="bold" if best else "")
        previous = here
    return result


def _numbers(row: dict[str, Any]) -> tuple[str, ...]:
    error = "not a number" if row["error"] is None else f"{row['error']:.1e}"
    error = error if row["right"] else f"[red]{error} > {row['error_allowed']:.1e}[/]"
    size = f"{row['workspace_bytes'] / 2**20:.1f} MiB"
    if row["median_seconds"] is None:
        return "wrong", "", "", "", size, error
    low, high = row["quartile_seconds"]
    spread = f"{100 * (high - low) / row['median_seconds']:.0f} %"
    return _time(row["median_seconds"]), spread, f"{row['gflops']:.3g}", _percent(row), size, error


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def _percent(row: dict[str, Any]) -> str:
    return "" if row["percent_of_peak"] is None else f"{row['percent_of_peak']:.0f} %"


def _absent(report: Document) -> str:
    """Why somebody is missing; a backend that refuses several cases for several reasons gets a line for each."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in report["absent"]:
        reasons.setdefault((row["backend"], row["because"]), []).append(row["case"])
    lines = [
        f"{backend}: {because}" + (f" ({', '.join(cases)})" if all(cases) else "")
        for (backend, because), cases in reasons.items()
    ]
    return "\n".join(lines)


def _rates(report: Document, case: str, threads: int) -> dict[str, float]:
    return {
        row["backend"]: row["gflops"]
        for row in report["entries"]
        if row["case"] == case and row["threads"] == threads and row["gflops"] is not None
    }


def headline(report: Document) -> str:
    """One sentence of a stamped report: machine, instruction set, versions, date."""
    facts, found = report["machine"], report["versions"]
    isa = facts["instruction_sets"]["in_use"] or "no compiled extension"
    programs = ", ".join(f"{name} {version}" for name, version in found.items() if version and name != "llvmlite")
    return f"{facts['processor']}, {facts['cores']} cores, {isa}; {programs}; {report['date'][:10]}"


def markdown(report: Document) -> str:
    """The README's tables, one for each number of threads; the fastest of a row is bold."""
    parts = [f"GFLOP/s of the direct operation count, median of interleaved rounds. {headline(report)}.", ""]
    for threads in report["threads"]:
        rows = [row for row in report["entries"] if row["threads"] == threads]
        names = list(dict.fromkeys(row["backend"] for row in rows))
        label = f"{threads} thread{'s' * (threads != 1)}"
        parts += ["| ".join([f"| {label} ", *(f"{name} " for name in names)]) + "|", "|---|" + "---:|" * len(names)]
        for case, layer in dict.fromkeys((row["case"], row["layer"]) for row in rows):
            cells = {row["backend"]: row for row in rows if row["case"] == case}
            best = max(_rates(report, case, threads).values(), default=None)
            parts.append(f"| {case} `{layer}` | " + " | ".join(_cell(cells.get(n), best) for n in names) + " |")
        parts.append("")
    parts.append(
        "im2col uses as many threads as its BLAS (OPENBLAS_NUM_THREADS sets it). Made by `fastconv bench --json FILE`, "
        "then `fastconv bench --readme README.md --from FILE`. In brackets: "
        f"percent of the machine's FMA peak, probed in the same round (over 100 where an algorithm "
        f"needs fewer operations than the direct one). {_REFUSED_MARK}: does not take this layer."
    )
    parts += [f"Not here: {row['backend']} ({row['because']})." for row in report["absent"] if not row["case"]]
    return "\n".join(parts)


_REFUSED_MARK = "–"


def _cell(row: dict[str, Any] | None, best: float | None) -> str:
    if row is None:
        return _REFUSED_MARK
    if row["gflops"] is None:
        return "wrong"
    rate = f"{row['gflops']:.0f}" if row["gflops"] >= 10 else f"{row['gflops']:.2g}"
    rate = f"**{rate}**" if row["gflops"] == best else rate
    return rate if row["percent_of_peak"] is None else f"{rate} ({_percent(row)})"


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
