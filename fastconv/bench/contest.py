"""Run cases: plan each on every backend, check the result against the reference, then time what is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

import fastconv
from fastconv import registry
from fastconv.bench import reference, timing
from fastconv.bench.cases import Arrays, Case, arrays
from fastconv.bench.machine import unavailable
from fastconv.errors import UnsupportedConv
from fastconv.planning import Plan


@dataclass(frozen=True, slots=True)
class Entry:
    """One backend on one case at one number of threads: what it is, whether it is right, how fast."""

    case: str
    layer: str
    group: str
    dtype: str
    threads: int
    backend: str
    algorithm: str
    flops: int
    workspace_bytes: int
    error: float  # largest difference from the reference, over the reference's largest value
    error_allowed: float  # the same for the plan's guaranteed bound
    rounds: int = 0
    median_seconds: float | None = None
    best_seconds: float | None = None
    quartile_seconds: tuple[float, float] | None = None
    gflops: float | None = None
    percent_of_peak: float | None = None

    @property
    def right(self) -> bool:
        return self.error <= self.error_allowed


@dataclass(frozen=True, slots=True)
class Absence:
    """A backend that did not take part in a case (or, with case '', at all), and why."""

    case: str
    backend: str
    because: str


Outcome = tuple[list[Entry], list[Absence]]
Tick = Callable[[], None]


def run_case(case: Case, backends: Sequence[str], threads: Sequence[int], count: int, tick: Tick) -> Outcome:
    """Check and time one case; ``tick`` is called after every round of every number of threads."""
    entries: list[Entry] = []
    absences: list[Absence] = []
    data = arrays(case)
    expected = reference.conv(data.x, data.w, data.bias, case.spec)
    plans = {}
    for name in backends:
        try:
            plans[name] = fastconv.plan(data.w, data.x.shape, data.bias, backend=name, **case.options)
        except UnsupportedConv as error:
            absences.append(Absence(case.name, name, error.reason))
    for workers in threads:
        checked = [_check(case, name, plan, data, expected, workers) for name, plan in plans.items()]
        entries += _time(checked, plans, data, workers, count, tick)
    return entries, absences


def _check(case: Case, name: str, plan: Plan, data: Arrays, expected: np.ndarray, threads: int) -> Entry:
    spec, scale = plan.spec, float(np.abs(expected).max(initial=0.0)) or 1.0
    difference = float(np.abs(plan(data.x, threads=threads) - expected).max(initial=0.0))
    allowed = reference.allowed_error(plan.error_bound, data.x, data.w, expected, spec.acc_dtype)
    with fastconv.num_threads(threads):
        workspace = plan.workspace_bytes
    # A NaN in the result makes the difference NaN, which is never within the bound.
    return Entry(case.name, spec.text, case.group, spec.dtype, threads, name, plan.algorithm, spec.flops, workspace,
                 difference / scale, allowed / scale)  # fmt: skip


def _time(
    checked: list[Entry], plans: dict[str, Plan], data: Arrays, threads: int, count: int, tick: Tick
) -> list[Entry]:
    """The entries with their times; those of wrong results stay without."""
    runners = {}
    for entry in checked:
        if entry.right:
            plan = plans[entry.backend]
            out = np.empty(plan.out_shape, plan.spec.acc_dtype)
            runners[entry.backend] = timing.calling(partial(plan, data.x, out=out, threads=threads))
    series: dict[str, timing.Series] = {}
    for latest in timing.rounds(runners, count, timing.fma_probe(threads)):
        series = latest
        tick()
    return [_timed(entry, series[entry.backend]) if entry.backend in series else entry for entry in checked]


def _timed(entry: Entry, series: timing.Series) -> Entry:
    return replace(
        entry,
        rounds=len(series.seconds),
        median_seconds=series.median,
        best_seconds=series.best,
        quartile_seconds=series.quartiles,
        gflops=series.gflops(entry.flops),
        percent_of_peak=series.percent_of_peak(entry.flops),
    )


def present(names: Sequence[str]) -> tuple[list[str], list[Absence]]:
    """Those of the named backends that run here, and the others with the reason."""
    reasons = {name: unavailable(registry.find(name)) for name in names}
    absences = [Absence("", name, why) for name, why in reasons.items() if why is not None]
    return [name for name, why in reasons.items() if why is None], absences
