"""What a case is: a layer as text (the alphabet of `fastconv.spec.parse_layer`), with options, a source and arrays.

Nothing here depends on what is installed.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.spec import ConvSpec, Epilogue, PoolSpec, parse_layer


@dataclass(frozen=True, slots=True)
class Case:
    """One named problem: a layer as text, its options, and where it comes from."""

    name: str
    layer: str
    group: str
    source: str
    dtype: str = "float32"
    w_dtype: str | None = None  # None: that of x
    padding_mode: str = "zeros"
    layout: str | None = None  # None: channels first
    accuracy: str = "high"
    bias: bool = True
    activation: str | None = None
    parameter: float = 0.0
    residual: bool = False
    times: int = 1  # how often the network has this layer

    @property
    def op(self) -> str:
        return "conv"

    @property
    def spec(self) -> ConvSpec:
        options = {"dtype": self.dtype, "w_dtype": self.w_dtype or self.dtype, "padding_mode": self.padding_mode,
                   "accuracy": self.accuracy}  # fmt: skip
        return parse_layer(self.layer, **options, **({"layout": self.layout} if self.layout else {}))

    @property
    def epilogue(self) -> Epilogue:
        return Epilogue(self.activation, self.parameter)

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of `fastconv.conv2d` and `fastconv.plan` for this case; ``bias`` and ``residual`` are arrays."""
        spec = self.spec
        act = (self.activation, self.parameter) if self.activation == "leaky_relu" else self.activation
        return {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g,
                "padding_mode": spec.padding_mode, "layout": spec.layout, "accuracy": spec.accuracy,
                "activation": act}  # fmt: skip

    @property
    def flops(self) -> int:
        """Operations of the direct algorithm, two for a multiply and an add."""
        return self.spec.flops

    @property
    def bytes(self) -> int:
        """Bytes of x, w and the result, each once."""
        return self.spec.bytes

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.spec.out_shape


@dataclass(frozen=True, slots=True)
class PoolCase:
    """One named pooling of float32, channels first: a layer as text without ``oc`` and ``g``, and what is pooled."""

    name: str
    layer: str
    group: str
    source: str
    op: str  # "max_pool" or "avg_pool"; padding counts in the mean's divisor
    dtype: str = "float32"
    times: int = 1

    @property
    def spec(self) -> PoolSpec:
        like = parse_layer(self.layer)
        return PoolSpec(like.n, like.ic, like.input_size, like.kernel_size, like.stride, like.padding, like.dilation)

    @property
    def flops(self) -> int:
        """One comparison or addition for each element of each window."""
        return math.prod(self.out_shape) * math.prod(self.spec.kernel_size)

    @property
    def bytes(self) -> int:
        """Bytes of x and the result, each once."""
        spec = self.spec
        return np.dtype(self.dtype).itemsize * (
            spec.n * spec.c * math.prod(spec.input_size) + math.prod(self.out_shape)
        )

    @property
    def out_shape(self) -> tuple[int, ...]:
        spec = self.spec
        return (spec.n, spec.c, *spec.output_size)


AnyCase = Case | PoolCase


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """The arrays of a case; ``bias`` and ``residual`` are None where it has none, ``w`` is empty for a pooling."""

    x: np.ndarray
    w: np.ndarray
    bias: np.ndarray | None
    residual: np.ndarray | None


def arrays(case: AnyCase, rng: np.random.Generator | None = None, whole: bool = False) -> Arrays:
    """The arrays of a case, the same in every run.

    ``rng`` is seeded from the case's name where it is not given. ``whole`` makes floats whole numbers
    from -4 to 4, whose sums are exact in any order.
    """
    rng = rng or np.random.default_rng(zlib.crc32(case.name.encode()))
    if isinstance(case, PoolCase):
        pooled = case.spec
        x = rng.standard_normal((pooled.n, pooled.c, *pooled.input_size), np.float32)
        return Arrays(x, np.empty(0, np.float32), None, None)
    spec = case.spec

    def draw(shape: tuple[int, ...], dtype: str, scale: float = 1.0) -> np.ndarray:
        kind = np.dtype(dtype)
        if kind.kind == "f":
            if whole:
                return rng.integers(-4, 5, shape).astype(kind)
            values: np.ndarray = rng.standard_normal(shape, kind.type) * kind.type(scale)
            return values
        limits = np.iinfo(kind)
        return rng.integers(max(limits.min, -128), min(limits.max, 255), shape, kind, endpoint=True)

    return Arrays(
        draw(spec.x_shape, spec.dtype),
        draw(spec.w_shape, spec.w_dtype, scale=spec.terms**-0.5 if spec.terms else 1.0),
        draw((spec.oc,), spec.acc_dtype) if case.bias else None,
        draw(spec.out_shape, spec.acc_dtype) if case.residual else None,
    )
