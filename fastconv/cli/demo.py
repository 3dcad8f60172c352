"""``fastconv demo``: a photograph through every backend, a table of what it took, and a picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastconv import registry
from fastconv.bench import contest, report
from fastconv.cli.demo_field import Seen, look
from fastconv.cli.demo_steps import Run, Step, load, prepare, run_step
from fastconv.cli.failure import USAGE, WRONG, Failure, backend_names, require, thread_count
from fastconv.errors import UnsupportedConv

Runs = dict[str, list[Run]]


def run(args: argparse.Namespace) -> int:
    require("demo", "matplotlib", "PIL", "rich")
    out = Path(args.out)
    if not out.resolve().parent.is_dir():
        raise Failure(f"--out={args.out!r}: there is no folder {out.resolve().parent}", USAGE)
    threads = thread_count(args.threads)
    every = [b.name for b in registry.BACKENDS]
    wanted = {*backend_names(args.backends, every), "naive"}
    names, absences = contest.present([name for name in every if name in wanted])
    photo = load(args.image)
    runs, steps, pooled = _compute(photo, names, absences, threads)
    result = summary(runs, absences, threads)
    painter = _painter(result)
    maps = {r.step: r.result for r in runs[painter["backend"]]} | {"pool": pooled}
    seen = look(steps[-1].expected[0], photo.shape[:2])
    _draw(out, photo, maps, seen, painter, result)
    if args.json:
        fields = [one.to_dict() for one in seen]
        print(json.dumps(result | {"receptive_field": fields, "picture": str(out)}, indent=2))
    else:
        _print(result, steps, seen, out)
    wrong = [f"{name} on {r.step}" for name, rows in runs.items() for r in rows if not r.right]
    if wrong:
        raise Failure(f"beyond the bound that the plan reports: {', '.join(wrong)}", WRONG)
    return 0


def _compute(
    photo: np.ndarray, names: list[str], absences: list[contest.Absence], threads: int
) -> tuple[Runs, list[Step], np.ndarray]:
    """Every step on every backend; refusals are added to ``absences``."""
    from rich.console import Console
    from rich.progress import Progress

    runs: Runs = {name: [] for name in names}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("float64 reference", total=None)
        steps, pooled = prepare(photo)
        progress.update(task, total=len(names) * len(steps))
        for name in names:
            for step in steps:
                progress.update(task, description=f"{name}: {step.title}")
                try:
                    runs[name].append(run_step(step, name, threads))
                except UnsupportedConv as error:
                    absences.append(contest.Absence(step.title, name, error.reason))
                progress.advance(task)
    return runs, steps, pooled


def summary(runs: Runs, absences: list[contest.Absence], threads: int) -> dict[str, Any]:
    """The table as plain data. Speed-up: naive's time for the same operations over the backend's."""
    naive = {r.step: r.seconds / r.flops for r in runs["naive"]}
    rows = []
    for name, done in runs.items():
        seconds, flops = sum(r.seconds for r in done), sum(r.flops for r in done)
        rows.append({
            "backend": name,
            "steps": {r.step: r.seconds for r in done},
            "complete": len(done) == len(naive),
            "crop": any(r.crop for r in done),
            "seconds": seconds,
            "gflops": flops / seconds / 1e9 if done else None,
            "speed_up": sum(r.flops * naive[r.step] for r in done) / seconds if done else None,
            "error": max((r.error for r in done), default=None),
        })  # fmt: skip
    absent = [{"step": a.case or None, "backend": a.contestant, "because": a.because} for a in absences]
    return report.stamp() | {"threads": threads, "backends": rows, "absent": absent}


def _painter(result: dict[str, Any]) -> dict[str, Any]:
    """The fastest backend that took every step of the whole picture, else naive: its maps are drawn."""
    whole = [row for row in result["backends"] if row["complete"] and not row["crop"]]
    return min(whole or result["backends"][-1:], key=lambda row: float(row["seconds"]))


def _draw(
    out: Path, photo: np.ndarray, maps: dict[str, np.ndarray], seen: list[Seen], painter: dict[str, Any],
    result: dict[str, Any],
) -> None:  # fmt: skip
    from fastconv.cli.demo_picture import draw

    rates = {row["backend"]: row["gflops"] for row in result["backends"] if row["gflops"]}
    plural = "s" * (result["threads"] != 1)
    title = (f"All four convolutions in {painter['seconds'] * 1e3:.3g} ms: backend {painter['backend']}, "
             f"{result['threads']} thread{plural}, {painter['speed_up']:.3g} x naive")  # fmt: skip
    try:
        draw(out, photo, maps, seen, rates, title)
    except OSError as error:
        raise Failure(f"--out={str(out)!r}: {error}", USAGE) from None


def _print(result: dict[str, Any], steps: list[Step], seen: list[Seen], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = f"{report.headline(result)}; {result['threads']} thread{'s' * (result['threads'] != 1)}"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("backend")
    for name in (*(step.title for step in steps), "time", "GFLOP/s", "x naive", "largest difference"):
        table.add_column(name, justify="right")
    for row in result["backends"]:
        table.add_row(*_cells(row, steps))
    for absent in result["absent"]:
        if absent["step"] is None:
            table.add_row(absent["backend"], *["missing"] * len(steps), style="dim")
    # Not on a terminal, rich would fold the table to 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for line in _notes(result):
        console.print(line, markup=False, highlight=False)
    sizes = ", ".join(f"{one.size[0]}x{one.size[1]} after {one.layer}" for one in seen)
    console.print(f"what one element sees of the photograph: {sizes}", markup=False, highlight=False)
    console.print(f"picture: {out}", markup=False, highlight=False)


def _cells(row: dict[str, Any], steps: list[Step]) -> list[str]:
    name = row["backend"] + " (crop)" * row["crop"]
    if row["gflops"] is None:
        return [name, *["refused"] * len(steps)]
    times = [_time(row["steps"][step.name]) if step.name in row["steps"] else "refused" for step in steps]
    of = "" if row["complete"] else f" ({len(row['steps'])} of {len(steps)})"
    rate = f"{row['gflops']:.3g}" if row["gflops"] < 100 else f"{row['gflops']:.0f}"
    return [name, *times, _time(row["seconds"]) + of, rate, f"{row['speed_up']:.3g}", f"{row['error']:.1e}"]


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.{3 if seconds < 1e-3 else 2 if seconds < 0.1 else 0}f} ms"


def _notes(result: dict[str, Any]) -> list[str]:
    lines = ["Differences are from the float64 reference, over its largest value. Speed-ups count the same steps."]
    for row in result["absent"]:
        lines.append(f"{row['backend']}: {row['step'] + ' ' if row['step'] else ''}{row['because']}")
    if any(row["crop"] for row in result["backends"]):
        lines.append("naive ran as plain Python on a crop, its times are for that; run 'pip install numba' for more.")
    return lines
