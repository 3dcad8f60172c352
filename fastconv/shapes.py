"""The axes of arrays: any rank and layout as (n, c, d, h, w), and shapes that the caller gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.arguments import check_int
from fastconv.spec import ConvSpec


def canonical(array: np.ndarray, spec: ConvSpec) -> np.ndarray:
    """A view with the axes (n, c, d, h, w), whatever the layout and rank of ``array``."""
    plain, unbatched = array.ndim == spec.ndim, array.ndim == spec.ndim + 1
    if plain:
        array = array[None, None]
    else:
        array = array[None] if unbatched else array
        array = np.moveaxis(array, -1, 1) if spec.channels_last else array
    return array[:, :, *[None] * (3 - spec.ndim)]


def canonical_axes(ndim: int, spatial: int, channels_last: bool) -> tuple[int, ...]:
    """Which axis of an array with ``ndim`` axes is n, c, d, h and w; -1 where it has none.

    >>> canonical_axes(4, 2, channels_last=True)
    (0, 3, -1, 1, 2)
    """
    axes = list(range(ndim))
    lead = [-1, -1] if ndim == spatial else [-1] if ndim == spatial + 1 else [axes.pop(0)]
    if len(lead) == 1:
        lead.append(axes.pop() if channels_last else axes.pop(0))
    return (*lead, *[-1] * (3 - spatial), *axes)


def canonical_weight_axes(ndim: int, spatial: int) -> tuple[int, ...]:
    """Which axis of weights with ``ndim`` axes is oc, ic / g, kd, kh and kw; -1 where they have none.

    >>> canonical_weight_axes(2, 2)
    (-1, -1, -1, 0, 1)
    """
    lead = (-1, -1) if ndim == spatial else (0, 1)
    return (*lead, *[-1] * (3 - spatial), *range(ndim - spatial, ndim))


def canonical_weights(w: np.ndarray, ndim: int) -> np.ndarray:
    """A view with the axes (oc, ic / g, kd, kh, kw), whatever the rank of ``w``."""
    w = w[None, None] if w.ndim == ndim else w
    return w[:, :, *[None] * (3 - ndim)]


def check_shape(shape: Any, name: str = "x_shape") -> tuple[int, ...]:
    """A shape as a tuple of ints, or an error that names it."""
    try:
        return tuple(check_int(v, name) for v in shape)
    except TypeError:
        said = repr(shape) if isinstance(shape, (tuple, list)) else f"a {type(shape).__name__}"
        raise TypeError(f"{name}={said} must be a tuple of ints") from None


def split_shape(shape: tuple[int, ...], ndim: int, channels_last: bool) -> tuple[int, int, tuple[int, ...]]:
    """Batch, channels and spatial size of an ``x`` with or without batch and channel axis."""
    if len(shape) == ndim:
        return 1, 1, shape
    n, rest = (1, shape) if len(shape) == ndim + 1 else (shape[0], shape[1:])
    return (n, rest[-1], rest[:-1]) if channels_last else (n, rest[0], rest[1:])
