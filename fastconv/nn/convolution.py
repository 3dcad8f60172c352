"""Convolutions and transposed convolutions as layers that keep their weights and plans."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv import arrays, calls
from fastconv.arguments import check_bool, check_ints
from fastconv.calls import Call, Ints, Padding
from fastconv.nn.module import Array, Shape, Spatial, float_dtype, generator, positive, uniform
from fastconv.nn.plans import Plans
from fastconv.nn.stored import Stored
from fastconv.spec import ConvSpec


class _Weighted(Spatial):
    """What a convolution and its transposed share: options, weights and plans."""

    weight = Stored()
    bias = Stored()

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints, dilation: Ints, groups: int,
        bias: bool, dtype: Any, rng: Any, backend: str, accuracy: str, layout: str | None,
    ) -> None:  # fmt: skip
        super().__init__(layout)
        self.in_channels = positive(in_channels, "in_channels")
        self.out_channels = positive(out_channels, "out_channels")
        self.kernel_size = check_ints(kernel_size, self.ndim, "kernel_size")
        self.stride = check_ints(stride, self.ndim, "stride")
        self.dilation = check_ints(dilation, self.ndim, "dilation")
        self.groups, self.dtype = positive(groups, "groups"), float_dtype(dtype)
        self.backend, self.accuracy = backend, accuracy
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"groups={self.groups} must divide in_channels={self.in_channels} and out_channels={self.out_channels}"
            )
        if min(self.kernel_size) < 1:
            raise ValueError(f"kernel_size={self.kernel_size} must be at least 1 everywhere")
        random = generator(rng)
        shape = self._weight_shape()
        bound = 1 / math.sqrt(math.prod(shape[1:]))  # PyTorch's: Kaiming with a = sqrt(5)
        start = {"weight": uniform(random, bound, shape, self.dtype)}
        if check_bool(bias, "bias"):
            start["bias"] = uniform(random, bound, (self.out_channels,), self.dtype)
        self._store(start)

    def flops(self, x_shape: Shape) -> int:
        self.output_shape(x_shape)
        return self._call(tuple(x_shape)).spec.flops

    def _store(self, new: Mapping[str, np.ndarray]) -> None:
        super()._store(new)
        self._plans = Plans()  # a call that runs now keeps the old one, weights and all

    def _weight_shape(self) -> Shape:
        raise NotImplementedError

    def _call(self, x_shape: Shape) -> Call:
        raise NotImplementedError

    def _smallest(self) -> Shape:
        """The size of some image that the layer takes."""
        raise NotImplementedError

    def _shape(self, x_shape: Shape) -> Shape:
        channels, _ = self._split(x_shape)
        if channels != self.in_channels:
            raise ValueError(f"it has {channels} channels; the layer takes {self.in_channels} and reads {self.layout}")
        spec = self._call(x_shape).spec
        return spec.result_shape[self.ndim + 2 - len(x_shape) :]

    def _spec_for(self, size: Shape | None) -> ConvSpec:
        return self._call(self._join((1,) * (self.ndim + 2), self.in_channels, size or self._smallest())).spec


class _Conv(_Weighted):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints = 1, padding: Padding = 0,
        dilation: Ints = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", dtype: Any = None, *,
        rng: Any = None, backend: str = "auto", accuracy: str = "high", layout: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, groups, bias, dtype, rng, backend,
                         accuracy, layout)  # fmt: skip
        self.padding_mode = padding_mode
        self.padding = _padding(padding, self.ndim)
        self._spec_for(None)  # raises where the options do not make a convolution

    def receptive(self, size: Shape | None) -> ConvSpec:
        if size is None and str(self.padding).startswith("same") and set(self.stride) != {1}:
            raise ValueError(
                f"{self._name()}: padding={self.padding!r} with a stride depends on the size of the image; "
                "pass input_size"
            )
        return self._spec_for(size)

    def _compute(self, x: np.ndarray) -> np.ndarray:
        self._check_dtype(x, self.dtype)
        plan = self._plans.get(x.shape, lambda: self._call(x.shape))
        return np.asarray(plan(x))

    def _weight_shape(self) -> Shape:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def _call(self, x_shape: Shape) -> Call:
        stored = self._arrays  # one look: another thread may load new ones between two
        return calls.forward(self.ndim, x_shape, self.dtype.name, stored["weight"], stored.get("bias"), self.stride,
                             self.padding, self.dilation, self.groups, self.padding_mode, self.layout, None, False,
                             (0, 0), self.backend, self.accuracy, None)  # fmt: skip

    def _smallest(self) -> Shape:
        most = 0 if isinstance(self.padding, str) else int(np.max(self.padding))
        return tuple((k - 1) * d + 1 + most for k, d in zip(self.kernel_size, self.dilation, strict=True))


class Conv2d(_Conv):
    """2-D convolution of (n, in_channels, h, w) or (in_channels, h, w); PyTorch's parameters.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or one int per axis
    padding : int, one int or pair per axis, or str
        As in `fastconv.conv2d`.
    groups : int
    bias : bool
        Whether there is a bias.
    padding_mode : {'zeros', 'reflect', 'replicate', 'circular'}
    dtype : {'float32', 'float64'}, optional
        dtype of parameters, input and result; default float32.
    rng : int or numpy.random.Generator, optional
        Source of the first weights: uniform between plus and minus ``1 / sqrt(fan_in)``, as PyTorch starts.
    backend, accuracy, layout
        As in `fastconv.conv2d`.

    Attributes
    ----------
    weight : numpy.ndarray, (out_channels, in_channels / groups, kh, kw)
        Read-only; assign an array to change it. Packed once, for all images to come.
    bias : numpy.ndarray, (out_channels,), or None

    Raises
    ------
    ValueError, TypeError
        If an option does not fit, or a call's ``x``; the message names the layer and both shapes.

    Examples
    --------
    >>> layer = Conv2d(128, 192, 1, 1)
    >>> layer
    Conv2d(128, 192, kernel_size=(1, 1))
    >>> layer.output_shape((16, 128, 26, 26))
    (16, 192, 26, 26)
    """

    ndim = 2


class Conv1d(_Conv):
    """1-D convolution of (n, in_channels, w) or (in_channels, w); see `Conv2d`.

    Examples
    --------
    >>> Conv1d(3, 8, 5, padding="causal")(np.zeros((3, 20), "float32")).shape
    (8, 20)
    """

    ndim = 1


class Conv3d(_Conv):
    """3-D convolution of (n, in_channels, d, h, w) or (in_channels, d, h, w); see `Conv2d`.

    Examples
    --------
    >>> Conv3d(3, 8, 3).weight.shape
    (8, 3, 3, 3, 3)
    """

    ndim = 3


class _ConvTranspose(_Weighted):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Ints, stride: Ints = 1, padding: Padding = 0,
        output_padding: Ints = 0, groups: int = 1, bias: bool = True, dilation: Ints = 1, padding_mode: str = "zeros",
        dtype: Any = None, *, rng: Any = None, backend: str = "auto", accuracy: str = "high", layout: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, groups, bias, dtype, rng, backend,
                         accuracy, layout)  # fmt: skip
        if padding_mode != "zeros":
            raise ValueError(f"padding_mode={padding_mode!r}: a transposed convolution has 'zeros' only")
        self.padding_mode = padding_mode
        self.padding = _padding(padding, self.ndim)
        self.output_padding = check_ints(output_padding, self.ndim, "output_padding")
        self._spec_for(None)  # raises where the options do not make a convolution

    def __call__(self, x: Array, output_size: Ints | None = None) -> Any:
        """The result for ``x``; ``output_size``, int or one per axis, takes the place of ``output_padding``."""
        if output_size is None:
            return super().__call__(x)
        array = arrays.take(x, "x")
        self.output_shape(array.shape)
        return arrays.give_back(self._compute(array, self._spare(array.shape, output_size)), x)

    def receptive(self, size: Shape | None) -> ConvSpec:
        return self._spec_for(size)

    def _compute(self, x: np.ndarray, spare: Shape | None = None) -> np.ndarray:
        self._check_dtype(x, self.dtype)
        plan = self._plans.get((x.shape, spare), lambda: self._call(x.shape, spare))
        return np.asarray(plan(x))

    def _weight_shape(self) -> Shape:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def _call(self, x_shape: Shape, spare: Shape | None = None) -> Call:
        stored = self._arrays
        return calls.transposed(self.ndim, x_shape, self.dtype.name, stored["weight"], stored.get("bias"), self.stride,
                                self.padding, self.output_padding if spare is None else spare, self.groups,
                                self.dilation, self.layout, None, False, self.backend, self.accuracy,
                                None)  # fmt: skip

    def _smallest(self) -> Shape:
        return tuple(1 + 2 * (0 if isinstance(self.padding, str) else int(np.max(self.padding))) for _ in self.stride)

    def _spare(self, x_shape: Shape, output_size: Ints) -> Shape:
        """The output padding that leads to ``output_size``."""
        wanted = check_ints(output_size, self.ndim, "output_size")
        least = self._call(x_shape, (0,) * self.ndim).spec.input_size
        most = [max(s, d) - 1 for s, d in zip(self.stride, self.dilation, strict=True)]
        spare = tuple(a - b for a, b in zip(wanted, least, strict=True))
        if any(not 0 <= v <= limit for v, limit in zip(spare, most, strict=True)):
            greatest = tuple(a + b for a, b in zip(least, most, strict=True))
            raise ValueError(f"{self._name()}: output_size={wanted} must be between {least} and {greatest}")
        return spare


class ConvTranspose2d(_ConvTranspose):
    """2-D transposed convolution of (n, in_channels, h, w) or (in_channels, h, w); PyTorch's parameters.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, dilation
        As in `fastconv.conv_transpose2d`.
    bias, dtype, rng, backend, accuracy, layout
        As in `Conv2d`.
    padding_mode : {'zeros'}

    Attributes
    ----------
    weight : numpy.ndarray, (in_channels, out_channels / groups, kh, kw)
    bias : numpy.ndarray, (out_channels,), or None

    Raises
    ------
    ValueError, TypeError
        As `Conv2d`.

    Examples
    --------
    >>> layer = ConvTranspose2d(8, 4, 3, stride=2)
    >>> layer(np.zeros((1, 8, 5, 5), "float32")).shape, layer(np.zeros((1, 8, 5, 5), "float32"), output_size=12).shape
    ((1, 4, 11, 11), (1, 4, 12, 12))
    """

    ndim = 2


class ConvTranspose1d(_ConvTranspose):
    """1-D transposed convolution of (n, in_channels, w) or (in_channels, w); see `ConvTranspose2d`.

    Examples
    --------
    >>> ConvTranspose1d(8, 4, 2, stride=2)(np.zeros((8, 5), "float32")).shape
    (4, 10)
    """

    ndim = 1


class ConvTranspose3d(_ConvTranspose):
    """3-D transposed convolution of (n, in_channels, d, h, w) or (in_channels, d, h, w); see `ConvTranspose2d`.

    Examples
    --------
    >>> ConvTranspose3d(8, 4, 2, stride=2).output_shape((1, 8, 2, 3, 4))
    (1, 4, 4, 6, 8)
    """

    ndim = 3


def _padding(value: Any, ndim: int) -> Any:
    """A name as it is, pairs as tuples, else one int per axis."""
    if isinstance(value, str):
        return value
    if isinstance(value, (tuple, list)) and any(isinstance(v, (tuple, list)) for v in value):
        return calls.paddings(value, (0,) * ndim, (), (), ())
    return check_ints(value, ndim, "padding")
