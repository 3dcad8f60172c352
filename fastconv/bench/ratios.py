"""What may be said of interleaved timings: which rounds count, ratios with their intervals, who is ahead.

A series has one entry a round: seconds per call, or None where the contestant sat the round out or the round does
not count. Rounds are dropped by what the probe and the system say of the machine, never by the time itself.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LOWEST_PROBE = 0.9
"""A timing counts if the probes before and after it reached so much of the upper end of the case's probes."""

UPPER_END = 0.8
"""Which quantile of the probes is their upper end; above it are those that a boost favoured."""

FEWEST_KEPT = 1 / 3
"""If fewer rounds than this are undisturbed, the machine has no quiet state to compare with: all count."""

RESAMPLES, CONFIDENCE = 2000, 0.95

Timings = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median of paired ratios with its bootstrap interval; no interval (low = 0, high = inf) below six rounds."""

    median: float
    low: float
    high: float

    def verdict(self, target: float = 1.0) -> str:
        """'ahead' if the whole interval meets the target, 'behind' if all of it misses, else 'undecided'.

        >>> Ratio(1.1, 1.02, 1.2).verdict(), Ratio(1.1, 1.02, 1.2).verdict(1.5), Ratio(1.1, 0.9, 1.2).verdict()
        ('ahead', 'behind', 'undecided')
        """
        return "ahead" if self.low >= target else "behind" if self.high < target else "undecided"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Lower and upper quartile; of one value, that value twice.

    >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
    (2.0, 4.0)
    """
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def undisturbed(probes: Sequence[Sequence[float]], stolen: Sequence[float]) -> list[bool]:
    """Which timings count, given the probes around each and the processor time that was stolen during it.

    >>> undisturbed([(100, 99), (100, 60), (99, 98), (100, 100)], [0, 0, 0, 0.01])
    [True, False, True, False]
    """
    every = sorted(value for around in probes for value in around)
    limit = LOWEST_PROBE * every[int(UPPER_END * (len(every) - 1))] if every else 0.0
    return [min(around, default=math.inf) >= limit and steal == 0 for around, steal in zip(probes, stolen, strict=True)]


def paired(ours: Timings, theirs: Timings) -> list[float]:
    """Their time over ours, of each round that both have.

    >>> paired([1.0, None, 2.0], [2.0, 5.0, 3.0])
    [2.0, 1.5]
    """
    return [b / a for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]


def interval(values: Sequence[float]) -> Ratio:
    """Median and its bootstrap interval of 95 %; always the same for the same values."""
    middle = statistics.median(values)
    if len(values) < 6:  # the interval of a median of five is already wider than the values themselves
        return Ratio(middle, 0.0, math.inf)
    data = np.asarray(values)
    drawn = np.random.default_rng(0).integers(0, len(data), (RESAMPLES, len(data)))
    medians = np.median(data[drawn], axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(middle, float(low), float(high))


def against_best(ours: Timings, rivals: Mapping[str, Timings]) -> tuple[str, Ratio] | None:
    """The fastest rival and its time over ours; None if none has a round with ours.

    Picked on every other common round and scored on the rest, or the luckiest of ten rivals would be compared.

    >>> name, ratio = against_best([1.0] * 12, {"slow": [3.0] * 12, "fast": [2.0] * 12})
    >>> name, ratio.median
    ('fast', 2.0)
    """
    ratios = {name: paired(ours, theirs) for name, theirs in rivals.items()}
    ratios = {name: found for name, found in ratios.items() if found}
    if not ratios:
        return None
    best = min(ratios, key=lambda name: statistics.median(ratios[name][::2]))
    return best, interval(ratios[best][1::2] or ratios[best])


def geometric_mean(values: Sequence[float]) -> float:
    """
    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    return math.exp(sum(map(math.log, values)) / len(values))
