"""What the pictures of the tutorial share: the photograph, the colours, tables of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from PIL import Image

INK, BLUE, SKY, GOLD, ORANGE, PALE = "#22313f", "#33658a", "#a9cfe5", "#f6c453", "#e4572e", "#f2f4f6"
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def photograph(side: int | None = None) -> np.ndarray:
    """Matplotlib's sample portrait, float32 (h, w, 3) from 0 to 1, at most ``side`` long."""
    with Image.open(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg") as file:
        image = file.convert("RGB")
    if side is not None:
        image.thumbnail((side, side))
    return np.asarray(image, np.float32) / 255


def grey(photo: np.ndarray) -> np.ndarray:
    """Brightness, (h, w)."""
    return np.ascontiguousarray(photo @ LUMINANCE)


def sheet(width: float, height: float, columns: int = 1, rows: int = 1, **options: object) -> tuple[Figure, np.ndarray]:
    """A white figure and its axes, always as an array."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08), facecolor="white")
    return figure, np.atleast_1d(figure.subplots(rows, columns, **options))


def bare(axes: Axes, title: str = "", size: float = 12) -> Axes:
    """No ticks, no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, fontsize=size, color=INK)
    return axes


def show(axes: Axes, image: np.ndarray, title: str = "", size: float = 12) -> None:
    """An image of colours, or of brightness from 0 to 1."""
    axes.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    bare(axes, title, size)


def signed(axes: Axes, values: np.ndarray, title: str = "", size: float = 12) -> None:
    """Red where positive, blue where negative; faint values are lifted."""
    limit = float(np.percentile(np.abs(values), 99.5)) or 1.0
    lifted = np.sign(values) * np.abs(np.clip(values / limit, -1, 1)) ** 0.7
    axes.imshow(lifted, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="antialiased")
    bare(axes, title, size)


def board(axes: Axes, width: float, height: float, title: str = "") -> Axes:
    """Axes on which one unit is the side of a cell, y downwards."""
    axes.set_xlim(-0.1, width + 0.1)
    axes.set_ylim(height + 0.1, -0.1)
    axes.set_aspect("equal")
    return bare(axes, title)


def cells(
    axes: Axes, values: np.ndarray, at: tuple[float, float] = (0, 0), *, fill: str = "white",
    marks: Mapping[tuple[int, int], str] | None = None, pale: np.ndarray | None = None, size: float = 13,
) -> None:  # fmt: skip
    """A table of numbers with its top left corner ``at`` (x, y); ``marks`` colours cells, ``pale`` greys them.

    NaN is an empty cell.
    """
    pale = np.zeros(values.shape, bool) if pale is None else pale
    for row, column in sorted(np.ndindex(values.shape), key=lambda cell: not pale[cell]):  # dark lines on top
        value, faint = values[row, column], bool(pale[row, column])
        x, y = at[0] + column, at[1] + row
        colour = (marks or {}).get((row, column), PALE if faint else fill)
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor=INK, linewidth=0.4 if faint else 1.1))
        if not np.isnan(value):
            ink = "#8a97a3" if faint else INK
            axes.text(x + 0.5, y + 0.52, number(value), ha="center", va="center", fontsize=size, color=ink)


def number(value: float) -> str:
    """With a true minus sign."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def sign(axes: Axes, x: float, y: float, text: str, size: float = 17, colour: str = INK) -> None:
    """An operator or a word between tables."""
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=colour)


def frame(axes: Axes, x: float, y: float, width: float, height: float, colour: str, **options: object) -> None:
    """An empty rectangle."""
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, **({"linewidth": 2.5} | options)))
