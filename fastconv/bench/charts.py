"""Charts that stretch with the table cell they stand in: bars and rows of dots, placed in percent of its width.

Pure functions of data; the words stand in the table, as text of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fastconv.bench.scale import Scale

NOMINAL_WIDTH = 330
"""Width in pixels that dots are kept apart for; a narrower page lets them touch."""

_LANES = (0, 1, -1, 2, -2, 3, -3)
"""Where dots that would touch go, in steps above and below the row's middle."""

_APART, _STEP, _ROW = 8.5, 8.0, 20


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its quartiles, of ``kind`` ours or peer, from hot or cold caches."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Dot:
    """A ratio, its verdict and what pops up over it."""

    value: float
    kind: str  # ahead, behind or undecided
    tip: str


def attributes(**found: str | float) -> str:
    """As SVG has them; one that is empty is left out."""
    return "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value) if isinstance(value, str) else f"{value:g}"}"'
        for name, value in found.items()
        if value != ""
    )


def percent(value: float) -> str:
    return f"{value:.5g}%"


def bar(what: Bar, scale: Scale, limit: float | None) -> str:
    """One bar with its whisker from quartile to quartile and a tick at ``limit``; heights are the style's.

    >>> bar(Bar(50, 49, 52), Scale(0, 200, 0, 100, log=False), 100)[:55]
    '<svg class="bar" aria-hidden="true"><rect width="25%"/>'
    """
    low, high = scale(what.low), scale(what.high)
    body = f'<rect width="{percent(scale(what.value))}"/>'
    body += f'<rect class="w" x="{percent(low)}" width="{percent(high - low)}"/>'
    return f'<svg class="bar" aria-hidden="true">{body}{_limit(scale, limit)}</svg>'


def no_bar(scale: Scale, limit: float | None) -> str:
    """The place of a bar that is not there."""
    return f'<svg class="bar" aria-hidden="true">{_limit(scale, limit)}</svg>'


def _limit(scale: Scale, limit: float | None) -> str:
    return f'<rect class="l" x="{percent(scale(limit))}"/>' if limit else ""


def ratio_scale(values: Sequence[float]) -> Scale:
    """A logarithmic scale in percent with 1 on it and room at both ends for a dot."""
    low, high = max(min([0.5, *values]), 1e-3), min(max([2.0, *values]), 1e3)
    room = (high / low) ** 0.04
    return Scale(low / room, high * room, 0, 100)


def ratio_axis(scale: Scale, name: str) -> str:
    """The numbers above rows of dots."""
    texts = [f'<text x="{percent(scale(tick))}" y="14">{tick:g}</text>' for tick in scale.ticks()]
    return f'<svg class="axis" role="img" aria-label="{escape(name)}">{"".join(texts)}</svg>'


def dots(found: Sequence[Dot], mean: float, scale: Scale, name: str) -> str:
    """A row of dots on a logarithmic axis with a bar at their mean; dots that would touch move up and down."""
    lanes = _lanes([scale(dot.value) * NOMINAL_WIDTH / 100 for dot in found])
    height = _ROW + _STEP * 2 * max([0, *map(abs, lanes)])
    body = [f'<rect class="{"one" if tick == 1 else "g"}" x="{percent(scale(tick))}"/>' for tick in scale.ticks()]
    body.append(f'<rect class="mean" x="{percent(scale(mean))}"/>')
    for dot, lane in zip(found, lanes, strict=True):
        y = height / 2 - lane * _STEP
        body.append(f"<g{attributes(class_=dot.kind)}><title>{escape(dot.tip)}</title>{_mark(dot, scale, y)}</g>")
    return (f'<svg class="dots" height="{height:g}" role="img" aria-label="{escape(name)}">'
            f"{''.join(body)}</svg>")  # fmt: skip


def _mark(dot: Dot, scale: Scale, y: float) -> str:
    """Round if not behind, a square on its corner if behind: the verdict does not hang on colour alone."""
    x = percent(scale(dot.value))
    if dot.kind == "behind":
        return f'<rect x="{x}" y="{y - 3.5:g}" width="7" height="7"/>'
    return f'<circle cx="{x}" cy="{y:g}" r="4"/>'


def _lanes(places: Sequence[float]) -> list[int]:
    """A lane for each place, the middle one where it is free."""
    taken: list[tuple[float, int]] = []
    result = [0] * len(places)
    for number in sorted(range(len(places)), key=lambda n: places[n]):
        place = places[number]
        free = (lane for lane in _LANES if all(place - x > _APART for x, used in taken if used == lane))
        result[number] = next(free, 0)
        taken.append((place, result[number]))
    return result


def tally(counts: Sequence[tuple[str, int]], name: str) -> str:
    """One bar of all counts, each a piece of its kind."""
    total, at, pieces = max(sum(count for _, count in counts), 1), 0.0, []
    for kind, count in counts:
        width = 100 * count / total
        if count:
            pieces.append(f'<rect class="{kind}" x="{percent(at)}" width="{percent(width)}"/>')
        at += width
    return f'<svg class="tally" role="img" aria-label="{escape(name)}">{"".join(pieces)}</svg>'
