"""What is to be computed, as frozen data: one convolution or pooling layer, in any number of axes.

A spec holds sizes only, no arrays. Whatever it accepts is a well-formed problem: all checks of
numbers against each other happen here, once. Axes run outermost first: (d, h, w), (h, w) or (w,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from fastconv import layer_text
from fastconv.arguments import LAYOUTS, Pair, check_layout, named_padding

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
ACCURACIES = ("exact", "high", "fast")
OPS = ("forward", "grad_input", "grad_weight")
DIALECTS = ("torch", "onnx")
AXES = layer_text.AXES
LARGEST_AXIS = 2**31 - 1
ACTIVATIONS = ("relu", "relu6", "silu", "gelu", "gelu_tanh", "hardswish", "leaky_relu")
ACCUMULATOR = {
    "float32": "float32",
    "float64": "float64",
    "int8": "int32",
    "uint8": "int32",
    "int16": "int64",
    "uint16": "int64",
    "int32": "int64",
    "uint32": "int64",
    "int64": "int64",
    "uint64": "uint64",
}
"""dtype of ``x`` and ``w`` -> dtype of the sums and of the result: the promotion table.

8- and 16-bit integers are exact. Integers of 32 and 64 bits wrap modulo 2**64, as NumPy's do."""


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What happens to a finished sum before it is stored: ``act(sum + bias + residual)``."""

    activation: str | None = None
    parameter: float = 0.0

    def __post_init__(self) -> None:
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation={self.activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)} or None"
            )


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """One convolution layer: sizes, options and element types.

    Parameters
    ----------
    n, ic, oc, g : int
        Batch, input channels, output channels, groups.
    input_size, kernel_size, stride, dilation : tuple of int
        One number per spatial axis (1, 2 or 3 of them); dilation 1 is dense.
    padding : tuple of (int, int)
        Elements added before and after each spatial axis.
    padding_mode : {'zeros', 'reflect', 'replicate', 'circular'}
    layout : str
        Order of the axes of input and output: 'NCHW', 'NHWC' or their 1-D and 3-D kin.
    dtype, w_dtype : str
        Element type of the input and of the weights.
    accuracy : {'exact', 'high', 'fast'}
    op : {'forward', 'grad_input', 'grad_weight'}
        What is computed of the layer whose sizes these are: its output; the gradient to its input, which is also the
        transposed convolution; the gradient to its weights.
    spare : tuple of int
        Elements at the end of the padded input that no window reaches (``output_padding``); default 0.
    x_zero_point : int
        The integer that stands for 0 in 8-bit input: products are of ``x - x_zero_point``, the padding is 0.

    Raises
    ------
    ValueError
        If the numbers do not make a convolution; the message names argument, value and remedy.
    """

    n: int
    ic: int
    oc: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[Pair, ...]
    dilation: tuple[int, ...]
    g: int = 1
    padding_mode: str = "zeros"
    layout: str = "NCHW"
    dtype: str = "float32"
    w_dtype: str = "float32"
    accuracy: str = "high"
    op: str = "forward"
    spare: tuple[int, ...] = ()
    x_zero_point: int = 0

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise ValueError(f"op={self.op!r} is unknown; choose one of {', '.join(OPS)}")
        object.__setattr__(self, "spare", self.spare or (0,) * self.ndim)
        for name, size in (("n", self.n), ("ic", self.ic), ("oc", self.oc), ("input_size", min(self.input_size))):
            if size < 0:
                raise ValueError(f"{name}={getattr(self, name)} is negative; sizes are at least 0")
            if size > LARGEST_AXIS:
                raise ValueError(f"{name}={getattr(self, name)} is more than {LARGEST_AXIS}; split the layer")
        for name in ("stride", "dilation", "kernel_size"):
            for value in getattr(self, name):
                if not 1 <= value <= LARGEST_AXIS:
                    rule = f"every entry must be at least 1 and at most {LARGEST_AXIS}"
                    raise ValueError(f"{name}={getattr(self, name)} has {value}; {rule}")
        for size, pair in zip(self.input_size, self.padding, strict=True):
            if size + sum(pair) > LARGEST_AXIS:
                raise ValueError(
                    f"an axis of {size} elements with padding={pair} is longer than {LARGEST_AXIS}; cut the image"
                )
        if any(side < 0 for pair in self.padding for side in pair):
            raise ValueError(f"padding={self.padding} is negative; crop x by slicing instead")
        if self.g < 1:
            raise ValueError(f"groups={self.g} must be at least 1")
        if self.ic % self.g or self.oc % self.g:
            raise ValueError(f"groups={self.g} must divide the {self.ic} input and the {self.oc} output channels")
        if self.padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode={self.padding_mode!r} is unknown; choose one of {', '.join(PADDING_MODES)}")
        check_layout(self.layout, self.ndim)
        if self.accuracy not in ACCURACIES:
            raise ValueError(f"accuracy={self.accuracy!r} is unknown; choose one of {', '.join(ACCURACIES)}")
        for axis in range(self.ndim):
            self._check_axis(axis)
        self._check_exact()

    def _check_axis(self, axis: int) -> None:
        size, (before, after), name = self.input_size[axis], self.padding[axis], AXES[axis - self.ndim]
        extent, padded = self.extent[axis], size + before + after - self.spare[axis]
        if extent > padded:
            raise ValueError(
                f"the kernel spans {extent} elements along {name} but the padded input has {padded}; "
                f"pad by {extent - padded} more or use a smaller kernel"
            )
        limit = {"reflect": size - 1, "circular": size, "replicate": padded if size else 0}.get(self.padding_mode)
        if limit is not None and max(before, after) > max(limit, 0):
            raise ValueError(
                f"padding={(before, after)} along {name} is more than padding_mode={self.padding_mode!r} "
                f"can take from {size} elements (at most {max(limit, 0)}); use a smaller padding or 'zeros'"
            )

    def _check_exact(self) -> None:
        """8-bit sums live in int32: refuse the layers whose worst case does not fit."""
        if self.acc_dtype == "int32":
            largest = {"int8": 128, "uint8": 255, "int16": 255}  # int16: 8-bit weights less their zero point
            worst = (
                self.terms * self._copies * (255 if self.x_zero_point else largest[self.dtype]) * largest[self.w_dtype]
            )
            if worst > 2**31 - 1:
                raise ValueError(
                    f"{self.terms * self._copies} products of {self.dtype} and {self.w_dtype} can exceed int32 sums; "
                    "convert x and w to int16, whose sums are int64"
                )

    @property
    def _copies(self) -> int:
        """Padded positions whose gradients may be added up in one, at most."""
        if self.op != "grad_input" or self.padding_mode == "zeros":
            return 1
        sides = ((p, q) if self.padding_mode == "replicate" else (p > 0, q > 0) for p, q in self.padding)
        return math.prod(1 + p + q for p, q in sides)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.input_size)

    @property
    def extent(self) -> tuple[int, ...]:
        """Input elements that the dilated kernel spans, per axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def output_size(self) -> tuple[int, ...]:
        """Spatial size of the result."""
        return tuple(
            (size + before + after - spare - extent) // stride + 1
            for size, (before, after), spare, extent, stride in zip(
                self.input_size, self.padding, self.spare, self.extent, self.stride, strict=True
            )
        )

    @property
    def acc_dtype(self) -> str:
        """Element type of the sums and of the result."""
        return ACCUMULATOR[self.dtype]

    @property
    def channels_last(self) -> bool:
        return self.layout.endswith("C")

    @property
    def x_shape(self) -> tuple[int, ...]:
        return self._in_layout(self.ic, self.input_size)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self._in_layout(self.oc, self.output_size)

    def _in_layout(self, channels: int, size: tuple[int, ...]) -> tuple[int, ...]:
        return (self.n, *size, channels) if self.channels_last else (self.n, channels, *size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.oc, self.ic // self.g, *self.kernel_size)

    @property
    def operand_shape(self) -> tuple[int, ...]:
        """Shape of the array that is convolved."""
        return self.out_shape if self.op == "grad_input" else self.x_shape

    @property
    def constant_shape(self) -> tuple[int, ...]:
        """Shape of the array that it is convolved with."""
        return self.out_shape if self.op == "grad_weight" else self.w_shape

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of what comes out."""
        return {"forward": self.out_shape, "grad_input": self.x_shape, "grad_weight": self.w_shape}[self.op]

    @property
    def operand_channels(self) -> int:
        """Channels of the array that is convolved."""
        return self.oc if self.op == "grad_input" else self.ic

    @property
    def result_channels(self) -> int:
        """Channels of the result, each with one bias."""
        return self.ic if self.op == "grad_input" else self.oc

    @property
    def taps(self) -> int:
        """Positions of the kernel."""
        return math.prod(self.kernel_size)

    @property
    def terms(self) -> int:
        """Products summed into one element of the result, at most."""
        if self.op == "grad_weight":
            return self.n * math.prod(self.output_size)
        return (self.ic if self.op == "forward" else self.oc) // self.g * self.taps

    @property
    def flops(self) -> int:
        """Floating-point operations of the direct algorithm: one multiply and one add per term."""
        return 2 * self.n * self.oc * math.prod(self.output_size) * (self.ic // self.g) * self.taps

    @property
    def bytes(self) -> int:
        """Bytes that must move at least: both operands read once, the result written once."""
        bits = (
            int(dtype.removeprefix("u").removeprefix("int").removeprefix("float"))
            for dtype in (self.dtype, self.w_dtype, self.acc_dtype)
        )
        item, w_item, out_item = (b // 8 for b in bits)
        x, w, out = (math.prod(s) for s in (self.operand_shape, self.constant_shape, self.result_shape))
        return x * item + w * w_item + out * out_item

    def with_shape(self, n: int, size: tuple[int, ...], padding: str | None = None) -> ConvSpec:
        """The same layer for another batch and size of its operand; ``padding`` names a padding to work out anew."""
        if self.op == "grad_input":
            back = zip(size, self.stride, self.extent, self.padding, self.spare, strict=True)
            size = tuple((out - 1) * s + extent - sum(pair) + spare for out, s, extent, pair, spare in back)
        if padding is None:
            return replace(self, n=n, input_size=size)
        axes = zip(size, self.kernel_size, self.stride, self.dilation, strict=True)
        pairs = tuple(named_padding(padding, *axis, self.ndim) for axis in axes)
        return replace(self, n=n, input_size=size, padding=pairs)

    @property
    def text(self) -> str:
        """The layer as text, shortest form; `parse_layer` reads it back.

        >>> parse_layer("ic64ih56iw56oc64kh3kw3pt1pb1pl1pr1").text
        'ic64ih56oc64k3p1'
        """
        return layer_text.write(
            self.n,
            self.ic,
            self.input_size,
            self.oc,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.g,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """All that a backend is told: the layer, the epilogue, and how it was decided to compute it."""

    spec: ConvSpec
    epilogue: Epilogue
    algorithm: str
    max_workspace: int | None = None


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pooling layer. Sizes as in `ConvSpec`; ``c`` channels are pooled each on its own.

    ``padding`` is one number or one (before, after) pair per axis. ``ceil_mode`` rounds the output size up; the
    last window is then dropped if it starts in the end padding. ``compat`` is the dialect: 'torch' takes no padding of
    more than half of a window, 'onnx' takes any.
    """

    n: int
    c: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int | Pair, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    compat: str = "torch"

    def __post_init__(self) -> None:
        if self.compat not in DIALECTS:
            raise ValueError(f"compat={self.compat!r} is unknown; choose {' or '.join(map(repr, DIALECTS))}")
        for name in ("kernel_size", "stride", "dilation"):
            if not (min(getattr(self, name)) >= 1 and max(getattr(self, name)) <= LARGEST_AXIS):
                rule = f"every entry must be at least 1 and at most {LARGEST_AXIS}"
                raise ValueError(f"{name}={getattr(self, name)}: {rule}")
        for axis, (before, after) in enumerate(self.pads):
            extent, padded = self.extent[axis], self.input_size[axis] + before + after
            if min(before, after) < 0:
                raise ValueError(f"padding={self.padding}: must be at least 0; crop x by slicing instead")
            if self.compat == "torch" and 2 * max(before, after) > extent:
                raise ValueError(
                    f"padding={self.padding}: must be between 0 and half of the kernel ({extent} wide); "
                    "compat='onnx' takes any"
                )
            if padded > LARGEST_AXIS:
                raise ValueError(f"padding={self.padding} makes an axis longer than {LARGEST_AXIS}; use less")
            if self.output_size[axis] < 1:
                name = AXES[axis - len(self.input_size)]
                raise ValueError(
                    f"the window spans {extent} elements along {name} but the padded input has {padded}; "
                    "use a smaller kernel_size"
                )

    @property
    def pads(self) -> tuple[Pair, ...]:
        """The (before, after) padding of each axis."""
        return tuple((p, p) if isinstance(p, int) else p for p in self.padding)

    @property
    def extent(self) -> tuple[int, ...]:
        """Input elements that a dilated window spans, per axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def output_size(self) -> tuple[int, ...]:
        """Windows along each axis."""
        result = []
        for size, extent, s, (before, after) in zip(
            self.input_size, self.extent, self.stride, self.pads, strict=True
        ):  # fmt: skip
            span = size + before + after - extent
            out = -(-span // s) + 1 if self.ceil_mode else span // s + 1
            if self.ceil_mode and (out - 1) * s >= size + before:
                out -= 1
            result.append(out)
        return tuple(result)


def parse_layer(text: str, **options: Any) -> ConvSpec:
    """Read a layer written as text.

    Parameters
    ----------
    text : str
        Letters and numbers of the alphabet, blanks optional: ``n ic ih iw oc kh kw sh sw pt pb pl pr dh
        dw g``; ``k s p d`` set every axis; ``id kd sd dd pf pk`` make it 3-D, no ``h`` 1-D. What is left
        out is 1 (padding 0).
    **options
        Further fields of `ConvSpec`, such as ``dtype`` or ``padding_mode``.

    Returns
    -------
    ConvSpec

    Raises
    ------
    ValueError
        If a token is unknown or given twice, or the sizes do not make a convolution.

    Examples
    --------
    >>> spec = parse_layer("ic3 ih224 oc64 k7 s2 p3")
    >>> spec.output_size, spec.flops
    ((112, 112), 236027904)
    >>> parse_layer("iw16000 oc64 k80 s4").ndim
    1
    """
    n, ic, size, oc, kernel, stride, padding, dilation, g = layer_text.read(text)
    options.setdefault("layout", LAYOUTS[len(size)][0])
    options.setdefault("w_dtype", options.get("dtype", "float32"))
    return ConvSpec(n, ic, oc, size, kernel, stride, padding, dilation, g, **options)
