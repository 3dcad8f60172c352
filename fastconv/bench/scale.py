"""Numbers on paper: where a value lies on an axis, which ticks it has, and how it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

_FINE, _COARSE = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high`` on positions from ``start`` to ``end``; what lies beyond is put on the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = True

    def __call__(self, value: float) -> float:
        if self.log:
            part = math.log(max(value, 1e-30) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(part, 0.0), 1.0) * (self.end - self.start), 2)

    def pixels(self) -> float:
        """How far apart two values lie on a logarithmic scale whose ratio is e."""
        return abs(self.end - self.start) / math.log(self.high / self.low)

    def ticks(self, most: int = 8) -> list[float]:
        """Round values on a logarithmic scale, at most about ``most``: some of each decade, or some decades.

        >>> Scale(0.4, 2.5, 0, 1).ticks(), Scale(0.02, 3e6, 0, 1).ticks(6)
        ([0.5, 0.7, 1.0, 1.5, 2.0], [0.1, 10.0, 1000.0, 100000.0])
        """
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        wanted = [[float(f"{s * 10.0**e:.6g}") for e in range(first, last + 1) for s in steps]
                  for steps in (_FINE, _COARSE)]  # fmt: skip
        wanted += [[10.0**e for e in range(first, last + 1) if (e - 1) % every == 0] for every in (1, 2, 3, 4)]
        inside = [[value for value in values if self.low <= value <= self.high] for values in wanted]
        return next((values for values in inside if len(values) <= most), inside[-1])


def short(value: float) -> str:
    """A number of at most three digits, with k, M, G or T behind it.

    >>> short(0.0123), short(192.4), short(1.5e4), short(2.31e9)
    ('0.0123', '192', '15k', '2.31G')
    """
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def digits(value: float) -> str:
    """Three digits, those behind the point kept, so that numbers above each other compare.

    >>> digits(1234.5), digits(86.4), digits(1.8), digits(0.25), digits(0.0)
    ('1234', '86.4', '1.80', '0.250', '0')
    """
    if value == 0:
        return "0"
    return f"{value:.{max(0, min(9, 2 - math.floor(math.log10(abs(value)))))}f}"


def quantity(value: float, unit: str) -> str:
    """A value with its unit, seconds and bytes scaled to read well.

    >>> quantity(3.4e-6, "seconds"), quantity(0.0121, "seconds"), quantity(3 << 20, "bytes"), quantity(86.4, "GFLOP/s")
    ('3.40 µs', '12.1 ms', '3.00 MiB', '86.4 GFLOP/s')
    """
    if unit == "seconds":
        size, name = next(((s, n) for s, n in ((1.0, "s"), (1e-3, "ms")) if abs(value) >= s), (1e-6, "µs"))
        return f"{digits(value / size)} {name}"
    if unit == "bytes":
        size, name = next(((s, n) for s, n in ((1 << 30, "GiB"), (1 << 20, "MiB")) if abs(value) >= s), (1024, "KiB"))
        return f"{digits(value / size)} {name}"
    return f"{digits(value)} {unit}".rstrip()
