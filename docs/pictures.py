"""Draw the pictures of the tutorial: ``python docs/pictures.py [FOLDER]`` (default: docs/pictures)."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import picture_fields
import picture_numbers
import picture_photos

PICTURES = {
    "neuron.png": picture_photos.neuron,
    "counts.svg": picture_numbers.counts,
    "shift.png": picture_photos.shift,
    "window.svg": picture_numbers.window,
    "edges.png": picture_photos.edges,
    "learning.svg": picture_numbers.learning,
    "padding.svg": picture_numbers.padding_and_stride,
    "strides.svg": picture_numbers.strides,
    "padding-modes.png": picture_photos.padding_modes,
    "channels.svg": picture_numbers.channels,
    "pool.svg": picture_numbers.pool,
    "pooling.png": picture_photos.pooling,
    "fields.svg": picture_fields.cones,
    "field-photo.png": picture_fields.on_photograph,
    "network.svg": picture_fields.network,
    "transposed.svg": picture_numbers.transposed,
}


def draw(folder: Path) -> None:
    """Write every picture into ``folder``; the same bytes each time, so that a build notices no change."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "fastconv", "font.family": "DejaVu Sans"}):
        for name, picture in PICTURES.items():
            metadata = {"Date": None} if name.endswith("svg") else {"Software": None}
            picture().savefig(folder / name, dpi=130, metadata=metadata)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures")
