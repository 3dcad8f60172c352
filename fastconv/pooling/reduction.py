"""Windows combined, searched, and given back to the elements that they show; on bare arrays (n, c, ...).

Each tap of a window is one shifted, strided view. A window's sum or maximum is taken axis by axis, so that a 3x3
window costs 6 passes and not 9; a maximum whose place is wanted is taken tap by tap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.pooling.geometry import Windows


def along(array: np.ndarray, axis: int, part: slice) -> np.ndarray:
    """A slice of one axis."""
    return array[(slice(None),) * axis + (part,)]


def like(array: np.ndarray, axis: int, length: int) -> np.ndarray:
    """An empty array with another length along one axis, its axes in the same order in memory."""
    return np.empty_like(array, shape=(*array.shape[:axis], length, *array.shape[axis + 1 :]))


def combine(ufunc: np.ufunc, identity: float, source: np.ndarray, windows: Sequence[Windows], out: np.ndarray) -> None:
    """Write to ``out`` what ``ufunc`` makes of each window of ``source``; ``identity`` where one shows nothing."""
    for axis, track in enumerate(windows, 2):
        target = out if axis == source.ndim - 1 else like(source, axis, track.out)
        target[...] = identity
        for k in range(track.kernel):
            shown, outputs = track.tap(k)
            part = along(target, axis, outputs)
            ufunc(part, along(source, axis, shown), out=part)
        source = target


def spread(source: np.ndarray, windows: Sequence[Windows], out: np.ndarray) -> None:
    """Add to each element of ``out``, first zeroed, what all windows that show it hold: the transpose of a sum."""
    for axis, track in reversed(list(enumerate(windows, 2))):
        target = out if axis == 2 else like(source, axis, track.size)
        target[...] = 0
        for k in range(track.kernel):
            shown, outputs = track.tap(k)
            part = along(target, axis, shown)
            np.add(part, along(source, axis, outputs), out=part)
        source = target


def lowest(dtype: np.dtype[Any]) -> float:
    """The number that no element is below."""
    return -math.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


def search(
    source: np.ndarray, windows: Sequence[Windows], weights: Sequence[int], best: np.ndarray, found: np.ndarray
) -> None:
    """Write the largest element of each window to ``best`` and where it is to ``found``; -1 where one shows nothing.

    A place is the sum of position times weight over the axes. Of equal elements it is the first, of NaN the last
    (PyTorch's rule).
    """
    best[...] = lowest(best.dtype)
    found[...] = -1
    for taps in itertools.product(*([track.tap(k) for k in range(track.kernel)] for track in windows)):
        target: Any = (..., *(outputs for _, outputs in taps))
        at: Any = (..., *(shown for shown, _ in taps))
        seen = source[at]
        better = (seen > best[target]) | (seen != seen) | (found[target] < 0)
        np.copyto(best[target], seen, where=better)
        here = np.zeros((), np.int64)
        for (shown, _), weight in zip(taps, weights, strict=True):
            here = here[..., None] + weight * np.arange(shown.start, shown.stop, shown.step)
        np.copyto(found[target], here, where=better)


def places(source: np.ndarray, windows: Sequence[Windows]) -> np.ndarray:
    """Where the largest element of each window is in its plane, counted row by row."""
    found = np.empty((*source.shape[:2], *(track.out for track in windows)), np.int64)
    search(source, windows, plane_weights(source.shape[2:]), np.empty(found.shape, source.dtype), found)
    return found


def plane_weights(size: Sequence[int], by_columns: bool = False) -> list[int]:
    """What one step along each axis adds to a place in a plane."""
    if by_columns:
        return [math.prod(size[:axis]) for axis in range(len(size))]
    return [math.prod(size[axis + 1 :]) for axis in range(len(size))]


def scatter(values: np.ndarray, places: np.ndarray, out: np.ndarray, add: bool) -> None:
    """Write or add ``values`` at their places in the planes of ``out``, zero elsewhere; -1 is no place."""
    at = _flat(places, out.shape)
    flat = np.zeros(out.size + 1, out.dtype)  # the last element takes what has no place
    if add:
        np.add.at(flat, at, values.reshape(-1))
    else:
        flat[at] = values.reshape(-1)
    out[...] = flat[:-1].reshape(out.shape)


def gather(source: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """What `scatter` would have written: the elements of the planes of ``source`` at ``places``, 0 for -1."""
    at = _flat(places, source.shape)
    flat = np.zeros(source.size + 1, source.dtype)
    flat[:-1] = source.reshape(-1)
    out[...] = flat[at].reshape(out.shape)


def _flat(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    first = math.prod(shape[2:]) * np.arange(shape[0] * shape[1])[:, None]
    rows = places.reshape(shape[0] * shape[1], -1)
    return np.where(rows < 0, -1, rows + first).reshape(-1)


def to_plane(places: np.ndarray, whole: tuple[int, ...], planes: tuple[slice, slice], plane: int) -> np.ndarray:
    """Places in one plane of those that count through the whole (n, c, ...) array, for a piece of it."""
    return np.where(places < 0, -1, places - _firsts(whole, planes, plane, places.ndim))


def to_whole(places: np.ndarray, whole: tuple[int, ...], planes: tuple[slice, slice], plane: int) -> None:
    """Make places in one plane, for a piece of the array, count through the whole (n, c, ...) array."""
    np.add(places, _firsts(whole, planes, plane, places.ndim), out=places, where=places >= 0)


def _firsts(whole: tuple[int, ...], planes: tuple[slice, slice], plane: int, ndim: int) -> np.ndarray:
    numbers = np.arange(whole[0] * whole[1]).reshape(whole[:2])[planes]
    return (plane * numbers).reshape(*numbers.shape, *[1] * (ndim - 2))


def check_places(places: np.ndarray, plane: int) -> None:
    """Refuse places that are none of a plane."""
    if places.size and not (places.min() >= -1 and places.max() < plane):
        worst = int(places.max() if places.max() >= plane else places.min())
        raise ValueError(
            f"indices holds {worst}, no position in a plane of {plane} elements (-1 is none); pass those that "
            "the pool returned, and its size"
        )
