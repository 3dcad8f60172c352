"""Charts on two axes: points and lines with their names beside them. Pure functions of data to SVG text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from fastconv.bench.charts import attributes
from fastconv.bench.scale import Scale, quantity, short

WIDTH, HEIGHT = 560, 400
LETTER = 6.0
"""Width of a letter of the small text, in its own pixels: names are placed by estimate."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 40
_LINE, _WIDE_LETTER = 14.0, 7.0
_FOOT = 7.0
"""Each slanted roof is drawn from such a part of its ridge at least, or there would be no room for its name."""

_DEGREES = 180 / math.pi

_LEAST_SPAN = 4.0
"""A curve's axis goes over such a factor at least, or noise would look like news."""

Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a plane: its place in values, its look, the name beside it if there is room, and its tip."""

    x: float
    y: float
    kind: str  # ours or peer; with "faint" behind it for those that are not the fastest of their kind
    tip: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Roof:
    """A limit of the machine: level at ``peak``, or rising with ``width`` for each unit of x up to ``peak``."""

    label: str
    peak: float
    width: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """All points of one contestant, left to right, and the name that stands at the first."""

    name: str
    kind: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One value a commit, None where there is none; ``colour`` is a number that means the same in every panel."""

    name: str
    colour: int
    values: tuple[float | None, ...]
    tips: tuple[str, ...]


def svg(width: float, height: float, body: Iterable[str], name: str, kind: str = "plane") -> str:
    """An image that shrinks with the page and says what it is."""
    return (f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(name)}">'
            f"{''.join(body)}</svg>")  # fmt: skip


def text(x: float, y: float, what: str, kind: str = "", anchor: str = "", transform: str = "") -> str:
    found = attributes(x=round(x, 1), y=round(y, 1), class_=kind, text_anchor=anchor, transform=transform)
    return f"<text{found}>{escape(what)}</text>"


def line(points: Sequence[Point], kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def mark(x: float, y: float, found: Mark) -> str:
    """A point with its tip: ours are round, others squares on a corner, so that colour is not all that tells."""
    title = f"<title>{escape(found.tip)}</title>" if found.tip else ""
    size = 2.6 if "faint" in found.kind else 4
    if found.kind.startswith("ours"):
        return f'<circle class="{found.kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}">{title}</circle>'
    d = f"M{x - size:.1f} {y:.1f}l{size:g}-{size:g} {size:g} {size:g}-{size:g} {size:g}z"
    return f'<path class="{found.kind}" d="{d}">{title}</path>'


def _axes(across: Scale, up: Scale, titles: tuple[str, str]) -> list[str]:
    """Grid, numbers and titles of two logarithmic axes."""
    body = []
    for tick in across.ticks():
        body.append(line([(across(tick), up.start), (across(tick), up.end)], "grid"))
        body.append(text(across(tick), up.start + 15, short(tick), "small", "middle"))
    for tick in up.ticks():
        body.append(line([(across.start, up(tick)), (across.end, up(tick))], "grid"))
        body.append(text(across.start - 6, up(tick) + 4, short(tick), "small", "end"))
    body.append(text(across.end, up.start + 32, titles[0], "small", "end"))
    body.append(text(0, 0, titles[1], "small", "end", f"translate(10 {up.end:g}) rotate(-90)"))
    return body


def _scales(xs: Sequence[float], ys: Sequence[float], room: float = 0.0) -> tuple[Scale, Scale]:
    """Two axes that hold all values; ``room`` is left free for names in front of the first, in pixels."""
    low, high = min(xs), max(max(xs), min(xs) * 10)
    width = WIDTH - _LEFT - _RIGHT
    ahead = (high / low) ** ((room + 14) / (width - room - 28))
    across = Scale(low / ahead, high * (high / low) ** 0.04, _LEFT, WIDTH - _RIGHT)
    return across, Scale(min(ys) / 1.5, max(ys) * 1.4, HEIGHT - _BOTTOM, _TOP)


def roofline(marks: Sequence[Mark], roofs: Sequence[Roof], titles: tuple[str, str], name: str) -> str:
    """Points under the roofs of a machine; points of one name are joined, and named where nothing is in the way."""
    slant = [roof.peak / roof.width / _FOOT for roof in roofs if roof.width]
    across, up = _scales([*(m.x for m in marks), *slant], [*(m.y for m in marks), *(roof.peak for roof in roofs)])
    limits, boxes = _roofs(roofs, across, up)
    body = _axes(across, up, titles) + limits
    at = [(across(m.x), up(m.y)) for m in marks]
    pairs: dict[str, list[Point]] = {}
    for found, place in zip(marks, at, strict=True):
        pairs.setdefault(found.name, []).append(place)
    body += [line(pair, "gap") for pair in pairs.values() if len(pair) > 1]
    body += [mark(*place, found) for place, found in zip(at, marks, strict=True)]
    boxes += [(x - 5, y - 5, x + 5, y + 5) for x, y in at]
    first = {found.name: place for found, place in zip(marks, at, strict=True)}
    body += _names(first, boxes, (across.start, up.end, across.end, up.start))
    return svg(WIDTH, HEIGHT, body, name)


def _roofs(roofs: Sequence[Roof], across: Scale, up: Scale) -> tuple[list[str], list[Box]]:
    """The roofs, each with its name along it, and the places of the names.

    The names stand at the feet; of two roofs that lie close together the second has its name at the ridge.
    """
    body, boxes, previous, high_up = [], [], 0.0, False
    steepness = up.pixels() / across.pixels()
    angle = -math.atan(steepness)
    for roof in sorted(roofs, key=lambda roof: roof.width or 0.0):
        length, ahead = len(roof.label) * LETTER, 6.0
        if roof.width is None:
            start, end, turn = (across.start, up(roof.peak)), (across.end, up(roof.peak)), 0.0
            boxes.append((start[0], start[1] - 1, end[0], start[1] + 1))  # no name of a case lies on it
        else:
            low, high = max(across.low, up.low / roof.width), min(across.high, roof.peak / roof.width)
            if low >= high:
                continue
            start, end, turn = (across(low), up(low * roof.width)), (across(high), up(high * roof.width)), angle
            near = previous and math.log(roof.width / previous) * up.pixels() * math.cos(angle) < _LINE
            high_up = bool(near) and not high_up
            previous = roof.width
            ahead = math.dist(start, end) - length - 10 if high_up else ahead
        body.append(line([start, end], "roof"))
        if math.dist(start, end) > length + 16:
            x, y = start[0] + math.cos(turn) * ahead, start[1] + math.sin(turn) * ahead
            body.append(
                text(0, -4, roof.label, "small", "", f"translate({x:.1f} {y:.1f}) rotate({turn * _DEGREES:.1f})")
            )
            along = [(x + math.cos(turn) * at, y + math.sin(turn) * at) for at in range(0, int(length), 8)]
            boxes += [(px - 8, py - 12, px + 4, py) for px, py in along]
    return body, boxes


def _hit(box: Box, taken: Iterable[Box]) -> bool:
    return any(box[0] < b[2] and box[2] > b[0] and box[1] < b[3] and box[3] > b[1] for b in taken)


def _names(places: dict[str, Point], boxes: list[Box], inside: Box) -> list[str]:
    """Names beside points, right, left, above or below, as long as there is room; the others have only their tip."""
    body, taken = [], list(boxes)
    for name, (x, y) in places.items():
        size = len(name) * LETTER
        for dx, dy, anchor in ((7, 3.5, ""), (-7 - size, 3.5, ""), (-size / 2, -7, ""), (-size / 2, 14, "")):
            box = (x + dx, y + dy - 9, x + dx + size, y + dy + 2)
            free = box[0] > inside[0] and box[2] < inside[2] and box[1] > inside[1] and box[3] < inside[3]
            if name and free and not _hit(box, taken):
                taken.append(box)
                body.append(text(x + dx, y + dy, name, "name", anchor))
                break
    return body


def sizes(found: Sequence[Series], roof: Roof | None, titles: tuple[str, str], name: str) -> str:
    """Every contestant's points, its name with its first value left of all, so that the price of a call can be read."""
    marks = [m for one in found for m in one.marks]
    room = (max(len(one.name) for one in found) + 10) * _WIDE_LETTER + 30
    across, up = _scales([m.x for m in marks], [m.y for m in marks], room)
    body = _axes(across, up, titles)
    if roof and roof.width:  # time at the peak: y = x * width
        low, high = max(across.low, up.low / roof.width), min(across.high, up.high / roof.width)
        if low < high:
            body.append(line([(across(low), up(low * roof.width)), (across(high), up(high * roof.width))], "roof"))
            foot = (low**3 * high) ** 0.25  # where the points are far above
            body.append(text(across(foot) + 8, up(foot * roof.width) + 12, roof.label, "small"))
    first = min(m.x for m in marks)
    edge = across(first) - 26
    starts = [up(one.marks[0].y) for one in found]
    spread = apart(starts, _LINE, up.end + 8, up.start - 2)
    for one, start, y in zip(found, starts, spread, strict=True):
        inner = [line([(edge + 3, y - 4), (edge + 9, y - 4), (across(one.marks[0].x) - 6, start)], "lead")]
        label = f"{one.name}  {quantity(one.marks[0].y / 1e3, 'seconds')}"
        inner.append(text(edge, y, label, "who", "end"))
        inner += [mark(across(m.x), up(m.y), m) for m in one.marks]
        body.append(f'<g class="series {one.kind}" tabindex="0">{"".join(inner)}</g>')
    return svg(WIDTH, HEIGHT, body, name)


def apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Places moved as little as it takes to lie ``least`` apart between ``low`` and ``high``, in the same order.

    >>> apart([10, 11, 50], 10, 0, 100), apart([95, 96], 10, 0, 100)
    ([10, 20, 50], [90, 100])
    """
    order = sorted(range(len(places)), key=lambda number: places[number])
    result, last = list(places), low - least
    for number in order:
        result[number] = last = max(places[number], last + least)
    last = high + least
    for number in reversed(order):
        result[number] = last = min(result[number], last - least)
    return result


def panel(curves: Sequence[Curve], unit: str, commits: Sequence[str], name: str) -> str:
    """Curves over commits, each with its name and newest value at its end; gaps stay gaps.

    The axis is logarithmic where no value is zero: so a change of some percent looks alike for slow and for fast.
    """
    width, top, bottom = 360, 8, 120
    known = [value for curve in curves for value in curve.values if value is not None]
    low, high, log = min(known), max(known), min(known) > 0
    room = max(1.15, (_LEAST_SPAN * low / high) ** 0.5) if log else 1.1
    up = Scale(low / room if log else 0.0, high * room or 1.0, bottom, top, log)
    ends = [next(value for value in reversed(curve.values) if value is not None) for curve in curves]
    labels = [f"{curve.name} {quantity(end, unit)}".strip() for curve, end in zip(curves, ends, strict=True)]
    left, right = _LEFT + 14.0, width - max(map(len, labels)) * LETTER - 10
    step = (right - left) / max(len(commits) - 1, 1)
    body = [line([(_LEFT + 6, bottom), (right + 4, bottom)], "axis")]
    for tick in up.ticks(4) if log else [high]:
        body.append(line([(_LEFT + 6, up(tick)), (right + 4, up(tick))], "grid"))
        body.append(text(_LEFT, up(tick) + 4, quantity(tick, unit), "small", "end"))
    body += [text(_LEFT + 6, bottom + 13, commits[0], "small"), text(right, bottom + 13, commits[-1], "small", "end")]
    spread = apart([up(end) + 3.5 for end in ends], _LINE, top, bottom + 4)
    for curve, label, y in zip(curves, labels, spread, strict=True):
        inner = [line(run, "curve") for run in _runs(curve.values, left, step, up)]
        inner += [
            f'<circle cx="{left + at * step:.1f}" cy="{up(value):.1f}" r="2.6"><title>{escape(tip)}</title></circle>'
            for at, (value, tip) in enumerate(zip(curve.values, curve.tips, strict=True))
            if value is not None
        ]
        inner.append(text(right + 10, y, label, "name"))
        body.append(f'<g class="series c{curve.colour % 6}" tabindex="0">{"".join(inner)}</g>')
    return svg(width, bottom + 18, body, name, "panel")


def _runs(values: Sequence[float | None], left: float, step: float, up: Scale) -> list[list[Point]]:
    """The pieces of a curve between its gaps; a piece of one value is only a point and left out."""
    runs: list[list[Point]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((left + number * step, up(value)))
    return [run for run in runs if len(run) > 1]
