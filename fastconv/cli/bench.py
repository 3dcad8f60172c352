"""``fastconv bench``: check every backend on named layers, then time what is right."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from pathlib import Path
from typing import Any

from fastconv import registry
from fastconv.bench import contest, report
from fastconv.bench.cases import CASES, PROBLEMS, Case
from fastconv.cli.failure import USAGE, WRONG, Failure, backend_names, listed, require, thread_count

ROUNDS, QUICK_ROUNDS = 15, 3
QUICK_FLOPS = 100_000_000
"""Layers up to this size are quick: the slowest backend, naive, takes 0.1 s for one."""


def run(args: argparse.Namespace) -> int:
    if args.cases == "list":
        print("\n".join(f"{c.name:<24}{c.group:<11}{c.spec.text:<36}{c.source}" for c in CASES))
        return 0
    require("bench", "rich")
    for name in ("json", "readme"):  # before minutes of measuring
        path = getattr(args, name)
        if path not in (None, "-") and not (Path(path) if name == "readme" else Path(path).resolve().parent).exists():
            raise Failure(f"--{name}={path!r}: there is no such {'file' if name == 'readme' else 'folder'}", USAGE)
    result = _read(args.source) if args.source else _measure(args)
    if args.json == "-":
        print(json.dumps(result, indent=2))
    else:
        _print_table(result)
    try:
        if args.json not in (None, "-"):
            Path(args.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if args.readme:
            report.rewrite(Path(args.readme), result)
    except (OSError, ValueError) as error:
        raise Failure(str(error), USAGE) from None
    wrong = [f"{e['backend']} on {e['case']}" for e in result["entries"] if not e["right"]]
    if wrong:
        raise Failure(f"beyond the bound that the plan reports: {', '.join(wrong)}", WRONG)
    return 0


def _read(source: str) -> report.Document:
    try:
        return report.check(json.loads(Path(source).read_text(encoding="utf-8")), source)
    except (OSError, ValueError) as error:
        raise Failure(f"--from: {error}", USAGE) from None


def select(text: str | None, quick: bool) -> list[Case]:
    """The cases that ``--cases`` names: names, groups or patterns, in the order of the table."""
    if text is None:
        return [case for case in CASES if not quick or case.spec.flops <= QUICK_FLOPS]
    chosen: list[Case] = []
    for wanted in listed(text):
        found = [c for c in CASES if wanted == c.group or fnmatch.fnmatchcase(c.name, wanted)]
        found = found or [c for c in PROBLEMS if c.name == wanted]
        if not found:
            names = ", ".join(case.name for case in CASES)
            raise Failure(f"--cases: {wanted!r} is no case and no group; choose from: {names}", USAGE)
        chosen += [case for case in found if case not in chosen]
    if not chosen:
        raise Failure("--cases is empty; 'fastconv bench --cases list' lists them", USAGE)
    return chosen


def _contestants(args: argparse.Namespace) -> tuple[list[str], list[contest.Absence]]:
    """The backends to run, and those left out; a backend that was named must be there."""
    default = [b.name for b in registry.BACKENDS if b.name != "naive" or (args.quick and registry.installed("numba"))]
    names, absences = contest.present(backend_names(args.backends, default))
    if args.backends is not None and absences:
        raise Failure(f"backend {absences[0].backend!r} is not available: {absences[0].because}")
    if "naive" not in default and args.backends is None:
        absences.append(contest.Absence("", "naive", "left out, it takes seconds a call; name it in --backends"))
    return names, absences


def _threads(text: str | None) -> list[int]:
    if text is None:
        return [thread_count(None)]
    if not all(part.isdecimal() for part in listed(text)) or not listed(text):
        raise Failure(f"--threads={text!r} must be numbers such as 1,2", USAGE)
    return [thread_count(int(part)) for part in listed(text)]


def _measure(args: argparse.Namespace) -> report.Document:
    cases, threads = select(args.cases, args.quick), _threads(args.threads)
    rounds = (QUICK_ROUNDS if args.quick else ROUNDS) if args.rounds is None else args.rounds
    if rounds < 1:
        raise Failure(f"--rounds={rounds} must be at least 1", USAGE)
    names, absences = _contestants(args)
    entries: list[contest.Entry] = []
    with _progress() as progress:
        task = progress.add_task("", total=len(cases) * len(threads) * rounds)
        for number, case in enumerate(cases):
            progress.update(task, description=case.name, completed=number * len(threads) * rounds)
            done, refused = contest.run_case(case, names, threads, rounds, lambda: progress.advance(task))
            entries += done
            absences += refused
    return report.document(entries, absences, threads)


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _print_table(result: report.Document) -> None:
    from rich.console import Console

    # Not on a terminal, rich would fold the table to 80 columns.
    Console(width=None if sys.stdout.isatty() else 160).print(report.table(result))
