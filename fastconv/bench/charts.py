"""Charts as SVG text: pure functions of data, coloured by the page's classes, read without a script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

ROW = 19
"""Height of one bar with its label."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``."""

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
        return round(self.start + min(max(part, 0.0), 1.0) * (self.end - self.start), 1)

    def decades(self) -> list[float]:
        """Powers of ten within a logarithmic scale."""
        return [
            10.0**e for e in range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
        ]


@dataclass(frozen=True, slots=True)
class Bar:
    """One contestant: its value and quartiles, the text behind it and the one that pops up."""

    label: str
    value: float | None  # None: wrong, not timed
    low: float
    high: float
    text: str
    kind: str  # class of the bar: ours, peer, wrong
    tip: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A point with what pops up over it."""

    x: float
    y: float
    kind: str
    tip: str


@dataclass(frozen=True, slots=True)
class Line:
    """A polyline of (x, y) with a name at its start."""

    points: tuple[tuple[float, float], ...]
    kind: str
    label: str = ""


def svg(width: float, height: float, body: Iterable[str], name: str) -> str:
    """An image that scales with the page and says what it is."""
    inside = "".join(body)
    return (f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(name)}" '
            f'style="max-width:{width:g}px">{inside}</svg>')  # fmt: skip


def text(x: float, y: float, what: str, kind: str = "", anchor: str = "start") -> str:
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}{at}>{escape(what)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{kind}"/>'


def short(value: float) -> str:
    """A number of three digits, with k, M or G behind it.

    >>> short(0.0123), short(192.4), short(1.5e4), short(2.31e9)
    ('0.0123', '192', '15k', '2.31G')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def bars(rows: Sequence[Bar], limit: float | None, limit_name: str, name: str) -> str:
    """Horizontal bars, fastest first, with whiskers from quartile to quartile and a dashed line at ``limit``."""
    left, right, width = 128, 178, 520
    top = 16 if limit else 4
    height = top + ROW * len(rows) + 4
    highest = max([*(row.high for row in rows if row.value is not None), limit or 0.0, 1e-9])
    scale = Scale(0.0, highest, left, left + width - left - right, log=False)
    body = []
    if limit:
        x = scale(limit)
        body += [line(x, top - 2, x, height, "limit"), text(x, 11, limit_name, "small", "middle")]
    for number, row in enumerate(rows):
        y = top + ROW * number
        body.append(f'<g class="{row.kind}"><title>{escape(row.tip)}</title>')
        body.append(text(left - 6, y + 13, row.label, "label", "end"))
        if row.value is None:
            body.append(text(left + 2, y + 13, row.text, "wrong"))
        else:
            end = scale(row.value)
            body.append(f'<rect x="{left}" y="{y + 3}" width="{round(end - left, 1):g}" height="{ROW - 6}" rx="1.5"/>')
            middle = y + ROW / 2
            body.append(line(scale(row.low), middle, scale(row.high), middle, "whisker"))
            body.append(text(max(end, scale(row.high)) + 5, y + 13, row.text, "value"))
        body.append("</g>")
    return svg(width, height, body, name)


def dots_by_row(rows: Sequence[tuple[str, Sequence[Dot], float, str]], name: str) -> str:
    """Ratios on a logarithmic axis: a row a group with its dots, a bar at the mean and a text at the end."""
    left, width, top, step = 120, 760, 22, 22
    values = [dot.x for _, dots, _, _ in rows for dot in dots] or [1.0]
    low, high = min(0.5, *values) / 1.15, max(2.0, *values) * 1.15
    scale = Scale(low, high, left, width - 178)
    height = top + step * len(rows) + 6
    body = []
    for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        if low <= tick <= high:
            body.append(line(scale(tick), top - 4, scale(tick), height, "one" if tick == 1 else "grid"))
            body.append(text(scale(tick), 12, f"{tick:g}", "small", "middle"))
    for number, (group, dots, mean, note) in enumerate(rows):
        y = top + step * number + step / 2
        body.append(text(left - 8, y + 4, group, "label", "end"))
        body.append(line(scale(mean), y - 8, scale(mean), y + 8, "mean"))
        body += [_circle(scale(dot.x), y, dot) for dot in dots]
        body.append(text(width - 170, y + 4, note, "value"))
    return svg(width, height, body, name)


def _circle(x: float, y: float, dot: Dot, radius: float = 4) -> str:
    title = f"<title>{escape(dot.tip)}</title>"
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{dot.kind}">{title}</circle>'


def plane(lines: Sequence[Line], dots: Sequence[Dot], titles: tuple[str, str], name: str,
          size: tuple[float, float] = (540, 380)) -> str:  # fmt: skip
    """Lines and dots on two logarithmic axes."""
    width, height = size
    xs = [dot.x for dot in dots] + [x for one in lines for x, _ in one.points]
    ys = [dot.y for dot in dots] + [y for one in lines for _, y in one.points]
    across = Scale(min(xs) / 1.4, max(xs) * 1.4, 58, width - 12)
    up = Scale(min(ys) / 1.4, max(ys) * 1.4, height - 40, 12)
    body = []
    for tick in across.decades():
        body.append(line(across(tick), 12, across(tick), height - 40, "grid"))
        body.append(text(across(tick), height - 25, short(tick), "small", "middle"))
    for tick in up.decades():
        body.append(line(58, up(tick), width - 12, up(tick), "grid"))
        body.append(text(52, up(tick) + 4, short(tick), "small", "end"))
    body.append(text((58 + width) / 2, height - 6, titles[0], "small", "middle"))
    middle = (height - 28) / 2
    body.append(f'<text transform="translate(12 {middle:g}) rotate(-90)" class="small" text-anchor="middle">'
                f"{escape(titles[1])}</text>")  # fmt: skip
    for one in lines:
        points = " ".join(f"{across(x):g},{up(y):g}" for x, y in one.points)
        body.append(f'<polyline points="{points}" class="{one.kind}"/>')
    for one in lines:  # names above all lines
        x, y = one.points[0]
        if one.label:
            body.append(text(across(x) + 2, up(y) - 4, one.label, "small"))
    for dot in dots:
        body.append(_circle(across(dot.x), up(dot.y), dot))
    return svg(width, height, body, name)


def spark(values: Sequence[float | None], tips: Sequence[str], name: str) -> str:
    """A small curve over commits, from zero; gaps where a commit has no value."""
    width, height = 230, 54
    known = [value for value in values if value is not None]
    up = Scale(0.0, max(known) * 1.1 or 1.0, height - 4, 4, log=False)
    step = (width - 20) / max(len(values) - 1, 1)
    body, run = [], []
    for number, value in enumerate([*values, None]):
        if value is not None:
            run.append((round(10 + number * step, 1), up(value)))
        elif run:
            body.append(f'<polyline points="{" ".join(f"{x:g},{y:g}" for x, y in run)}" class="curve"/>')
            run = []
    for number, (value, tip) in enumerate(zip(values, tips, strict=True)):
        if value is not None:
            body.append(_circle(round(10 + number * step, 1), up(value), Dot(0, 0, "ours", tip), 3))
    return svg(width, height, body, name)
