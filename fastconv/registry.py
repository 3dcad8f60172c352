"""The ordered table of backends: what each can do, what it needs, and how it is loaded.

A capability is data; `why_not` is the one place where a refusal is worded. To add a backend: one file in
``adapters/``, one line in `BACKENDS`, one name in ``bench/cases.py``.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from fastconv.errors import BackendUnavailable
from fastconv.phases import kernels
from fastconv.spec import ACCUMULATOR, OPS, ConvSpec

FLOATS = ("float32", "float64")
EVERY_DTYPE = tuple(ACCUMULATOR)
COMPILED = "fastconv.kernels._compiled"
NON_FINITE = "needs finite weights; w has Inf or NaN"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend computes; ``None`` means anything.

    ``accurate`` lists the values of ``accuracy`` that it may serve. ``reproducible``: same bits whatever
    the number of threads and the batch. ``finite_weights``: refuses weights with Inf or NaN. ``ops``: what the
    module computes itself; 'grad_input' comes to every other as forward layers, one a phase. ``zero_point``: of
    integer input.
    """

    dtypes: tuple[str, ...] = FLOATS
    ndim: tuple[int, ...] = (1, 2, 3)
    kernels: tuple[tuple[int, ...], ...] | None = None
    stride: int | None = None
    dilation: int | None = None
    ops: tuple[str, ...] = ("forward",)
    accurate: tuple[str, ...] = ("exact", "high", "fast")
    finite_weights: bool = False
    reproducible: bool = True
    zero_point: bool = False


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of the table.

    ``module`` has ``prepare``, ``run``, ``algorithm``, ``workspace_bytes``, ``error_bound`` and ``error_typical``; it
    is imported when first used. ``requires`` is a module that must be there, ``remedy`` the way to get it.
    """

    name: str
    module: str
    summary: str
    capabilities: Capabilities
    requires: str | None = None
    remedy: str = ""

    def missing(self) -> str | None:
        """Why the backend cannot be used here, or ``None``."""
        if self.requires is None or installed(self.requires):
            return None
        return f"{self.requires} is not installed; {self.remedy}"

    def load(self, op: str = "forward") -> Any:
        """Import the backend's module; for an ``op`` that it leaves to its forward layers, what makes them of it.

        Raises
        ------
        BackendUnavailable
            If a part that it needs is missing or does not load.
        """
        reason = self.missing()
        if reason is None:
            try:
                module = importlib.import_module(self.module)
                if op == "grad_input" and op not in self.capabilities.ops:
                    return importlib.import_module("fastconv.adapters.transposed").Transposed(module)
                return module
            except (ImportError, OSError) as error:
                reason = f"{self.module} does not load: {error}"
        raise BackendUnavailable(self.name, reason, tuple(b.name for b in BACKENDS if not b.missing()))


_COMPILE = "run 'pip install .', and start Python outside the source tree, which has no compiled extension"

BACKENDS: list[Backend] = [
    Backend(
        "fft", "fastconv.adapters.fft", "products of spectra; for large kernels",
        Capabilities(accurate=("high", "fast"), finite_weights=True),
    ),
    Backend(
        "winograd", "fastconv.adapters.winograd", "F(m,3) and F(m,5): fewer products than taps",
        Capabilities(ndim=(1, 2), kernels=((3, 3), (1, 3), (3, 1), (1, 5), (5, 1), (3,), (5,)), stride=1,
                     accurate=("high", "fast"), finite_weights=True),
        COMPILED, _COMPILE,
    ),
    Backend(
        "cython", "fastconv.adapters.cython_tiled", "shifted products, compiled ahead of time",
        Capabilities(), COMPILED, _COMPILE,
    ),
    Backend(
        "numba", "fastconv.adapters.numba_parallel", "shifted products, compiled on the spot",
        Capabilities(), "numba", "run 'pip install numba'",
    ),
    Backend(
        "im2col", "fastconv.adapters.im2col", "gather columns, one matrix product",
        Capabilities(dtypes=EVERY_DTYPE, ops=("forward", "grad_weight"), reproducible=False, zero_point=True),
    ),
    Backend(
        "naive", "fastconv.adapters.naive", "the definition as loops; needs nothing",
        Capabilities(dtypes=EVERY_DTYPE, ops=("forward", "grad_input", "grad_weight"), zero_point=True),
    ),
]  # fmt: skip
"""Most special first; the last one can always run."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The backends there are; prints as a table. ``missing`` maps a name to the reason, or to ``None``."""

    missing: dict[str, str | None]

    @property
    def available(self) -> tuple[str, ...]:
        """Names of those that can be used here."""
        return tuple(name for name, reason in self.missing.items() if reason is None)

    def __str__(self) -> str:
        rows = ((find(name), reason) for name, reason in self.missing.items())
        return "\n".join(f"{b.name:<10}{'missing: ' + why if why else b.summary}" for b, why in rows)


def backends() -> Survey:
    """What backends there are, which can be used here, and why the others cannot.

    Returns
    -------
    Survey
        Prints as a table; ``.available`` are the names, ``.missing`` maps every name to a reason or ``None``.

    Examples
    --------
    >>> "im2col" in backends().available
    True
    """
    return Survey({backend.name: backend.missing() for backend in BACKENDS})


def find(name: str) -> Backend:
    """The backend of that name, or a ``ValueError`` that lists those there are."""
    for backend in BACKENDS:
        if backend.name == name:
            return backend
    rows = ", ".join(f"{b.name} (not available: {why})" if (why := b.missing()) else b.name for b in BACKENDS)
    raise ValueError(f"backend={name!r} is unknown; choose 'auto' or one of: {rows}")


def why_not(capabilities: Capabilities, spec: ConvSpec) -> str | None:
    """The reason for which a backend with these capabilities cannot compute ``spec``, or ``None``."""
    if spec.op not in capabilities.ops:
        if spec.op != "grad_input":
            able = [op for op in OPS if op in (*capabilities.ops, "grad_input")]
            return f"computes {' and '.join(able)}; got {spec.op}"
        reasons = (why_not(capabilities, layer) for _, layer in kernels(spec))
        return next((f"{reason} in a phase of the transposed layer" for reason in reasons if reason), None)
    if spec.dtype not in capabilities.dtypes:
        return f"computes {', '.join(capabilities.dtypes)}; got {spec.dtype}"
    if spec.ndim not in capabilities.ndim:
        return f"needs {' or '.join(map(str, capabilities.ndim))} spatial axes; got {spec.ndim}"
    if capabilities.kernels is not None and spec.kernel_size not in capabilities.kernels:
        fitting = [_by(kernel) for kernel in capabilities.kernels if len(kernel) == spec.ndim]
        return f"needs a kernel of {', '.join(fitting[:-1])} or {fitting[-1]}; got {_by(spec.kernel_size)}"
    if capabilities.stride is not None and set(spec.stride) != {capabilities.stride}:
        return f"needs stride {capabilities.stride}; got {_by(spec.stride)}"
    if capabilities.dilation is not None and set(spec.dilation) != {capabilities.dilation}:
        return f"needs dilation {capabilities.dilation}; got {_by(spec.dilation)}"
    if spec.x_zero_point and not capabilities.zero_point:
        return f"takes no zero point; got {spec.x_zero_point}"
    if spec.accuracy not in capabilities.accurate:
        return f"offers accuracy {' or '.join(capabilities.accurate)}; got {spec.accuracy}"
    return None


def wants_finite(capabilities: Capabilities, spec: ConvSpec) -> bool:
    """Whether weights with Inf or NaN are refused. In a phase they would meet zeros around the gradient: NaN."""
    return capabilities.finite_weights or (spec.op == "grad_input" and "grad_input" not in capabilities.ops)


def _by(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


def installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
