"""``fastconv bench``: check backends and rivals on named layers, then time what is right."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastconv import registry
from fastconv.bench import contest, contestants, history, html, peers, report, tables
from fastconv.bench.cases import CASES, STANDARD, AnyCase
from fastconv.bench.cases import find as find_case
from fastconv.cli.failure import STOPPED, USAGE, WRONG, Failure, listed, require, thread_count

ROUNDS, QUICK_ROUNDS = 60, 3
QUICK_FLOPS = 100_000_000
"""Layers up to this size are quick: the slowest backend, naive, takes 0.1 s for one."""

HISTORY = ".asv/results"
CACHES = ("hot", "cold")

Chosen = list[AnyCase]


def run(args: argparse.Namespace) -> int:
    if args.cases == "list":
        print("\n".join(f"{c.name:<32}{c.group:<18}{c.layer:<36}{c.source}" for c in CASES))
        return 0
    require("bench", "rich")
    _check_files(args)
    result, stopped = (_read("--from", args.source), False) if args.source else _measure(args)
    if args.source and args.cases:
        result = report.restrict(result, [case.name for case in select(args.cases, quick=False)])
    if args.source and args.threads:
        result |= {"threads": [count for count in result["threads"] if count in _listed_numbers(args.threads)]}
    if args.json == "-":
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    try:
        if args.json not in (None, "-"):
            Path(args.json).write_text(json.dumps(result) + "\n", encoding="utf-8")
        if args.readme:
            tables.rewrite(Path(args.readme), result)
        if args.report:
            Path(args.report).write_text(html.page(result, history.read(Path(args.history))), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Failure(str(error), USAGE) from None
    if args.against:
        print("\n".join(tables.agreement_lines(report.agreement(_read("--against", args.against), result))))
    wrong = [f"{e['contestant']} on {e['case']}" for e in result["entries"] if not e["right"]]
    kinds = {c["name"]: c["kind"] for c in result["contestants"]}
    if any(kinds[name.split(" ", 1)[0]] == "backend" for name in wrong):
        raise Failure(f"beyond the bound that the plan reports: {', '.join(dict.fromkeys(wrong))}", WRONG)
    if stopped:
        raise Failure("interrupted: only the cases that were finished are there", STOPPED)
    return 0


def _check_files(args: argparse.Namespace) -> None:
    """Files that cannot be written or read are named before minutes of measuring."""
    for name in ("json", "readme", "report"):
        path = getattr(args, name)
        if path not in (None, "-") and not (Path(path) if name == "readme" else Path(path).resolve().parent).exists():
            raise Failure(f"--{name}={path!r}: there is no such {'file' if name == 'readme' else 'folder'}", USAGE)
    if args.history != HISTORY and not Path(args.history).is_dir():
        raise Failure(f"--history={args.history!r}: there is no such folder; asv writes {HISTORY}", USAGE)
    if args.against:
        _read("--against", args.against)


def _read(option: str, source: str) -> report.Document:
    try:
        return report.check(json.loads(Path(source).read_text(encoding="utf-8")), source)
    except (OSError, ValueError) as error:
        raise Failure(f"{option}: {error}", USAGE) from None


def select(text: str | None, quick: bool) -> Chosen:
    """The cases that ``--cases`` names: names, groups or patterns, in the order of the table."""
    if text is None:
        return [c for c in CASES if c.name in STANDARD and (not quick or c.flops <= QUICK_FLOPS)]
    if text == "all":
        return list(CASES)
    chosen: Chosen = []
    for wanted in listed(text):
        found: Chosen = [c for c in CASES if wanted == c.group or fnmatch.fnmatchcase(c.name, wanted)]
        if not found:
            try:
                found = [find_case(wanted)]
            except KeyError:
                names = ", ".join(dict.fromkeys(case.group for case in CASES))
                because = f"{wanted!r} is no case and no group; 'list' lists the cases, the groups are: {names}"
                raise Failure(f"--cases: {because}", USAGE) from None
        chosen += [case for case in found if case not in chosen]
    if not chosen:
        raise Failure("--cases is empty; 'fastconv bench --cases list' lists them", USAGE)
    return chosen


def _contestants(args: argparse.Namespace) -> tuple[list[str], list[contest.Absence]]:
    """Who takes part, and who is left out; a backend that was named must be there, and so must a rival."""
    default = [b.name for b in registry.BACKENDS if b.name != "naive" or (args.quick and registry.installed("numba"))]
    wanted = listed(args.backends) if args.backends is not None else [contestants.AUTO, *default]
    known = [contestants.AUTO, *(backend.name for backend in registry.BACKENDS)]
    unknown = [name for name in wanted if contestants.backend_of(name)[0] not in known]
    if unknown or not wanted:
        what = f"{unknown[0]!r} is no backend" if unknown else f"{args.backends!r} names none"
        last = f"'{contestants.CHANNELS_LAST}' behind a name: channels last; rivals are named in --peers"
        raise Failure(f"--backends: {what}; choose from: {', '.join(known)}; {last}", USAGE)
    wanted.sort(key=lambda name: contestants.backend_of(name)[0] != contestants.AUTO)
    names, absences = contest.present(list(dict.fromkeys(wanted)))
    if args.backends is not None and absences:
        raise Failure(f"backend {absences[0].contestant!r} is not available: {absences[0].because}")
    if "naive" not in default and args.backends is None:
        absences.append(contest.Absence("", "naive", "left out, it takes seconds a call; name it in --backends"))
    rivals, gone = _rivals(args.peers)
    return names + rivals, absences + gone


def _rivals(text: str | None) -> tuple[list[str], list[contest.Absence]]:
    known = [peer.name for peer in peers.PEERS]
    wanted = [] if text is None else known if text == "all" else listed(text)
    for name in wanted:
        if name not in known:
            raise Failure(f"--peers: {name!r} is no rival; choose from: all, {', '.join(known)}", USAGE)
    present, gone = contest.present(wanted)
    if gone and text != "all":
        raise Failure(f"rival {gone[0].contestant!r} is not available: {gone[0].because}")
    return present, gone


def _listed_numbers(text: str | None) -> list[int]:
    if text is None:
        return [thread_count(None)]
    if not all(part.isdecimal() for part in listed(text)) or not listed(text):
        raise Failure(f"--threads={text!r} must be numbers such as 1,2", USAGE)
    return [thread_count(int(part)) for part in dict.fromkeys(listed(text))]


def _caches(text: str) -> list[str]:
    if not listed(text) or not set(listed(text)) <= set(CACHES):
        raise Failure(f"--caches={text!r} must be {' or '.join(CACHES)} or both", USAGE)
    return [cache for cache in CACHES if cache in listed(text)]


def _measure(args: argparse.Namespace) -> tuple[report.Document, bool]:
    """The run, and whether Ctrl-C ended it: then it has the cases that were finished."""
    cases, threads, caches = select(args.cases, args.quick), _listed_numbers(args.threads), _caches(args.caches)
    rounds = (QUICK_ROUNDS if args.quick else ROUNDS) if args.rounds is None else args.rounds
    if rounds < 1:
        raise Failure(f"--rounds={rounds} must be at least 1", USAGE)
    names, absences = _contestants(args)
    entries: list[contest.Entry] = []
    described: dict[str, dict[str, Any]] = {}
    probes = {}
    stopped = False
    with _progress() as progress:
        steps = len(names) + rounds * len(caches)
        task = progress.add_task("", total=len(cases) * len(threads) * steps)
        done = 0
        for workers in threads:
            progress.update(task, description=f"starting, {workers} threads")
            try:
                with contest.Contest(names, workers, rounds, caches) as running:
                    probes[str(workers)] = running.probes.facts()
                    described |= running.described
                    for case in cases:
                        progress.update(task, description=f"{case.name}, {workers} threads", completed=done)
                        entries += running.run(case, lambda: progress.advance(task))
                        absences += [absence for absence in running.absences if absence not in absences]
                        done += steps
            except KeyboardInterrupt:
                if not entries:
                    raise
                stopped = True
                break
    if stopped:
        cases = [case for case in cases if any(case.name == entry.case for entry in entries)]
        threads = [count for count in threads if any(count == entry.threads for entry in entries)]
    result = report.document(cases, entries, absences, described.values(), probes,
                             threads=threads, rounds=rounds, caches=caches)  # fmt: skip
    return result, stopped


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _print(result: report.Document) -> None:
    from rich.console import Console

    # Not on a terminal, rich would fold the table to 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 180)
    found: Sequence[Any] = (tables.results(result), tables.summary(result))
    for table in found:
        if table is not None:
            console.print(table)
