"""What one element of the demo's last layer sees of the photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import fastconv

STACK = (("conv 7x7/2", "k7s2p3"), ("max-pool 3x3/2", "k3s2p1"), ("conv 3x3", "k3p1"))
"""The layers from the photograph to the corners, as `demo_steps` computes them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One element after one layer, and the pixels (rows, columns) that it sees."""

    layer: str
    size: tuple[Any, ...]
    stride: tuple[Any, ...]
    element: tuple[int, ...]
    region: tuple[slice, ...]

    def to_dict(self) -> dict[str, Any]:
        plain = {name: list(getattr(self, name)) for name in ("size", "stride", "element")}
        return {"layer": self.layer, **plain, "region": [[part.start, part.stop] for part in self.region]}


def look(maps: np.ndarray, photo_size: tuple[int, int]) -> list[Seen]:
    """The fields of the element of ``maps`` (c, h, w) that answers most, and of those before it at the same place."""
    fields = fastconv.receptive_field([text for _, text in STACK], photo_size)
    place, last = strongest(maps), fields[-1]
    result = []
    for (name, _), field in zip(STACK, fields, strict=True):
        # The padding keeps every window's centre on the same pixel, so that places follow from the strides.
        element = tuple(i * b // a for i, a, b in zip(place, field.stride, last.stride, strict=True))
        result.append(Seen(name, field.size, field.stride, element, field.region(element)))
    return result


def strongest(maps: np.ndarray) -> tuple[int, ...]:
    """Where the channels together answer most; off the border, where there is anything else."""
    strength = np.abs(maps).sum(axis=0)
    margin = 3 if min(strength.shape) > 6 else 0
    inside = strength[margin : strength.shape[0] - margin, margin : strength.shape[1] - margin]
    return tuple(int(i) + margin for i in np.unravel_index(inside.argmax(), inside.shape))
