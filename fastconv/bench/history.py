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
    """One benchmark with one set of parameters on one machine, over its commits from old to new."""

    machine: str
    benchmark: str
    parameters: str
    unit: str
    points: tuple[Point, ...]


def read(folder: Path) -> list[Track]:
    """What lies in asv's results folder, an empty list if there is none; other files in it are passed over."""
    units = {name: spec.get("unit", "") for name, spec in _load(folder / "benchmarks.json").items() if _is(spec)}
    found: dict[tuple[str, str, str], list[Point]] = {}
    for path in sorted(folder.glob("*/*-*.json")):
        run = _load(path)
        if not {"commit_hash", "date", "results", "result_columns"} <= run.keys():
            continue
        for name, row in run["results"].items():
            columns = dict(zip(run["result_columns"], row or [], strict=False))
            for parameters, value in _values(columns):
                point = Point(run["commit_hash"][:8], run["date"] / 1000, value)
                found.setdefault((path.parent.name, name, parameters), []).append(point)
    return [
        Track(*key, unit=units.get(key[1], ""), points=tuple(sorted(points, key=lambda point: point.date)))
        for key, points in sorted(found.items())
    ]


def _values(columns: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Parameters and value of each combination that ran; asv writes None where one was skipped or failed."""
    results = columns.get("result")
    for parameters, value in zip(itertools.product(*columns.get("params") or []), results or [], strict=False):
        if isinstance(value, int | float) and value == value:
            yield ", ".join(str(one).strip("'") for one in parameters), float(value)


def _is(spec: object) -> bool:
    return isinstance(spec, dict)


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
