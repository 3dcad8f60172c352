"""Pictures of what an output sees, and of a network's weights; sizes by fastconv.receptive_field and fastconv.nn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from picture_parts import BLUE, GOLD, INK, ORANGE, SKY, bare, frame, photograph, sheet, show

import fastconv
from fastconv import nn

Layers = Sequence[str]


def cones() -> Figure:
    """Three stacks in one axis: the inputs that one output of the last layer sees."""
    stacks = (
        ("three layers of 3", ("k3", "k3", "k3"), ((3, 1, 1),) * 3),
        ("3, pooling 2 / 2, 3", ("k3", "k2s2", "k3"), ((3, 1, 1), (2, 2, 1), (3, 1, 1))),
        ("dilation 1, 2, 4", ("k3", "k3d2", "k3d4"), ((3, 1, 1), (3, 1, 2), (3, 1, 4))),
    )
    figure, axes = sheet(11.6, 3.6, 3)
    for one, (title, layers, taps) in zip(axes, stacks, strict=True):
        _cone(one, layers, taps)
        one.set_title(title, fontsize=12, color=INK)
    return figure


def _cone(axes: Axes, layers: Layers, taps: Sequence[tuple[int, int, int]], inputs: int = 17) -> None:
    """Rows of dots from the input (below) to the last layer; ``taps`` (kernel, stride, dilation) of each layer."""
    fields = fastconv.receptive_field(layers)
    centres = [np.arange(inputs, dtype=float)]
    for field in fields:
        places = field.offset[0] + field.stride[0] * np.arange(inputs) + (field.size[0] - 1) / 2
        last = places + (field.size[0] - 1) / 2
        centres.append(places[last <= inputs - 1])
    seen = {len(centres[-1]) // 2}
    for level in range(len(layers), -1, -1):
        faint = np.delete(centres[level], sorted(seen))
        axes.plot(faint, np.full(len(faint), level), "o", color="#dbe1e7", markersize=6, zorder=1)
        bright = centres[level][sorted(seen)]
        axes.plot(bright, np.full(len(bright), level), "o", color=ORANGE if level else BLUE, markersize=7, zorder=3)
        if level:
            kernel, stride, dilation = taps[level - 1]
            below = {(o, stride * o + t * dilation) for o in seen for t in range(kernel)}
            for o, i in below:
                axes.plot([centres[level][o], centres[level - 1][i]], [level, level - 1], color=GOLD, zorder=2)
            seen = {i for _, i in below}
        text = f"{layers[level - 1]}: sees {fields[level - 1].size[0]}" if level else "input"
        axes.text(-1, level, text, fontsize=10.5, color=INK, ha="right", va="center")
    axes.set_ylim(-0.35, len(layers) + 0.35)
    axes.set_xlim(-7, inputs - 0.2)
    bare(axes)


def on_photograph() -> Figure:
    """The fields of the five stages of VGG-16, around one pixel."""
    stages = [["k3p1"] * 2 + ["k2s2"]] * 2 + [["k3p1"] * 3 + ["k2s2"]] * 3
    photo = photograph()
    fields = fastconv.receptive_field([layer for stage in stages for layer in stage], photo.shape[:2])
    ends = [fields[sum(map(len, stages[: i + 1])) - 1] for i in range(len(stages))]
    figure, (whole, close) = sheet(9.6, 5.6, 2)
    place = (190, 306)
    for axes in (whole, close):
        show(axes, photo)
        for field, colour in zip(ends, ("#ffffff", SKY, "#7be08a", GOLD, ORANGE), strict=True):
            axis = zip(place, field.offset, field.size, field.stride, strict=True)
            rows, columns = field.region([round((at - first - size / 2) / step) for at, first, size, step in axis])
            frame(axes, columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start, colour)
            if (field.size[0] > 40) == (axes is whole):
                _name(axes, columns.start, rows.start, f"{field.size[0]}", colour)
    whole.set_title("what one output of each VGG-16 stage sees", fontsize=12, color=INK)
    close.set_xlim(place[1] - 30, place[1] + 30)
    close.set_ylim(place[0] + 35, place[0] - 35)
    close.set_title("closer: the first three stages", fontsize=12, color=INK)
    return figure


def _name(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A word above the corner of a box, legible on any ground."""
    outline = [patheffects.withStroke(linewidth=2.5, foreground=INK)]
    axes.text(x, y - 0.5, text, color=colour, fontsize=11, fontweight="bold", va="bottom", path_effects=outline)


def network() -> Figure:
    """Where LeNet has its parameters, and where it has its work."""
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    summary = net.summary((1, 1, 28, 28)).to_dict()
    sizes = {name: tuple(array.shape[:2]) for name, array in net.named_parameters()}
    rows = []
    for row in summary["layers"]:
        if row["parameters"]:
            out, taken = sizes[f"{row['name']}.weight"]
            rows.append((f"{row['layer']} {taken} → {out}", row["parameters"], row["flops"]))
    names, weights, operations = zip(*rows[::-1], strict=True)
    figure, (left, right) = sheet(9.6, 2.7, 2, sharey=True)
    for axes, values, title in ((left, weights, "parameters"), (right, operations, "operations for one image")):
        bars = axes.barh(names, values, color=[BLUE if n.startswith("Linear") else ORANGE for n in names], height=0.65)
        shares = [f"{v:,}  ({100 * v / sum(values):.0f} %)" for v in values]
        axes.bar_label(bars, shares, padding=5, fontsize=10.5, color=INK)
        axes.set_xlim(0, max(values) * 1.55)
        _bars(axes, title)
    return figure


def _bars(axes: Axes, title: str) -> None:
    """Bars need names on one side, and nothing else."""
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=11, colors=INK)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=12, color=INK)
