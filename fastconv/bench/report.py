"""What a run of the benchmark leaves behind: one JSON document, the source of tables, pages and the README.

A table can always be made again from a file; so can every ratio, since the document holds each round.
"""

from __future__ import annotations

import datetime
import itertools
import statistics
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fastconv.bench import ratios
from fastconv.bench.case import AnyCase, Case
from fastconv.bench.contest import Absence, Entry, series
from fastconv.bench.machine import machine, versions

SCHEMA = 2
_PARTS = ("date", "machine", "versions", "threads", "rounds", "caches", "probes", "contestants", "cases", "entries",
          "duels", "groups", "absent")  # fmt: skip

ALL = "all"
"""The group that every case is in, besides its own."""

Document = dict[str, Any]


def stamp() -> Document:
    """Date, machine and versions: what a number is worth nothing without."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"date": date, "machine": machine(), "versions": versions()}


def document(
    cases: Sequence[AnyCase],
    entries: Sequence[Entry],
    absences: Sequence[Absence],
    contestants: Iterable[dict[str, Any]],
    probes: dict[str, Any],
    *,
    threads: Sequence[int],
    rounds: int,
    caches: Sequence[str],
) -> Document:
    """The whole run as plain data."""
    who = list(contestants)
    found = duels(entries, [c["name"] for c in who if c["kind"] == "peer"])
    return stamp() | {
        "schema": SCHEMA,
        "threads": list(threads),
        "rounds": rounds,
        "caches": list(caches),
        "probes": probes,
        "contestants": who,
        "cases": [describe(case) for case in cases],
        "entries": [_rounded(entry.to_dict()) for entry in entries],
        "duels": found,
        "groups": groups(found, {case.name: case.group for case in cases}),
        "absent": [absence.to_dict() for absence in absences],
    }


def describe(case: AnyCase) -> dict[str, Any]:
    """A case as plain data."""
    layer = case.spec.text if isinstance(case, Case) else case.layer
    return {"name": case.name, "layer": layer, "group": case.group, "source": case.source, "op": case.op,
            "dtype": case.dtype, "flops": case.flops, "bytes": case.bytes}  # fmt: skip


def _rounded(value: Any) -> Any:
    """Floats to six digits: the clock has no more, and a file of a whole run stays small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def duels(entries: Sequence[Entry], rivals: Sequence[str]) -> list[dict[str, Any]]:
    """Each contestant of ours against the best rival of each case: the rival's time over ours, and who is ahead."""
    restless = {(e.case, e.threads, e.cache, e.contestant) for e in entries if e.disturbed}
    result = []
    for (case, threads, cache), found in series(entries):
        theirs = {name: times for name, times in found.items() if name in rivals}
        for name in (name for name in found if name not in theirs):
            best = ratios.against_best(found[name], theirs)
            if best is None:
                continue
            rival, ratio = best
            disturbed = any((case, threads, cache, one) in restless for one in (name, rival))
            result.append({
                "case": case, "threads": threads, "cache": cache, "contestant": name, "rival": rival,
                "ratio": ratio.median, "low": ratio.low, "high": min(ratio.high, 1e9),
                "verdict": "undecided" if disturbed else ratio.verdict(),
            })  # fmt: skip
    return [_rounded(duel) for duel in result]


def groups(found: Sequence[dict[str, Any]], group_of: dict[str, str]) -> list[dict[str, Any]]:
    """Duels by group of cases, and of all: geometric mean, worst, and how many are ahead, behind, undecided."""
    result = []
    sorted_out: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for duel in found:
        for group in (group_of[duel["case"]], ALL):
            sorted_out.setdefault((group, duel["threads"], duel["cache"], duel["contestant"]), []).append(duel)
    for key, members in sorted_out.items():
        worst = min(members, key=lambda d: float(d["ratio"]))
        verdicts = [d["verdict"] for d in members]
        result.append({
            **dict(zip(("group", "threads", "cache", "contestant"), key, strict=True)), "cases": len(members),
            "geometric_mean": _rounded(ratios.geometric_mean([d["ratio"] for d in members])),
            "worst": worst["ratio"], "worst_case": worst["case"],
            **{verdict: verdicts.count(verdict) for verdict in ("ahead", "behind", "undecided")},
        })  # fmt: skip
    return result


def check(value: Any, source: str) -> Document:
    """``value`` if it is a document that this version writes.

    Raises
    ------
    ValueError
        If it is not; the message names ``source``.
    """
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ValueError(f"{source} is not a report of 'fastconv bench --json' (schema {SCHEMA})")
    missing = [part for part in _PARTS if part not in value]
    needed = set(Entry.__dataclass_fields__)
    for entry in value.get("entries", []):
        missing += sorted(needed - entry.keys())
    if missing:
        raise ValueError(f"{source} lacks {missing[0]!r}; run 'fastconv bench --json {source}' again")
    return value


def restrict(report: Document, names: Collection[str]) -> Document:
    """The run with these cases alone; its groups still speak of all."""
    parts = {"cases": "name", "entries": "case", "duels": "case"}
    kept = {part: [row for row in report[part] if row[key] in names] for part, key in parts.items()}
    return report | kept | {"absent": [row for row in report["absent"] if not row["case"] or row["case"] in names]}


def headline(report: Document) -> str:
    """One sentence of a stamped report: machine, instruction set, versions, date."""
    facts, found = report["machine"], report["versions"]
    isa = facts["instruction_sets"]["in_use"] or "no compiled extension"
    programs = ", ".join(f"{name} {version}" for name, version in found.items() if version and name != "llvmlite")
    return f"{facts['processor']}, {facts['cores']} cores, {isa}; {programs}; {report['date'][:10]}"


def agreement(first: Document, second: Document, least_seconds: float = 5e-4, within: float = 0.1) -> Document:
    """How far two runs agree on every ratio of a rival's time to ours that both have, of calls longer than that.

    Returns
    -------
    dict
        ``pairs``, ``agree`` (how many differ by at most ``within``) and ``outliers``, each with its case, threads,
        cache, contestant, rival and both ratios, the farthest apart first. ``steady_pairs`` and ``steady_agree`` count
        those for which the machine was the same: both probes, of multiply-adds and of the bandwidth, within ``within``.
    """
    one, other = _pairs(first, least_seconds), _pairs(second, least_seconds)
    both = [key for key in one if key in other]
    apart = {key: max(one[key], other[key]) / min(one[key], other[key]) for key in both}
    far = sorted((key for key in both if apart[key] > 1 + within), key=lambda key: -apart[key])
    names = ("case", "threads", "cache", "contestant", "rival")
    outliers = [dict(zip(names, key, strict=True)) | {"first": one[key], "second": other[key]} for key in far]
    before, after = _machine(first), _machine(second)
    steady = [key for key in both if _alike(before.get(key[:3], []), after.get(key[:3], []), 1 + within)]
    agree = sum(apart[key] <= 1 + within for key in steady)
    return {"pairs": len(both), "agree": len(both) - len(far), "outliers": outliers,
            "steady_pairs": len(steady), "steady_agree": agree}  # fmt: skip


def _machine(report: Document) -> dict[tuple[str, int, str], list[float]]:
    """What the probes read, medians over the contestants, for each case, number of threads and cache."""
    found: dict[tuple[str, int, str], list[list[float]]] = {}
    for entry in report["entries"]:
        rates = [(entry["gflops"], entry["percent_of_peak"]), (entry["gbs"], entry["percent_of_bandwidth"])]
        if all(part for rate in rates for part in rate):
            key = (entry["case"], entry["threads"], entry["cache"])
            found.setdefault(key, []).append([100 * value / percent for value, percent in rates])
    return {key: [statistics.median(column) for column in zip(*rows, strict=True)] for key, rows in found.items()}


def _alike(one: list[float], other: list[float], within: float) -> bool:
    return bool(one and other) and all(max(a, b) <= within * min(a, b) for a, b in zip(one, other, strict=True))


def _pairs(report: Document, least_seconds: float) -> dict[tuple[str, int, str, str, str], float]:
    kinds = {c["name"]: c["kind"] for c in report["contestants"]}
    rows: dict[tuple[str, int, str], dict[str, ratios.Timings]] = {}
    for entry in report["entries"]:
        if entry["median_seconds"] is not None and entry["median_seconds"] >= least_seconds:
            kept = [s if keep else None for s, keep in zip(entry["seconds"], entry["kept"], strict=True)]
            rows.setdefault((entry["case"], entry["threads"], entry["cache"]), {})[entry["contestant"]] = kept
    result = {}
    for key, found in rows.items():
        for ours, rival in itertools.product(found, found):
            if kinds[ours] == "backend" and kinds[rival] == "peer":
                both = ratios.paired(found[ours], found[rival])
                if both:
                    result[(*key, ours, rival)] = statistics.median(both)
    return result
