"""Records and tables from which `numba_geometry` and `numba_channels` make a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastconv import tuning
from fastconv.lowering import Axis, Lowered, strip_pixels

Ints = tuple[int, ...]


class Layout(NamedTuple):
    """What a geometry must know of the arrays; strides in elements.

    ``place``: the strides of an x whose pixels follow each other, so that it might be read where it is; ``weights``:
    those of plain weights, None where these are packed; ``finite``: all of them are known to be; ``joined``: rows of
    what is written follow each other.
    """

    place: Ints | None = None
    weights: Ints | None = None
    finite: bool = False
    joined: bool = False


@dataclass(frozen=True, eq=False)
class Cut:
    """A layer in tasks of rows x cols outputs of ``oc_step`` channels.

    A task packs ``held`` input channels at a time; ``chans`` are summed from zero before they are added.
    """

    low: Lowered
    rows: int
    cols: int
    oc_step: int
    chans: int
    held: int

    @property
    def strip_rows(self) -> int:
        return self.rows + self.low.h.reach

    @property
    def pitch(self) -> int:
        return self.cols + self.low.w.reach

    @property
    def plane(self) -> int:
        """Pixels of one channel of a strip."""
        return strip_pixels(self.low, self.rows, self.cols)

    @property
    def single(self) -> bool:
        """Whether (tap, channel) pairs are taps: with few channels the loop over them would be too short."""
        return self.low.taps > 1 and self.low.icg <= min(tuning.NUMBA_SINGLE_CHANNELS, self.chans)


@dataclass(frozen=True, eq=False)
class Part:
    """What one kind of kernels adds to a job: the function of its loops, fields, and the tables these point to.

    ``kernels``: the shapes of its micro-kernels, in the order in which the job counts them; ``direct``: see
    `shifted_numba.CALL`; ``strip``, ``sums``: elements of scratch.
    """

    loops: str
    fields: dict[str, int]
    tables: tuple[np.ndarray, ...]
    kernels: tuple[Ints, ...]
    direct: bool
    strip: int
    sums: int


def kept(**parts: Any) -> tuple[tuple[np.ndarray, ...], dict[str, int]]:
    """Tables of int64, and their addresses."""
    arrays = tuple(np.ascontiguousarray(part, np.int64).reshape(-1) for part in parts.values())
    return arrays, {name: array.ctypes.data for name, array in zip(parts, arrays, strict=True)}


def padded_taps(axis: Axis) -> np.ndarray:
    """Padded position of each tap of output 0."""
    return np.array([axis.tap_position(tap) for tap in range(axis.taps)])


def strip_taps(low: Lowered, strip_rows: int, pitch: int) -> np.ndarray:
    """Offset of each tap in a channel of a strip, as `strip_numba.pack_strip` lays it out."""
    h_phase, h_offset = np.array(low.h.tap_phase), np.array(low.h.tap_offset)
    w_phase, w_offset = np.array(low.w.tap_phase), np.array(low.w.tap_offset)
    image = np.arange(low.d.taps)[:, None] * len(low.h.phases) + h_phase
    image = image[:, :, None] * len(low.w.phases) + w_phase
    taps: np.ndarray = (image * strip_rows + h_offset[:, None]) * pitch + w_offset
    return taps.reshape(-1)


def place_taps(low: Lowered, strides: Ints) -> np.ndarray:
    """Offset of each tap in ``x`` itself, from where its padding would begin."""
    d, h, w = (padded_taps(axis) * stride for axis, stride in zip(low.axes, strides[2:], strict=True))
    taps: np.ndarray = d[:, None, None] + h[:, None] + w
    return taps.reshape(-1)
