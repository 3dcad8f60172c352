"""Pictures on the photograph; the maps are computed by fastconv."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, ConnectionPatch
from picture_parts import GOLD, INK, ORANGE, bare, frame, grey, number, photograph, sheet, show, signed

import fastconv

EDGE = np.array([[1, 0, -1]] * 3, np.float32)


def neuron() -> Figure:
    """One neuron on all pixels; the same small window everywhere."""
    photo = photograph(300)
    height, width = photo.shape[:2]
    figure, (everything, source, target) = sheet(11.4, 4.15, 3, width_ratios=(1.45, 1, 1))
    show(everything, photo, f"one neuron on all pixels: {photo.size:,} weights")
    at = (width * 1.32, height / 2)
    for y in np.linspace(8, height - 8, 12):
        for x in np.linspace(8, width - 8, 10):
            everything.plot([x, at[0]], [y, at[1]], color=GOLD, linewidth=0.5, alpha=0.75)
    everything.add_patch(Circle(at, height * 0.045, facecolor=ORANGE, edgecolor="white", linewidth=2, zorder=3))
    everything.set_xlim(-1, width * 1.45)
    planes, weights = np.ascontiguousarray(photo.transpose(2, 0, 1)), np.stack([EDGE] * 3)[None]
    edges = fastconv.conv2d(planes, weights, padding=1, padding_mode="replicate")[0]
    show(source, photo, f"a window of 3×3: {weights.size} weights and a bias, …")
    signed(target, edges, "… the same ones at every pixel")
    side = 18  # a window of 3 pixels would be too small to see
    for (x, y), colour in (((62, 96), ORANGE), ((150, 140), GOLD), ((205, 250), "#7bc67e")):
        frame(source, x - side / 2, y - side / 2, side, side, colour)
        target.plot(x, y, "o", color=colour, markersize=8, markeredgecolor="white")
        for dy in (-side / 2, side / 2):
            line = ConnectionPatch((x + side / 2, y + dy), (x, y), "data", "data", axesA=source, axesB=target,
                                   color=colour, linewidth=1.6)  # fmt: skip
            figure.add_artist(line)
    return figure


def shift() -> Figure:
    """Move the image and the map moves along."""
    image = grey(photograph(400))
    moved = np.roll(image, (30, 60), (0, 1))
    figure, axes = sheet(11, 3.5, 4)
    for pair, what, name in ((axes[:2], image, "image"), (axes[2:], moved, "shifted image")):
        show(pair[0], what, name)
        signed(pair[1], fastconv.conv2d(what, EDGE, padding=1, padding_mode="circular"), f"map of the {name}")
    return figure


def edges() -> Figure:
    """Vertical edges, horizontal edges, and both together."""
    image = grey(photograph(480))
    kernels = (EDGE, EDGE.T)
    vertical, horizontal = (fastconv.conv2d(image, k, padding=1, padding_mode="replicate") for k in kernels)
    strength = np.hypot(vertical, horizontal)
    figure, axes = sheet(11.4, 3.7, 4)
    show(axes[0], image, "the photograph")
    for one, values, kernel, name in (
        (axes[1], vertical, EDGE, "vertical edges"), (axes[2], horizontal, EDGE.T, "horizontal edges"),
    ):  # fmt: skip
        signed(one, values, name)
        _corner(one, kernel)
    axes[3].imshow(-((strength / np.percentile(strength, 99.5)).clip(0, 1) ** 0.7), cmap="gray")
    bare(axes[3], "both: root of the sum of squares")
    return figure


def _corner(axes: Axes, kernel: np.ndarray) -> None:
    """The kernel, enlarged, in the lower left corner."""
    small = axes.inset_axes((0.02, 0.02, 0.25, 0.21))
    small.imshow(kernel, cmap="RdBu_r", vmin=-1.6, vmax=1.6)
    for (row, column), value in np.ndenumerate(kernel):
        small.text(column, row, number(value), ha="center", va="center", fontsize=8, color=INK)
    small.set_xticks([])
    small.set_yticks([])


def padding_modes() -> Figure:
    """A 1x1 kernel with padding leaves the image alone: what comes out is the padded image itself."""
    photo = photograph(360)[30:210, 70:250]
    planes = np.ascontiguousarray(np.moveaxis(photo, -1, 0))[:, None]
    around = 60
    figure, axes = sheet(11.4, 3.2, 4)
    for one, mode in zip(axes, ("zeros", "replicate", "reflect", "circular"), strict=True):
        padded = fastconv.conv2d(planes, np.ones((1, 1, 1, 1), "float32"), padding=around, padding_mode=mode)
        show(one, np.moveaxis(padded[:, 0], 0, -1), f'padding_mode="{mode}"')
        size = photo.shape[0]
        frame(one, around - 0.5, around - 0.5, size, size, "white", linestyle="--", linewidth=1.6)
    return figure


def _glow(axes: Axes, strength: np.ndarray, title: str) -> None:
    """From black to bright; faint values are lifted."""
    axes.imshow((strength / strength.max()) ** 0.7, cmap="magma", interpolation="antialiased")
    bare(axes, title, 11)


def pooling() -> Figure:
    """Edges pooled with growing windows, by maximum and by mean."""
    image = grey(photograph(480))
    image = image[: image.shape[0] // 32 * 32, : image.shape[1] // 32 * 32]
    strength = np.abs(fastconv.conv2d(image, EDGE, padding=1, padding_mode="replicate"))
    figure, axes = sheet(11.4, 7.2, 4, 2)
    show(axes[0, 0], image, f"the photograph, {image.shape[0]} × {image.shape[1]}", 11)
    _glow(axes[1, 0], strength, "its vertical edges")
    kinds = (("max", fastconv.max_pool2d), ("average", fastconv.avg_pool2d))
    for row, (name, function) in zip(axes, kinds, strict=True):
        for one, size in zip(row[1:], (4, 8, 16), strict=True):
            pooled = function(strength, size)
            _glow(one, pooled, f"{name} {size}×{size}: {pooled.shape[0]} × {pooled.shape[1]}")
    return figure
