"""Pictures of worked examples: every number in them is computed by fastconv."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from picture_parts import BLUE, GOLD, INK, ORANGE, SKY, board, cells, frame, number, sheet, sign

import fastconv
from fastconv import grad

IMAGE, KERNEL = np.arange(9.0).reshape(3, 3), np.arange(4.0).reshape(2, 2)
FOUR = (SKY, GOLD, "#b7d8a8", "#f2b8a2")


def counts() -> Figure:
    """Parameters of four ways to look at a photograph of 2000 x 1500 pixels."""
    pixels = 2000 * 1500 * 3
    rows = [
        ("1000 neurons, each on all pixels", 1000 * (pixels + 1)),
        ("one neuron on all pixels", pixels + 1),
        ("64 convolutions of 3×3×3", 64 * 28),
        ("one convolution of 3×3×3", 28),
    ]
    figure, (axes,) = sheet(8.6, 2.7)
    names, values = zip(*rows[::-1], strict=True)
    bars = axes.barh(names, values, color=[BLUE, BLUE, ORANGE, ORANGE], height=0.62, log=True)
    axes.bar_label(bars, [f"{v:,}" for v in values], padding=6, fontsize=11, color=INK)
    axes.set_xlim(1, 3e12)
    axes.tick_params(labelsize=11, colors=INK, length=0)
    axes.set_xticks([1, 1e3, 1e6, 1e9], ["1", "thousand", "million", "billion"])
    axes.grid(axis="x", color="#d8dde2")
    axes.set_axisbelow(True)
    axes.minorticks_off()
    axes.spines[:].set_visible(False)
    axes.set_title("parameters to learn", fontsize=12, color=INK)
    return figure


def window() -> Figure:
    """The 2x2 window on its four places in the 3x3 image."""
    result = fastconv.conv2d(IMAGE, KERNEL)
    figure, steps = sheet(10.4, 4.5, 2, 2)
    for (y, x), axes in zip(np.ndindex(2, 2), steps.ravel(), strict=True):
        board(axes, 11, 3.9)
        under = {(y + r, x + s): SKY for r, s in np.ndindex(2, 2)}
        cells(axes, IMAGE, marks=under)
        sign(axes, 3.75, 1.5, "★", 15)
        cells(axes, KERNEL, (4.5, 0.5), fill=SKY)
        sign(axes, 7.2, 1.5, "=")
        done = np.where(np.arange(4).reshape(2, 2) <= 2 * y + x, result, np.nan)
        cells(axes, done, (8, 0.5), marks={(y, x): GOLD})
        terms = " + ".join(f"{a:g}·{b:g}" for a, b in zip(IMAGE[y : y + 2, x : x + 2].flat, KERNEL.flat, strict=True))
        sign(axes, 5.1, 3.6, f"{terms} = {result[y, x]:g}", 12.5)
    return figure


def padding_and_stride() -> Figure:
    """Padding 1: all sixteen places, and those that a stride of (3, 2) keeps."""
    full, kept = (fastconv.conv2d(IMAGE, KERNEL, stride=s, padding=1) for s in (1, (3, 2)))
    padded = np.pad(IMAGE, 1)
    border = np.pad(np.zeros((3, 3), bool), 1, constant_values=True)
    figure, (left, right) = sheet(11.6, 3.1, 2)
    board(left, 10.6, 5, "padding 1, stride 1")
    cells(left, padded, pale=border, marks={(r, s): GOLD for r, s in np.ndindex(2, 2)})
    sign(left, 5.65, 2.5, "→")
    cells(left, full, (6.3, 0.5), marks={(0, 0): GOLD})
    board(right, 10.6, 5, "padding 1, stride 3 down and 2 across")
    places = dict(zip(np.ndindex(2, 2), FOUR, strict=True))
    under = {(3 * y + r, 2 * x + s): colour for (y, x), colour in places.items() for r, s in np.ndindex(2, 2)}
    cells(right, padded, pale=border, marks=under)
    sign(right, 6, 2.5, "→")
    cells(right, kept, (7, 1.5), marks=places)
    return figure


def channels() -> Figure:
    """Two input channels: each with its own kernel, then the sum."""
    x, w = np.stack([IMAGE, IMAGE + 1]), np.stack([KERNEL, KERNEL + 1])
    total = fastconv.conv2d(x, w[None])[0]
    figure, (axes,) = sheet(9.6, 4.3)
    board(axes, 15.4, 7)
    for c, (top, colour) in enumerate(((0, SKY), (4, GOLD))):
        cells(axes, x[c], (0, top), fill=colour)
        sign(axes, 3.8, top + 1.5, "★", 15)
        cells(axes, w[c], (4.6, top + 0.5), fill=colour)
        sign(axes, 7.4, top + 1.5, "=")
        cells(axes, fastconv.conv2d(x[c], w[c]), (8.2, top + 0.5), fill=colour)
    sign(axes, 9.2, 3.5, "+")
    axes.annotate("", (12.6, 3.5), (10.6, 3.5), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.4})
    cells(axes, total, (13, 2.5), fill="#d5e8c8")
    for x_, text in ((1.5, "two channels"), (5.6, "one filter"), (9.2, "two results"), (14, "one map")):
        sign(axes, x_, 7.4, text, 11)
    axes.set_ylim(7.8, -0.1)
    return figure


def pool() -> Figure:
    """Max and average pooling with a 2x2 window that moves by one."""
    figure, both = sheet(9.6, 2.6, 2)
    pools = (("largest of the window", fastconv.max_pool2d), ("mean of the window", fastconv.avg_pool2d))
    for axes, (title, function) in zip(both, pools, strict=True):
        board(axes, 6.6, 3, title)
        cells(axes, IMAGE, marks={(r, s): SKY for r, s in np.ndindex(2, 2)})
        sign(axes, 3.8, 1.5, "→")
        cells(axes, function(IMAGE, 2, 1), (4.5, 0.5), marks={(0, 0): SKY})
    return figure


def transposed() -> Figure:
    """Every input element paints the kernel times itself; where prints overlap they add up."""
    x = KERNEL
    figure, (axes,) = sheet(12.4, 2.8)
    board(axes, 21.2, 3.8)
    cells(axes, x, (0, 0.5), marks=dict(zip(np.ndindex(2, 2), FOUR, strict=True)))
    sign(axes, 2.65, 1.5, "→")
    for i, (y, s) in enumerate(np.ndindex(2, 2)):
        one = np.zeros((2, 2))
        one[y, s] = x[y, s]
        stamp = fastconv.conv_transpose2d(one, KERNEL)
        seen = np.zeros((3, 3), bool)
        seen[y : y + 2, s : s + 2] = True
        left = 3.3 + 3.8 * i
        stamped = {place: FOUR[i] for place in np.ndindex(3, 3) if seen[place]}
        cells(axes, np.where(seen, stamp, np.nan), (left, 0), pale=~seen, marks=stamped)
        sign(axes, left + 3.4, 1.5, "+" if i < 3 else "=")
        sign(axes, left + 1.5, 3.5, f"{x[y, s]:g} × kernel", 11)
    cells(axes, fastconv.conv_transpose2d(x, KERNEL), (18.5, 0), fill="#d5e8c8")
    axes.set_xlim(-0.1, 21.7)
    return figure


def learning() -> Figure:
    """Gradient descent finds the edge detector: the loss, and the two weights on their way."""
    image = np.ones((6, 8))
    image[:, 2:6] = 0
    wanted = fastconv.conv2d(image, np.array([[1.0, -1.0]]))
    w, losses, weights = np.array([[0.2, 0.3]]), [], []
    for _ in range(41):
        difference = fastconv.conv2d(image, w) - wanted
        losses.append(float((difference**2).sum()))
        weights.append(w[0])
        slope = grad.conv2d_weight(image[None], (1, 1, 1, 2), 2 * difference[None])
        w = w - 0.03 * slope[0, 0]
    figure, (loss, path) = sheet(9.6, 3.0, 2)
    loss.semilogy(losses, color=BLUE, linewidth=2.5)
    loss.set_title("sum of squared differences", fontsize=12, color=INK)
    for column, colour, target in ((0, ORANGE, 1), (1, BLUE, -1)):
        path.axhline(target, color="#c3cad1", linewidth=1, linestyle="--")
        path.plot(np.array(weights)[:, column], color=colour, linewidth=2.5)
        path.text(40.6, target, f"w[{column}] → {number(target)}", color=colour, va="center", fontsize=12)
    path.set_title("the two weights", fontsize=12, color=INK)
    path.set_xlim(0, 40)
    for axes in (loss, path):
        _quiet(axes)
    return figure


def strides() -> Figure:
    """Which places of a 3x3 window on 8x8 pixels are computed."""
    figure, all_three = sheet(11.4, 4.1, 3)
    settings = (((3, 3), 1, 1), ((3, 3), 2, 1), ((3, 5), (3, 4), (0, 1)))
    titles = ("3×3, padding 1", "3×3, padding 1, stride 2", "3×5, padding (0, 1), stride (3, 4)")
    for axes, (kernel, stride, padding), title in zip(all_three, settings, titles, strict=True):
        down, across = (stride, stride) if isinstance(stride, int) else stride
        top, left = (padding, padding) if isinstance(padding, int) else padding
        size = fastconv.conv2d(np.ones((8, 8)), np.ones(kernel), stride=stride, padding=padding).shape
        board(axes, 10, 10, f"{title}: {size[0]}×{size[1]}")
        outside = np.pad(np.zeros((8, 8), bool), ((top, top), (left, left)), constant_values=True)
        cells(axes, np.full(outside.shape, np.nan), pale=outside)
        for y, x in np.ndindex(*size):
            middle = (across * x + kernel[1] / 2, down * y + kernel[0] / 2)
            axes.plot(*middle, "o", color=ORANGE if (y, x) in ((0, 0), (0, 1)) else BLUE, markersize=7)
        for x, colour in ((0, ORANGE), (1, ORANGE)):
            frame(axes, across * x, 0, kernel[1], kernel[0], colour, linestyle="-" if x == 0 else "--")
    return figure


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10, colors=INK)
    axes.set_xlabel("step", fontsize=11, color=INK)
    axes.grid(color="#e4e8ec")
    axes.set_axisbelow(True)
