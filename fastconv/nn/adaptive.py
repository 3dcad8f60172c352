"""Adaptive pools, and the way back from a maximum pool, as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import arrays, pooling
from fastconv.arguments import LAYOUTS, check_bool, check_int, check_ints
from fastconv.nn.module import Array, Shape, Spatial
from fastconv.spec import ConvSpec
from fastconv.windows import Adaptive

Ints = int | tuple[int, ...]


class AdaptiveAvgPool2d(Spatial):
    """Means of windows chosen so that the result has a given size; ``AdaptiveAvgPool2d(1)`` is the global mean.

    Parameters
    ----------
    output_size : int, or one int or None per axis
        None keeps the axis as it is.
    layout
        As in `fastconv.adaptive_avg_pool2d`.

    Raises
    ------
    ValueError, TypeError
        If an option or a call's ``x`` does not fit.

    Examples
    --------
    >>> AdaptiveAvgPool2d(1)(np.arange(4.0).reshape(1, 2, 2))
    array([[[1.5]]])
    """

    ndim = 2
    _pool = "adaptive_avg"

    def __init__(self, output_size: Any, *, layout: str | None = None) -> None:
        super().__init__(layout)
        entries = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * self.ndim
        if len(entries) != self.ndim:
            raise ValueError(f"output_size={output_size!r} has {len(entries)} entries; expected {self.ndim}")
        self.output_size = tuple(None if v is None else check_int(v, "output_size") for v in entries)
        if any(v is not None and v < 1 for v in self.output_size):
            raise ValueError(f"output_size={output_size!r} must be at least 1")

    def receptive(self, size: Shape | None) -> Adaptive:
        return Adaptive(self.output_size)

    def _shape(self, x_shape: Shape) -> Shape:
        channels, size = self._split(x_shape)
        if 0 in size:
            raise ValueError("every spatial axis needs at least one element")
        wanted = tuple(n if out is None else out for n, out in zip(size, self.output_size, strict=True))
        return self._join(x_shape, channels, wanted)

    def _compute(self, x: np.ndarray) -> Any:
        self._split(x.shape)
        pool = getattr(pooling, f"{self._pool}_pool{self.ndim}d")
        return pool(x, self.output_size, **self._options(), layout=self.layout)

    def _options(self) -> dict[str, Any]:
        return {}


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """`AdaptiveAvgPool2d` for (n, c, w) or (c, w).

    Examples
    --------
    >>> AdaptiveAvgPool1d(2).output_shape((1, 8, 10))
    (1, 8, 2)
    """

    ndim = 1


class AdaptiveAvgPool3d(AdaptiveAvgPool2d):
    """`AdaptiveAvgPool2d` for (n, c, d, h, w) or (c, d, h, w).

    Examples
    --------
    >>> AdaptiveAvgPool3d((1, None, 2)).output_shape((1, 8, 4, 6, 8))
    (1, 8, 1, 6, 2)
    """

    ndim = 3


class AdaptiveMaxPool2d(AdaptiveAvgPool2d):
    """Largest elements of windows chosen so that the result has a given size.

    Parameters
    ----------
    output_size, layout
        As in `AdaptiveAvgPool2d`.
    return_indices : bool
        As in `MaxPool2d`.

    Raises
    ------
    ValueError, TypeError
        If an option or a call's ``x`` does not fit.

    Examples
    --------
    >>> AdaptiveMaxPool2d(1)(np.arange(4.0).reshape(1, 2, 2))
    array([[[3.]]])
    """

    _pool = "adaptive_max"

    def __init__(self, output_size: Any, return_indices: bool = False, *, layout: str | None = None) -> None:
        super().__init__(output_size, layout=layout)
        self.return_indices = check_bool(return_indices, "return_indices")

    def _options(self) -> dict[str, Any]:
        return {"return_indices": self.return_indices}


class AdaptiveMaxPool1d(AdaptiveMaxPool2d):
    """`AdaptiveMaxPool2d` for (n, c, w) or (c, w).

    Examples
    --------
    >>> AdaptiveMaxPool1d(2).output_shape((1, 8, 10))
    (1, 8, 2)
    """

    ndim = 1


class AdaptiveMaxPool3d(AdaptiveMaxPool2d):
    """`AdaptiveMaxPool2d` for (n, c, d, h, w) or (c, d, h, w).

    Examples
    --------
    >>> AdaptiveMaxPool3d(2).output_shape((1, 8, 4, 6, 8))
    (1, 8, 2, 2, 2)
    """

    ndim = 3


class MaxUnpool2d(Spatial):
    """Puts maxima back where they were found, zero elsewhere: call it with the results of a `MaxPool2d`.

    Parameters
    ----------
    kernel_size, stride, padding, layout
        Those of the pool.

    Raises
    ------
    ValueError, TypeError
        If an option or an argument of a call does not fit.

    Examples
    --------
    >>> from fastconv.nn import MaxPool2d
    >>> maxima, indices = MaxPool2d(2, return_indices=True)(np.arange(4.0).reshape(1, 2, 2))
    >>> MaxUnpool2d(2)(maxima, indices)
    array([[[0., 0.],
            [0., 3.]]])
    """

    ndim = 2

    def __init__(
        self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, *, layout: str | None = None
    ) -> None:
        super().__init__(layout)
        self.kernel_size = check_ints(kernel_size, self.ndim, "kernel_size")
        self.stride = self.kernel_size if stride is None else check_ints(stride, self.ndim, "stride")
        self.padding = check_ints(padding, self.ndim, "padding")
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            if min(getattr(self, name)) < least:
                raise ValueError(f"{name}={getattr(self, name)}: every entry must be at least {least}")

    def _compute(self, x: np.ndarray) -> Any:
        raise TypeError(f"{self._name()} needs the indices of the pool too; call it by itself, with both")

    def __call__(self, x: Array, indices: Array | None = None, output_size: Any = None) -> Any:
        """The image of which ``x`` and ``indices`` are the maxima; ``output_size`` where several sizes could be."""
        array = arrays.take(x, "x")
        if indices is None:
            return self._compute(array)
        self._split(array.shape)
        unpool = getattr(pooling, f"max_unpool{self.ndim}d")
        return unpool(x, indices, self.kernel_size, self.stride, self.padding, output_size, layout=self.layout)

    def receptive(self, size: Shape | None) -> ConvSpec:
        """As the transposed convolution that would reach the same places."""
        pairs, dense = tuple((p, p) for p in self.padding), (1,) * self.ndim
        result = self._unpooled(size or tuple(1 + 2 * p for p in self.padding))
        return ConvSpec(1, 1, 1, result, self.kernel_size, self.stride, pairs, dense, op="grad_input",
                        layout=LAYOUTS[self.ndim][0])  # fmt: skip

    def _unpooled(self, size: Shape) -> Shape:
        axes = zip(size, self.kernel_size, self.stride, self.padding, strict=True)
        return tuple((n - 1) * s - 2 * p + k for n, k, s, p in axes)

    def _shape(self, x_shape: Shape) -> Shape:
        channels, size = self._split(x_shape)
        unpooled = self._unpooled(size)
        if min(unpooled) < 1:
            raise ValueError(f"padding={self.padding} leaves an output of size {unpooled}")
        return self._join(x_shape, channels, unpooled)


class MaxUnpool1d(MaxUnpool2d):
    """`MaxUnpool2d` for (n, c, w) or (c, w).

    Examples
    --------
    >>> MaxUnpool1d(2).output_shape((1, 8, 5))
    (1, 8, 10)
    """

    ndim = 1


class MaxUnpool3d(MaxUnpool2d):
    """`MaxUnpool2d` for (n, c, d, h, w) or (c, d, h, w).

    Examples
    --------
    >>> MaxUnpool3d(2).output_shape((1, 8, 2, 3, 4))
    (1, 8, 4, 6, 8)
    """

    ndim = 3
