"""Interleaved timing: every round runs every contestant, so that a slow minute hurts all alike.

A contestant is a function of a number of calls that returns the seconds they took, so that one living
in another process can time itself. Just before each timing a probe runs the machine's fused
multiply-adds flat out on the same threads: it wakes the cores and says what the machine could do then.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Contestant = Callable[[int], float]
Probe = Callable[[], float]

PROBE_MILLISECONDS = 5.0
"""Length of one probe: long against a thread's wake-up, short against a round."""

BLOCK_SECONDS = 0.02
"""Calls of one contestant in one round last at least this long, so that the clock does not matter."""

BUDGET_SECONDS = 2.0
"""A contestant that has used so much of a case sits out its later rounds, or the slowest would take the hour."""


@dataclass(frozen=True, slots=True)
class Series:
    """Seconds per call of one contestant, one entry a round, with the probe's GFLOP/s beside each."""

    seconds: tuple[float, ...]
    peaks: tuple[float, ...] = ()

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        return quartiles(self.seconds)

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the median."""
        low, high = self.quartiles
        return (high - low) / self.median

    def gflops(self, flops: int) -> float:
        return flops / self.median / 1e9

    def percent_of_peak(self, flops: int) -> float | None:
        """Median over rounds of the rate over the peak probed in that round; None without a probe."""
        if not self.peaks:
            return None
        pairs = zip(self.seconds, self.peaks, strict=True)
        return statistics.median(100 * flops / seconds / 1e9 / peak for seconds, peak in pairs)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Lower and upper quartile; of one value, that value twice.

    >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
    (2.0, 4.0)
    """
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def paired_ratios(series: Mapping[str, Series], against: str) -> dict[str, tuple[float, float, float]]:
    """Time of ``against`` over that of each contestant, round by round: lower quartile, median, upper quartile.

    Only rounds that both ran count: one that was out of its budget has fewer.

    >>> paired_ratios({"a": Series((1.0, 2.0)), "b": Series((2.0, 4.0))}, "b")["a"]
    (2.0, 2.0, 2.0)
    """
    result = {}
    for name, one in series.items():
        ratios = [b / a for a, b in zip(one.seconds, series[against].seconds, strict=False)]
        low, high = quartiles(ratios)
        result[name] = (low, statistics.median(ratios), high)
    return result


def calling(function: Callable[[], object]) -> Contestant:
    """A contestant that calls ``function`` in this process."""

    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return time.perf_counter() - start

    return run


def rounds(
    contestants: Mapping[str, Contestant], count: int, probe: Probe | None = None, block: float = BLOCK_SECONDS
) -> Iterator[dict[str, Series]]:
    """Time all contestants ``count`` times in turn; yield what is known after each round.

    The first call of each (compiling, filling caches and arena) is not counted. The order rotates from round to
    round, so that nobody always follows the same one. Slow contestants stop at `BUDGET_SECONDS`.
    """
    calls = {}
    for name, run in contestants.items():
        first = run(1)
        calls[name] = 1 if first > BUDGET_SECONDS else max(1, round(block / max(run(1), 1e-9)))
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, list[float]] = {name: [] for name in names}
    for number in range(count):
        start = number % max(len(names), 1)
        for name in names[start:] + names[:start]:
            if sum(seconds[name]) * calls[name] > BUDGET_SECONDS:
                continue
            if probe is not None:
                peaks[name].append(probe())
            if calls[name] > 1:  # a single call is longer than what a warm-up would mend
                contestants[name](1)
            seconds[name].append(contestants[name](calls[name]) / calls[name])
        yield {name: Series(tuple(seconds[name]), tuple(peaks[name])) for name in names}


def fma_probe(threads: int) -> Probe | None:
    """A probe of the machine's float32 FMA peak on so many threads, GFLOP/s; None without the extension."""
    try:
        peak = importlib.import_module("fastconv.kernels._compiled").fma_peak
    except (ImportError, OSError, AttributeError):
        return None
    return lambda: float(peak(threads, PROBE_MILLISECONDS))
