"""asv's results, as series over commits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """One commit's value; ``date`` in seconds since 1970."""

    commit: str
    date: float
    value: float


@dataclass(frozen=True, slots=True)
class Track:
    """One benchmark with one set of parameters in one place, over its commits from old to new.

    ``place`` is the machine, with asv's environment behind it where the machine has several.
    """

    place: str
    benchmark: str
    parameters: tuple[tuple[str, str], ...]  # names and values
    unit: str
    points: tuple[Point, ...]


def read(folder: Path) -> list[Track]:
    """What lies in asv's results folder, an empty list if there is none; other files in it are passed over.

    Like asv's own pages it leaves out what another version of a benchmark measured.
    """
    specs = {name: spec for name, spec in _load(folder / "benchmarks.json").items() if isinstance(spec, dict)}
    runs = [(path.parent.name, run) for path in sorted(folder.glob("*/*-*.json")) if _is_run(run := _load(path))]
    found: dict[tuple[str, str, tuple[tuple[str, str], ...]], dict[str, Point]] = {}
    for machine, run in runs:
        several = len({other.get("env_name") for name, other in runs if name == machine}) > 1
        place = f"{machine}, {run.get('env_name')}" if several else machine
        for name, row in run["results"].items():
            columns = dict(zip(run["result_columns"], row or [], strict=False))
            spec = specs.get(name, {})
            if columns.get("version", spec.get("version")) != spec.get("version"):
                continue
            for values, value in _values(columns):
                parameters = tuple(zip(_names(spec, len(values)), values, strict=True))
                point = Point(run["commit_hash"][:8], run["date"] / 1000, value)
                found.setdefault((place, name, parameters), {})[point.commit] = point
    return [
        Track(*key, specs.get(key[1], {}).get("unit", ""), tuple(sorted(points.values(), key=lambda p: p.date)))
        for key, points in sorted(found.items())
    ]


def _is_run(run: dict[str, Any]) -> bool:
    return {"commit_hash", "date", "results", "result_columns"} <= run.keys()


def _names(spec: dict[str, Any], count: int) -> list[str]:
    """Names of a benchmark's parameters, empty where asv does not know them."""
    names = [str(name) for name in spec.get("param_names") or []]
    return (names + [""] * count)[:count]


def _values(columns: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Parameters and value of each combination that ran; asv writes NaN where one was skipped, None where it failed."""
    results = columns.get("result")
    for parameters, value in zip(itertools.product(*columns.get("params") or []), results or [], strict=False):
        if isinstance(value, int | float) and value == value:
            yield tuple(str(one).strip("'") for one in parameters), float(value)


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
