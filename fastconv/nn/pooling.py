"""Pools over windows as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv import pooling
from fastconv.arguments import check_bool, check_int, check_ints
from fastconv.nn.module import Shape, Spatial
from fastconv.pooling.norms import check_power
from fastconv.spec import PoolSpec

Ints = int | tuple[int, ...]


class _Windows(Spatial):
    """A pool over windows; `_pool` is the function of `fastconv.pooling` without the number of axes."""

    _pool: str

    def __init__(
        self, kernel_size: Ints, stride: Ints | None, padding: Ints, dilation: Ints, ceil_mode: bool, layout: str | None
    ) -> None:
        super().__init__(layout)
        self.kernel_size = check_ints(kernel_size, self.ndim, "kernel_size")
        self.stride = self.kernel_size if stride is None else check_ints(stride, self.ndim, "stride")
        self.padding = check_ints(padding, self.ndim, "padding")
        self.dilation = check_ints(dilation, self.ndim, "dilation")
        self.ceil_mode = check_bool(ceil_mode, "ceil_mode")
        self.receptive(None)  # raises where the options do not make a pool

    def receptive(self, size: Shape | None) -> PoolSpec:
        extent = tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return PoolSpec(1, 1, size or tuple(max(n, 1) for n in extent), self.kernel_size, self.stride, self.padding,
                        self.dilation, self.ceil_mode)  # fmt: skip

    def _shape(self, x_shape: Shape) -> Shape:
        channels, size = self._split(x_shape)
        if 0 in size:
            raise ValueError("every spatial axis needs at least one element")
        return self._join(x_shape, channels, self.receptive(size).output_size)

    def _compute(self, x: np.ndarray) -> Any:
        self._split(x.shape)
        return getattr(pooling, f"{self._pool}_pool{self.ndim}d")(x, **self._options(), layout=self.layout)

    def _options(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "ceil_mode")
        return {name: getattr(self, name) for name in names}


class MaxPool2d(_Windows):
    """Largest element of each window of (n, c, h, w) or (c, h, w).

    Parameters
    ----------
    kernel_size, stride, padding, dilation, return_indices, ceil_mode, layout
        As in `fastconv.max_pool2d`; the order is that of PyTorch's layer.

    Raises
    ------
    ValueError, TypeError
        If an option or a call's ``x`` does not fit.

    Examples
    --------
    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 4, 4))
    array([[[ 5.,  7.],
            [13., 15.]]])
    """

    ndim = 2
    _pool = "max"

    def __init__(
        self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
        return_indices: bool = False, ceil_mode: bool = False, *, layout: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode, layout)
        self.return_indices = check_bool(return_indices, "return_indices")

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"dilation": self.dilation, "return_indices": self.return_indices}


class MaxPool1d(MaxPool2d):
    """Largest element of each window of (n, c, w) or (c, w); see `MaxPool2d`.

    Examples
    --------
    >>> MaxPool1d(3, 2, 1).output_shape((1, 8, 10))
    (1, 8, 5)
    """

    ndim = 1


class MaxPool3d(MaxPool2d):
    """Largest element of each window of (n, c, d, h, w) or (c, d, h, w); see `MaxPool2d`.

    Examples
    --------
    >>> MaxPool3d(2).output_shape((1, 8, 4, 6, 8))
    (1, 8, 2, 3, 4)
    """

    ndim = 3


class AvgPool1d(_Windows):
    """Mean of each window of (n, c, w) or (c, w); see `AvgPool2d`.

    Examples
    --------
    >>> AvgPool1d(2)(np.array([[1.0, 3.0, 2.0, 0.0]]))
    array([[2., 1.]])
    """

    ndim = 1
    _pool = "avg"

    def __init__(
        self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, *, layout: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, 1, ceil_mode, layout)
        self.count_include_pad = check_bool(count_include_pad, "count_include_pad")

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"count_include_pad": self.count_include_pad}


class AvgPool2d(AvgPool1d):
    """Mean of each window of (n, c, h, w) or (c, h, w).

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout
        As in `fastconv.avg_pool2d`.

    Raises
    ------
    ValueError, TypeError
        If an option or a call's ``x`` does not fit.

    Examples
    --------
    >>> AvgPool2d(3, 2, 1).output_shape((16, 192, 26, 26))
    (16, 192, 13, 13)
    """

    ndim = 2

    def __init__(
        self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None, *, layout: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad, layout=layout)
        self.divisor_override = None if divisor_override is None else check_int(divisor_override, "divisor_override")
        if self.divisor_override == 0:
            raise ValueError("divisor_override=0 divides by zero; pass None or another number")

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"divisor_override": self.divisor_override}


class AvgPool3d(AvgPool2d):
    """Mean of each window of (n, c, d, h, w) or (c, d, h, w); see `AvgPool2d`.

    Examples
    --------
    >>> AvgPool3d(2).output_shape((1, 8, 4, 6, 8))
    (1, 8, 2, 3, 4)
    """

    ndim = 3


class LPPool2d(_Windows):
    """``(sum of x ** p over the window) ** (1 / p)`` for each window of (n, c, h, w) or (c, h, w).

    Parameters
    ----------
    norm_type : float
        The power p.
    kernel_size, stride, ceil_mode, layout
        As in `fastconv.lp_pool2d`.

    Raises
    ------
    ValueError, TypeError
        If an option or a call's ``x`` does not fit.

    Examples
    --------
    >>> LPPool2d(2, 2)(np.array([[[3.0, 0.0], [0.0, 4.0]]]))
    array([[[5.]]])
    """

    ndim = 2
    _pool = "lp"

    def __init__(
        self, norm_type: float, kernel_size: Ints, stride: Ints | None = None, ceil_mode: bool = False, *,
        layout: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, 0, 1, ceil_mode, layout)
        self.norm_type = check_power(norm_type)

    def _options(self) -> dict[str, Any]:
        return super()._options() | {"norm_type": self.norm_type}


class LPPool1d(LPPool2d):
    """Power mean of each window of (n, c, w) or (c, w); see `LPPool2d`.

    Examples
    --------
    >>> LPPool1d(1, 2)(np.array([[1.0, 3.0]]))
    array([[4.]])
    """

    ndim = 1


class LPPool3d(LPPool2d):
    """Power mean of each window of (n, c, d, h, w) or (c, d, h, w); see `LPPool2d`.

    Examples
    --------
    >>> LPPool3d(2, 2).output_shape((1, 8, 4, 6, 8))
    (1, 8, 2, 3, 4)
    """

    ndim = 3
