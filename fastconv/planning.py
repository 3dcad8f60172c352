"""Decide once, run often: `choose` picks a backend, `Plan` freezes the decision, `explain` shows it.

A plan is immutable and may be called from several threads at once. Refusals come from
`registry.why_not`; nothing is tried silently in a backend's place unless the caller asked for
``backend="auto"``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fastconv import arrays, registry, tuning
from fastconv.arena import arena, new_result
from fastconv.epilogue import finish
from fastconv.errors import BackendUnavailable, UnsupportedConv
from fastconv.phases import widest
from fastconv.shapes import (
    canonical,
    canonical_axes,
    canonical_weight_axes,
    canonical_weights,
    check_shape,
    split_shape,
)
from fastconv.spec import ConvSpec, Epilogue, Problem
from fastconv.threads import check_threads, get_num_threads, worth_sharing

Constants = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What planning thinks of one backend for one layer."""

    backend: str
    verdict: str  # 'chosen', 'possible', 'refused' or 'missing'
    because: str
    algorithm: str = ""
    workspace_bytes: int = 0
    error_bound: float = float("nan")
    error_typical: float = float("nan")


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """One layer, decided and prepared: spec, backend, algorithm and packed weights.

    Call it like the layer: ``y = plan(x, out=None, residual=None, threads=None)``. Made by
    `fastconv.plan`; immutable, and safe to call from several threads.

    Examples
    --------
    >>> import fastconv
    >>> p = fastconv.plan(np.ones((8, 3, 3, 3), "float32"), (1, 3, 16, 16), padding=1, backend="im2col")
    >>> p(np.ones((1, 3, 16, 16), "float32")).shape, p.for_shape((4, 3, 9, 9)).spec.output_size
    ((1, 8, 16, 16), (9, 9))
    """

    problem: Problem
    backend: str
    x_shape: tuple[int, ...]
    state: Any
    bias: np.ndarray | None = None
    borrowed: tuple[tuple[str, np.ndarray], ...] = ()  # the caller's own arrays that `state` reads
    resize: str | None = None  # 'same' or 'same_lower': a padding that `for_shape` works out anew
    operand: str = "x"  # what the caller calls the array that is convolved
    _serial: ClassVar[Any] = None

    @property
    def spec(self) -> ConvSpec:
        return self.problem.spec

    @property
    def algorithm(self) -> str:
        return self.problem.algorithm

    @property
    def workspace_bytes(self) -> int:
        """Scratch that a call takes beyond x, w and out, in bytes, at the present number of threads."""
        return int(self._module.workspace_bytes(self.problem, get_num_threads()))

    @property
    def error_bound(self) -> float:
        """Guaranteed largest error of a sum, as a multiple of ``max|x| * max_oc sum|w|``."""
        return float(self._module.error_bound(self.problem))

    @property
    def error_typical(self) -> float:
        """Largest error to expect with normal or uniform numbers around 0, within a factor of three; same unit."""
        return float(self._module.error_typical(self.problem))

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the result, with the rank of ``x``."""
        full, spec = self.spec.result_shape, self.spec
        missing = len(spec.operand_shape) - len(self.x_shape)
        if missing == 2:  # no channel axis either
            return {"forward": spec.output_size, "grad_input": spec.input_size, "grad_weight": spec.kernel_size}[
                spec.op
            ]
        return full[missing:] if spec.op != "grad_weight" else full

    def for_shape(self, x_shape: tuple[int, ...]) -> Plan:
        """The same layer, weights shared, for another batch or image size.

        Raises
        ------
        ValueError
            If ``x_shape`` has another rank or number of channels.
        """
        x_shape = check_shape(x_shape)
        if len(x_shape) != len(self.x_shape):
            raise ValueError(f"x_shape={x_shape} has {len(x_shape)} axes; this plan takes {len(self.x_shape)}")
        n, channels, size = split_shape(x_shape, self.spec.ndim, self.spec.channels_last)
        if channels != self.spec.operand_channels:
            raise ValueError(
                f"x_shape={x_shape} has {channels} channels; the weights take {self.spec.operand_channels}"
            )
        problem = replace(self.problem, spec=self.spec.with_shape(n, size, self.resize))
        return replace(self, problem=problem, x_shape=x_shape)

    def __call__(self, x: Any, out: Any = None, residual: Any = None, threads: int | None = None) -> Any:
        quick = self._serial
        if quick is None or threads is not None:
            workers = get_num_threads() if threads is None else check_threads(threads)
            quick = self._quick(workers)
        if quick and residual is None:
            target = new_result(quick.out_shape, quick.dtype) if out is None else out
            if quick(x, target):
                return target
        workers = get_num_threads() if threads is None else check_threads(threads)
        array, spec = arrays.take(x, "x"), self.spec
        if array.shape != self.x_shape:
            raise ValueError(f"x has shape {array.shape}; the plan is for {self.x_shape}: use plan.for_shape(x.shape)")
        if arrays.NAMES[array.dtype] != spec.dtype:
            raise TypeError(f"x has dtype {array.dtype.name}; the plan is for {spec.dtype}")
        added = None if residual is None else arrays.take(residual, "residual")
        if added is not None and (added.shape != self.out_shape or arrays.NAMES[added.dtype] != spec.acc_dtype):
            raise ValueError(
                f"residual has shape {added.shape} and dtype {added.dtype.name}; "
                f"pass one like the result: {self.out_shape} and {spec.acc_dtype}"
            )
        if out is None:
            result = new_result(self.out_shape, np.dtype(spec.acc_dtype))
        else:
            inputs = {self.operand: array, "residual": added, **dict(self.borrowed)}
            result = arrays.take_out(out, self.out_shape, spec.acc_dtype, inputs)
        self._compute(array, result, added, workers)
        return result if out is not None else arrays.give_back(result, x)

    def _compute(self, x: np.ndarray, out: np.ndarray, residual: np.ndarray | None, threads: int) -> None:
        spec = self.spec
        if not out.size:
            return
        out5 = canonical(out, spec) if spec.op != "grad_weight" else canonical_weights(out, spec.ndim)
        residual5 = None if residual is None else canonical(residual, spec)
        with np.errstate(all="ignore"):  # NaN and Inf are results here, on every backend alike
            if not spec.terms:
                out5[...] = 0
                finish(out5, self.bias, residual5, self.problem.epilogue)
                return
            module = self._module
            _check_workspace(module, self.backend, self.problem, threads)
            module.run(self.state, self.problem, (canonical(x, spec),), out5, residual=residual5, threads=threads,
                       scratch=arena)  # fmt: skip

    @property
    def _plain(self) -> bool:
        """Whether there may be a way without the checks that others need."""
        spec = self.spec
        some = spec.op == "forward" and spec.terms and math.prod(self.out_shape)
        return bool(some and spec.dtype == spec.acc_dtype and self.problem.max_workspace is None)

    def _quick(self, workers: int) -> Any:
        """What the backend has for plain arrays: a callable that takes x and out, or False; kept."""
        kept: dict[int, Any] = self.__dict__.setdefault("_bound", {})
        if workers not in kept:
            make, spec = getattr(self._module, "quick", None), self.spec
            if make is None or self.borrowed or not self._plain:
                kept[workers] = False
            else:
                shapes = self.x_shape, self.out_shape
                axes = tuple(canonical_axes(len(shape), spec.ndim, spec.channels_last) for shape in shapes)
                kept[workers] = make(self.state, self.problem, shapes, axes, workers)
                if not worth_sharing(spec):  # one thread whatever there are: no need to ask
                    self.__dict__["_serial"] = kept[workers]
        return kept[workers]

    @property
    def _module(self) -> Any:
        """The backend's module, kept. Python 3.11's cached_property has a lock, which a fork could leave closed."""
        kept = self.__dict__
        if "_loaded" not in kept:
            kept["_loaded"] = registry.find(self.backend).load(self.spec.op)
        return kept["_loaded"]

    def __repr__(self) -> str:
        return (
            f"Plan({self.spec.text!r}, {self.spec.dtype}, {self.spec.layout}, backend={self.backend!r}, "
            f"algorithm={self.algorithm!r}, {self.spec.flops / 1e9:.3g} GFLOP, "
            f"workspace {self.workspace_bytes:,} bytes)"
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every backend with its verdict for one layer; prints as a table."""

    spec: ConvSpec
    rows: tuple[Verdict, ...]

    @property
    def chosen(self) -> str | None:
        """Name of the backend that would run, or ``None``."""
        return next((row.backend for row in self.rows if row.verdict == "chosen"), None)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        spec = self.spec
        return {
            "layer": spec.text,
            "op": spec.op,
            "dtype": spec.dtype,
            "layout": spec.layout,
            "output_shape": list(spec.result_shape),
            "flops": spec.flops,
            "bytes": spec.bytes,
            "backends": [
                {
                    "backend": row.backend,
                    "verdict": row.verdict,
                    "because": row.because,
                    "algorithm": row.algorithm or None,
                    "workspace_bytes": row.workspace_bytes if row.algorithm else None,
                    "error_bound": row.error_bound if row.algorithm and row.error_bound == row.error_bound else None,
                    "error_typical": row.error_typical if row.error_typical == row.error_typical else None,
                }
                for row in self.rows
            ],
        }

    def __str__(self) -> str:
        spec = self.spec
        of = "" if spec.op == "forward" else f"{spec.op} of "
        lines = [
            f"{of}{spec.text}  {spec.dtype} {spec.layout} -> {spec.result_shape}",
            f"{spec.flops / 1e9:.4g} GFLOP, {spec.bytes / 1e6:.4g} MB, {spec.flops / max(spec.bytes, 1):.3g} FLOP/byte",
            "",
            f"{'backend':<10}{'verdict':<10}{'algorithm':<20}{'workspace':>12}  "
            f"{'error bound':>11}  {'typical':>7}  because",
        ]
        for row in self.rows:
            size = f"{row.workspace_bytes:,}" if row.algorithm else ""
            bound, typical = (f"{e:.1e}" if row.algorithm else "" for e in (row.error_bound, row.error_typical))
            lines.append(
                f"{row.backend:<10}{row.verdict:<10}{row.algorithm:<20}{size:>12}  "
                f"{bound:>11}  {typical:>7}  {row.because}"
            )
        return "\n".join(lines)


def preference(spec: ConvSpec, once: bool) -> list[str]:
    """Backends in the order in which ``auto`` would take them for this layer, for one call or for a plan."""
    names = [b.name for b in registry.BACKENDS]
    if spec.op == "grad_input":
        spec = widest(spec)
    special = {
        "fft": spec.taps >= tuning.FFT_MIN_TAPS
        and set(spec.stride) == {1}
        and all(o >= k for o, k in zip(spec.output_size, spec.kernel_size, strict=True)),
        "winograd": not once
        and min(spec.ic // spec.g, spec.oc // spec.g) >= tuning.WINOGRAD_MIN_CHANNELS
        and min(spec.output_size) >= tuning.WINOGRAD_MIN_SIZE,
    }
    return [n for n in names if special.get(n, True)] + [n for n in names if not special.get(n, True)]


@dataclass(frozen=True, slots=True)
class Request:
    """What the backends are judged by: the layer, and what the caller said beside it."""

    spec: ConvSpec
    epilogue: Epilogue
    max_workspace: int | None = None
    threads: int | None = None
    finite: Callable[[], bool] = lambda: True  # whether the weights are; asked only where it matters


def judge(name: str, request: Request) -> Verdict:
    """'possible', 'refused' or 'missing' for one backend, with the reason."""
    backend, spec, max_workspace = registry.find(name), request.spec, request.max_workspace
    reason = registry.why_not(backend.capabilities, spec)
    if reason is None and registry.wants_finite(backend.capabilities, spec) and not request.finite():
        reason = registry.NON_FINITE
    if reason is not None:
        return Verdict(name, "refused", reason)
    try:
        module = backend.load(spec.op)
    except BackendUnavailable as error:
        return Verdict(name, "missing", error.reason)
    problem = Problem(spec, request.epilogue, module.algorithm(spec), max_workspace)
    threads = get_num_threads() if request.threads is None else check_threads(request.threads)
    need = module.workspace_bytes(problem, threads)
    errors = module.error_bound(problem), module.error_typical(problem)
    if max_workspace is not None and need > max_workspace:
        text = f"needs {need:,} bytes of workspace; got max_workspace={max_workspace:,}"
        return Verdict(name, "refused", text, problem.algorithm, need, *errors)
    return Verdict(name, "possible", backend.summary, problem.algorithm, need, *errors)


def judge_all(request: Request, backend: str, once: bool) -> list[Verdict]:
    """Every backend's verdict, best first, with the one that would run marked 'chosen'."""
    rows = [judge(name, request) for name in preference(request.spec, once)]
    wanted = next((r for r in rows if r.verdict == "possible" and backend in ("auto", r.backend)), None)
    return [replace(r, verdict="chosen") if r is wanted else r for r in rows]


def decide(request: Request, backend: str, once: bool) -> Verdict:
    """The verdict of the backend that will run; no other one is asked, or even loaded.

    Raises
    ------
    UnsupportedConv, BackendUnavailable
        If the named backend (or, for 'auto', every backend) refuses, with its reason.
    """
    rows = []
    for name in preference(request.spec, once) if backend == "auto" else [registry.find(backend).name]:
        row = judge(name, request)
        if row.verdict == "possible":
            return row
        rows.append(row)
    first = rows[0]
    others = [judge(b.name, request) for b in registry.BACKENDS if b.name != first.backend]
    able = tuple(sorted(row.backend for row in others if row.verdict == "possible"))
    error = UnsupportedConv if first.verdict == "refused" else BackendUnavailable
    raise error(first.backend, first.because, able)


def choose(request: Request, backend: str, constants: Constants, borrow: bool) -> tuple[Problem, str, Any]:
    """The problem, the name and the prepared state of the backend that will run; raises as `decide`."""
    spec, row = request.spec, decide(request, backend, once=borrow)
    problem = Problem(spec, request.epilogue, row.algorithm, request.max_workspace)
    return problem, row.backend, registry.find(row.backend).load(spec.op).prepare(spec, constants, borrow)


def again(plan: Plan, wanted: str, w: np.ndarray, workers: int) -> Any:
    """What the backend has for the next single call with plain arrays of the same shapes: takes x, out, w and bias.

    ``plan`` is that of a single call with weights ``w``, which wanted a backend or 'auto'. None where there is no such
    way, or the backend was chosen for what the weights are, or reads a copy of them.
    """
    make, spec = getattr(plan._module, "again", None), plan.spec
    read, same = dict(plan.borrowed).get("w"), canonical_weights(w, spec.ndim)
    if make is None or not plan._plain or read is None:
        return None
    if wanted == "auto" and preference(spec, once=True)[0] != plan.backend:
        return None
    steps = [[step for step, size in zip(v.strides, v.shape, strict=True) if size > 1] for v in (read, same)]
    if (read.ctypes.data, steps[0], read.dtype) != (same.ctypes.data, steps[1], same.dtype):
        return None
    shapes = [plan.x_shape, plan.out_shape, w.shape]
    axes = [canonical_axes(len(shape), spec.ndim, spec.channels_last) for shape in shapes[:2]]
    axes.append(canonical_weight_axes(w.ndim, spec.ndim))
    if plan.bias is not None:
        shapes.append(plan.bias.shape)
        axes.append((0, -1, -1, -1, -1))
    return make(plan.problem, tuple(shapes), tuple(axes), workers)


def _check_workspace(module: Any, backend: str, problem: Problem, threads: int) -> None:
    if problem.max_workspace is not None:
        need = module.workspace_bytes(problem, threads)
        if need > problem.max_workspace:
            raise UnsupportedConv(
                backend, f"needs {need:,} bytes of workspace on {threads} threads; got max_workspace="
                f"{problem.max_workspace:,}: raise it or pass fewer threads"
            )  # fmt: skip
