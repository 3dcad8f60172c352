"""The gradient to the input, which is the transposed convolution, on any backend that computes forward layers.

Each phase (`fastconv.phases`) is a forward layer of stride 1 that writes every s-th element of the result; what
the backend says of its forward layers holds for the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from fastconv import epilogue
from fastconv.arena import Arena
from fastconv.lowering import lower
from fastconv.phases import Phase, Taps, fold_back, kernels, most_copies, phases, widest
from fastconv.spec import ConvSpec, Epilogue, Problem

States = dict[tuple[int, ...], Any]  # what each phase has prepared


@dataclass(frozen=True, slots=True)
class Transposed:
    """The five functions of the contract over those of ``forward``, a backend's module."""

    forward: ModuleType

    def algorithm(self, spec: ConvSpec) -> str:
        """The forward algorithm of the phase with the most taps; a backend with a choice has one for all."""
        return str(self.forward.algorithm(widest(spec)))

    def workspace_bytes(self, problem: Problem, threads: int) -> int:
        """That of the greediest phase, and what is not in phases."""
        inner = (self.forward.workspace_bytes(self._inner(problem, part), threads) for part in phases(problem.spec))
        return max(inner, default=0) + own_bytes(problem)

    def error_bound(self, problem: Problem) -> float:
        """That of the worst phase, for each of the padded positions that are added up."""
        spec, inner = problem.spec, self._worst(self.forward.error_bound, problem)
        copies = most_copies(lower(spec))
        if copies == 1 or not spec.acc_dtype.startswith("float"):
            return inner
        return copies * (inner + (1 + inner) * copies * float(np.finfo(spec.acc_dtype).eps))

    def error_typical(self, problem: Problem) -> float:
        """That of the worst phase."""
        return self._worst(self.forward.error_typical, problem)

    def _worst(self, error: Callable[[Problem], float], problem: Problem) -> float:
        return max((error(self._inner(problem, part)) for part in phases(problem.spec)), default=0.0)

    def prepare(self, spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> Any:
        w, bias = constants
        folded = spec.padding_mode != "zeros"
        states: States = {}
        for taps, layer in kernels(spec):
            seen = w[:, :, *[slice(None)] * (3 - spec.ndim), *(tap.where for tap in taps)]
            groups = seen.reshape(spec.g, spec.oc // spec.g, *seen.shape[1:]).swapaxes(1, 2)
            exchanged = groups.reshape(spec.ic, spec.oc // spec.g, *seen.shape[2:])
            states[_firsts(taps)] = self.forward.prepare(layer, (exchanged, None if folded else bias), borrow)
        return states, bias

    def run(
        self, state: Any, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
        residual: np.ndarray | None, threads: int, scratch: Arena,
    ) -> None:  # fmt: skip
        (gy,), spec, (states, bias) = operands, problem.spec, state
        if spec.padding_mode == "zeros":
            self._fill(states, problem, gy, out, residual, bias, threads, scratch)
            return
        low, size = lower(spec), out.shape[2:]
        lengths = tuple(axis.source.size for axis in low.axes)
        nbytes = padded_bytes(spec)
        with scratch.borrow(nbytes) as buffer:
            padded = buffer[:nbytes].view(out.dtype).reshape(*out.shape[:2], *lengths)
            plain = replace(problem, epilogue=Epilogue())
            self._fill(states, plain, gy, padded, None, None, threads, scratch)
            before = (0,) * (3 - spec.ndim) + tuple(pair[0] for pair in spec.padding)
            out[...] = fold_back(padded, low, size, before)
        epilogue.finish(out, bias, residual, problem.epilogue)

    def _fill(
        self, states: States, problem: Problem, gy: np.ndarray, out: np.ndarray, residual: np.ndarray | None,
        bias: np.ndarray | None, threads: int, scratch: Arena,
    ) -> None:  # fmt: skip
        """Every phase into its place in ``out``; first what no phase reaches, if there is any."""
        parts = phases(problem.spec)
        if has_holes(problem.spec):
            out[...] = 0
            epilogue.finish(out, bias, residual, problem.epilogue)
        for part in parts:
            added = None if residual is None else residual[:, :, *part.target]
            inner, seen = self._inner(problem, part), gy[:, :, *part.source]
            self.forward.run(states[_firsts(part.taps)], inner, (seen,), out[:, :, *part.target], residual=added,
                             threads=threads, scratch=scratch)  # fmt: skip

    def _inner(self, problem: Problem, part: Phase) -> Problem:
        limit = problem.max_workspace
        if limit is not None:
            limit = max(limit - own_bytes(problem), 0)
        applied = problem.epilogue if problem.spec.padding_mode == "zeros" else Epilogue()
        return Problem(part.spec, applied, problem.algorithm, limit)


def _firsts(taps: tuple[Taps, ...]) -> tuple[int, ...]:
    """What tells one phase from the others, whatever the size of the image."""
    return tuple(tap.first for tap in taps)


@lru_cache(maxsize=256)
def has_holes(spec: ConvSpec) -> bool:
    """Whether some of the gradient to the (padded) input is in no phase, so that it is 0."""
    lengths = spec.input_size
    if spec.padding_mode != "zeros":
        lengths = tuple(size + sum(pair) for size, pair in zip(lengths, spec.padding, strict=True))
    return sum(math.prod(part.spec.output_size) for part in phases(spec)) < math.prod(lengths)


def own_bytes(problem: Problem) -> int:
    """Scratch beyond the phases': weights regrouped, the gradient to the padded input, the epilogue outside them."""
    spec = problem.spec
    outside = spec.padding_mode != "zeros" or has_holes(spec)
    regrouped = math.prod(spec.w_shape) * np.dtype(spec.w_dtype).itemsize if spec.g > 1 else 0
    return regrouped + padded_bytes(spec) + (epilogue.workspace_bytes(problem) if outside else 0)


def padded_bytes(spec: ConvSpec) -> int:
    """Scratch for the gradient to the padded input; none for zeros, which take theirs with them."""
    if spec.padding_mode == "zeros":
        return 0
    lengths = (size + sum(pair) for size, pair in zip(spec.input_size, spec.padding, strict=True))
    return spec.n * spec.ic * math.prod(lengths) * np.dtype(spec.acc_dtype).itemsize
