"""The demo's picture: the photograph, what the filters see, and how fast each backend was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colors, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle

from fastconv.cli.demo_field import Seen
from fastconv.cli.demo_filters import ORIENTATIONS, vertical_edges

_SHOWN = 16  # maps of a layer, in a square
_GAP = 4  # pixels between maps
_FIELDS = ("#ffffff", "#f6c453", "#ff5a36")  # boxes after each layer of the stack


def draw(
    path: Path, photo: np.ndarray, maps: Mapping[str, np.ndarray], seen: Sequence[Seen], rates: Mapping[str, float],
    title: str,
) -> None:  # fmt: skip
    """Write the PNG. ``photo`` (h, w, 3) from 0 to 1; ``maps`` (channels, h, w) by step; ``rates`` in GFLOP/s."""
    figure = Figure(figsize=(18, 11.4), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.08), facecolor="white")
    figure.suptitle(title, fontsize=17, fontweight="bold")
    axes = figure.subplots(2, 4)
    _image(axes[0, 0], photo, f"photograph, {photo.shape[1]} x {photo.shape[0]}, and what one element sees")
    _fields(axes[0, 0], photo, seen)
    _signed(axes[0, 1], maps["edges"][0], "vertical edges, 3x3")
    _image(axes[0, 2], _orientation(maps["bank"]), f"strongest of {ORIENTATIONS} orientations, 11x11 (hue: direction)")
    _signed(axes[0, 3], mosaic(maps["bank"], columns=3), f"the bank's {ORIENTATIONS} responses")
    _strength(axes[1, 0], maps["stem"], "conv 7x7 / 2 and ReLU")
    _strength(axes[1, 1], maps["pool"], "max-pool 3x3 / 2")
    _signed(axes[1, 2], mosaic(_some(maps["corners"]), columns=4), f"conv 3x3, {_count(maps['corners'])}")
    _bars(axes[1, 3], rates)
    _inset(axes[0, 1], vertical_edges()[0, 0])
    figure.savefig(path, format="png")


def mosaic(maps: np.ndarray, columns: int) -> np.ndarray:
    """Maps (c, h, w) side by side in rows, each scaled by its own largest values, NaN between them.

    The square root of the size is shown: most responses are faint, and small maps lose more.
    """
    c, h, w = maps.shape
    rows = -(-c // columns)
    sheet = np.full((rows * (h + _GAP) - _GAP, columns * (w + _GAP) - _GAP), np.nan, np.float32)
    for i, one in enumerate(maps):
        y, x = i // columns * (h + _GAP), i % columns * (w + _GAP)
        scaled = np.clip(one / _scale(one), -1, 1)
        sheet[y : y + h, x : x + w] = np.sign(scaled) * np.abs(scaled) ** 0.5
    return sheet


def _some(maps: np.ndarray) -> np.ndarray:
    """An even choice that goes through the orientations and the kinds of filter."""
    if len(maps) <= _SHOWN:
        return maps
    chosen: np.ndarray = maps[np.linspace(0, len(maps) - 1, _SHOWN).astype(int)]
    return chosen


def _count(maps: np.ndarray) -> str:
    return f"{min(_SHOWN, len(maps))} of {len(maps)} maps"


def _scale(values: np.ndarray) -> float:
    return float(np.percentile(np.abs(values), 99.5)) or 1.0


def _image(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(np.clip(image, 0, 1))
    _frame(axes, title)


def _signed(axes: Axes, values: np.ndarray, title: str) -> None:
    limit = _scale(values[np.isfinite(values)])
    axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="antialiased")
    _frame(axes, title)


def _strength(axes: Axes, maps: np.ndarray, title: str) -> None:
    axes.imshow(mosaic(_some(maps), columns=4), cmap="magma", vmin=0, vmax=1, interpolation="antialiased")
    _frame(axes, f"{title}, {_count(maps)} of {maps.shape[2]} x {maps.shape[1]}")


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=12)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _orientation(bank: np.ndarray) -> np.ndarray:
    """Hue: the orientation that answers most; brightness: how much."""
    power = np.abs(bank)
    best, strength = power.argmax(axis=0), power.max(axis=0)
    value = np.clip(strength / _scale(strength), 0, 1) ** 0.6
    hsv = np.stack([best / len(bank), np.full_like(value, 0.85), value], axis=-1)
    return np.asarray(colors.hsv_to_rgb(hsv))


def _inset(axes: Axes, kernel: np.ndarray) -> None:
    """The kernel itself, enlarged, in a corner."""
    image = OffsetImage(np.kron(kernel, np.ones((16, 16))), cmap="RdBu_r", interpolation="nearest")
    axes.add_artist(AnnotationBbox(image, (0.02, 0.02), xycoords="axes fraction", box_alignment=(0, 0), pad=0.1))


def _fields(axes: Axes, photo: np.ndarray, seen: Sequence[Seen]) -> None:
    """Boxes around the pixels that one element sees after each layer, on the photograph and magnified."""
    rows, columns = seen[-1].region
    half = max(rows.stop - rows.start, columns.stop - columns.start) // 2
    below = rows.start + rows.stop < photo.shape[0]  # where the photograph has room
    close = axes.inset_axes((0.56, 0.02 if below else 0.57, 0.42, 0.41))
    close.imshow(np.clip(photo, 0, 1), interpolation="nearest")
    close.set_xlim(columns.start - half - 0.5, columns.stop + half - 0.5)
    close.set_ylim(rows.stop + 1.8 * half, rows.start - 0.6 * half)
    close.set_facecolor("black")
    close.set_xticks([])
    close.set_yticks([])
    close.spines[:].set(color="white", linewidth=2)
    axes.indicate_inset_zoom(close, edgecolor="white", linewidth=1.5, alpha=1)
    outline = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    for i, (one, colour) in enumerate(zip(seen, _FIELDS, strict=True)):
        (y, x), (h, w) = ([r.start for r in one.region], [r.stop - r.start for r in one.region])
        for where, width in ((axes, 1.0), (close, 2.5)):
            where.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=colour, linewidth=width))
        text = f"{one.size[0]}: {one.layer.split()[0]}"
        close.annotate(text, (0, 0), (4, 25 - 10 * i), "axes fraction", "offset points", color=colour, fontsize=8.5,
                       path_effects=outline)  # fmt: skip


def _bars(axes: Axes, rates: Mapping[str, float]) -> None:
    names = list(rates)[::-1]
    bars = axes.barh(names, [rates[n] for n in names], color="#33658a")
    axes.bar_label(bars, [f"{rates[n]:.{0 if rates[n] >= 10 else 1}f}" for n in names], padding=4, fontsize=12)
    axes.set_title("GFLOP/s over the steps each backend takes", fontsize=12)
    axes.margins(x=0.15)
    axes.tick_params(labelsize=12)
    axes.spines[["top", "right"]].set_visible(False)
