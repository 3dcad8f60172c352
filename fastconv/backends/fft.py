"""Convolution as products of spectra, block by block (overlap-save).

Every layer is first lowered to stride 1: the phases of a strided layer are further input channels, so only
wanted outputs are computed. The padded input is cut into overlapping blocks whose size depends on the layer
alone; a block's spectrum times the kernel's is the spectrum of its outputs. Axes along which the kernel is
one wide are not transformed. Spectra are stored [frequency][group][channel][block]: the products are small
matrices, and the transforms run over contiguous channels and blocks.

An FFT spreads one NaN over its block, so non-finite pixels are transformed as 0. Outputs that see a NaN are
NaN; those that see an Inf, and those whose transform overflowed, are summed directly in float64.

The shapes of all transforms and products depend on layer, image and ``max_workspace``, never on threads or
batch, and each product is small enough for one thread of BLAS: so are the bits.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastconv.arena import Arena
from fastconv.epilogue import finish
from fastconv.errors import UnsupportedConv
from fastconv.lowering import Lowered, lower
from fastconv.spec import ConvSpec, Problem

Sizes = tuple[int, ...]  # one number for each of d, h, w

BLOCK_BYTES = 16 * 2**20
KERNEL_BYTES = 64 * 2**20
SLICE_BYTES = 4 * 2**20
SPECTRA_BYTES = 256 * 2**20
REPAIR_BYTES = 2**20
FEW_PRODUCTS = 16
SMALLEST = {1: 256, 2: 32, 3: 16}
LARGEST = {1: 32768, 2: 512, 3: 64}
BLAS_MATRIX, BLAS_VECTOR = 2**17, 4095
SERIAL_PRODUCTS = 2**17


@dataclass(frozen=True, eq=False)
class Geometry:
    """A lowered layer cut into blocks: ``size`` points transformed, ``valid`` outputs kept, per axis.

    ``real`` is the axis of the real transform, ``others`` those of the complex ones; ``channels`` are the
    input channels of one group times phases.
    """

    low: Lowered
    size: Sizes
    valid: Sizes
    blocks: Sizes
    phases: Sizes
    channels: int
    real: int
    others: Sizes

    @property
    def spectrum(self) -> Sizes:
        """Frequencies per axis."""
        return tuple(s // 2 + 1 if axis == self.real else s for axis, s in enumerate(self.size))


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is done at once: groups, output channels of each, a box of blocks; pixels summed directly."""

    groups: int
    rows: int
    box: Sizes
    pixels: int


@dataclass(frozen=True, eq=False)
class State:
    """Weights (g, ocg, icg, kd, kh, kw); their spectra, unless too large or only to be used once."""

    w: np.ndarray
    bias: np.ndarray | None
    spectra: np.ndarray | None


class Fourier:
    """Transforms of the leading axes: SciPy's where installed (vectorised, threaded), else NumPy's."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        try:
            from scipy import fft
        except ImportError:
            self._module: Any = np.fft
            self._options: dict[str, Any] = {}
        else:
            self._module, self._options = fft, {"workers": threads}

    def forward(self, a: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Spectra of ``a`` padded with zeros to ``size``; axis by axis, so that most of the padding costs nothing."""
        a = self._module.rfft(a, n=geometry.size[geometry.real], axis=geometry.real, **self._options)
        for axis in geometry.others:
            a = self._complex("fft", a, axis, geometry.size[axis])
        return a

    def inverse(self, a: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Undo the complex transforms of ``forward``, in place."""
        for axis in geometry.others:
            a = self._complex("ifft", a, axis, geometry.size[axis])
        return a

    def inverse_real(self, a: np.ndarray, n: int, axis: int) -> np.ndarray:
        return np.asarray(self._module.irfft(a, n=n, axis=axis, **self._options))

    def _complex(self, name: str, a: np.ndarray, axis: int, n: int) -> np.ndarray:
        place = {"overwrite_x": True} if self._options else {"out": a} if a.shape[axis] == n else {}
        return np.asarray(getattr(self._module, name)(a, n=n, axis=axis, **place, **self._options))


def algorithm(spec: ConvSpec) -> str:
    return "blocks " + "x".join(map(str, _geometry(spec).size[3 - spec.ndim :]))


def workspace_bytes(problem: Problem, threads: int) -> int:
    """Kernels, one chunk of blocks and the transforms' own lines; the larger of a call with and without a plan."""
    geometry, item = _geometry(problem.spec), np.dtype(problem.spec.dtype).itemsize
    need = 0
    for prepared in (False, True):
        chunk = _chunk(problem, prepared)
        blocks = chunk.groups * math.prod(chunk.box)
        kept, passing = _block_bytes(geometry, chunk.rows, item)
        repair = chunk.pixels * _pixel_bytes(problem.spec) + 12 * blocks * math.prod(geometry.valid)
        kernels = 0 if prepared else _kernel_bytes(geometry, chunk.groups * chunk.rows, item)
        need = max(need, kernels + blocks * kept + max(blocks * passing, repair))
    return need + threads * 32 * max(geometry.size) * item


def error_bound(problem: Problem) -> float:
    """Norm-wise bound of three transforms and the products, after Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., Theorem 24.2, which is about radix 2.

    A pass of radix p sums p terms per output; each has the roundings of a twiddle factor and its product
    (3.83 u), for p > 2 those of a root of unity too, and of p - 1 additions. ``|DFT_p|`` has 2-norm p where
    ``DFT_p`` has sqrt(p), so a transform loses at most ``loss = sum over the prime factors sqrt(p) (p + 7) u``
    of its 2-norm (radix 2: 5 sqrt(2) u). A block of N points has ``|x|_2 <= sqrt(N) max|x|``; by
    Cauchy-Schwarz and Young each stage puts an output off by ``sqrt(N) max|x| sum|w|`` times its loss.
    """
    geometry, u = _geometry(problem.spec), float(np.finfo(problem.spec.dtype).eps) / 2
    points = math.prod(geometry.size)
    loss = sum(math.sqrt(p) * (5 if p == 2 else p + 7) for p in _primes(points))
    total = (3 * loss + math.sqrt(2) * (2 * geometry.channels + 1) + 1) * u
    return math.sqrt(points) * total / (1 - total)


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> State:
    w, bias = constants
    if not np.isfinite(w).all():
        raise UnsupportedConv("fft", "needs finite weights; w has Inf or NaN")
    geometry = _geometry(spec)
    w = (w if borrow else w.copy()).reshape(spec.g, -1, *w.shape[1:]) if w.size else w[None]
    nbytes = spec.oc * geometry.channels * math.prod(geometry.spectrum) * 2 * w.itemsize
    if borrow or nbytes > SPECTRA_BYTES or not w.size:
        return State(w, bias, None)
    with np.errstate(all="ignore"):
        return State(w, bias, _spectra(w, geometry, Fourier(1)))


def run(
    state: State, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), geometry, known = operands, _geometry(problem.spec), state.spectra
    low, chunk, fourier = geometry.low, _chunk(problem, known is not None), Fourier(threads)
    if not x.size:
        out[...] = 0
    nbytes = chunk.groups * math.prod(chunk.box) * _block_bytes(geometry, chunk.rows, x.itemsize)[0]
    with scratch.borrow(nbytes) as buffer:
        for groups, rows in product(_slices(low.g, chunk.groups), _slices(low.ocg, chunk.rows)) if x.size else ():
            w = state.w[groups, rows]
            kernels = _spectra(w, geometry, fourier) if known is None else known[:, groups, rows]
            ics = slice(groups.start * low.icg, groups.stop * low.icg)
            first = groups.start * low.ocg + rows.start  # whole groups, or rows of one: consecutive channels
            ocs = slice(first, first + w.shape[0] * w.shape[1])
            for n in range(low.n):
                for box in product(*map(_slices, geometry.blocks, chunk.box)):
                    _compute(x[n, ics], w, kernels, geometry, box, out[n, ocs], chunk.pixels, fourier, buffer)
    finish(out, state.bias, residual, problem.epilogue)


def _compute(
    x: np.ndarray, w: np.ndarray, kernels: np.ndarray, geometry: Geometry, box: tuple[slice, ...],
    out: np.ndarray, pixels: int, fourier: Fourier, buffer: np.ndarray,
) -> None:  # fmt: skip
    """A box of blocks of one image: ``x`` (channel, d, h, w) of some groups, ``out`` (row, d, h, w)."""
    region = [
        slice(b.start * valid, min(b.stop * valid, axis.out))
        for b, valid, axis in zip(box, geometry.valid, geometry.low.axes, strict=True)
    ]
    target = out[:, *region]
    target = target.reshape(*w.shape[:2], *target.shape[1:])  # splitting an axis: a view
    strip = _strip(x, geometry, box, buffer)
    touched = _touched(strip, geometry, target.shape)
    _store(_convolve(strip, kernels, geometry, fourier, buffer[strip.nbytes :]), geometry.valid, target)
    redo = ~np.isfinite(target).all(axis=1)
    if touched is not None:
        nan, inf = touched
        redo = (redo | inf) & ~nan
        np.copyto(target, np.nan, where=nan[:, None])
    if redo.any():
        _sum_directly(x, w, geometry.low, region, redo, target, pixels)


@lru_cache(maxsize=256)
def _geometry(spec: ConvSpec) -> Geometry:
    low = lower(spec)
    phases = tuple(len(axis.phases) for axis in low.axes)
    channels = low.icg * math.prod(phases)
    widths = [axis.reach + 1 for axis in low.axes]
    wide = [axis for axis in range(3) if widths[axis] > 1] or [2]
    times = 4 if len(wide) < 3 and channels * low.ocg <= FEW_PRODUCTS else 2
    size = [1, 1, 1]
    for axis in wide if max(widths) > 1 else ():
        wanted = min(times * widths[axis], LARGEST[len(wide)])
        size[axis] = _fast_length(max(wanted, 2 * widths[axis], SMALLEST[len(wide)]))
    valid = tuple(s - width + 1 for s, width in zip(size, widths, strict=True))
    blocks = tuple(-(-axis.out // v) for axis, v in zip(low.axes, valid, strict=True))
    return Geometry(low, tuple(size), valid, blocks, phases, channels, wide[-1], tuple(wide[:-1]))


def _chunk(problem: Problem, prepared: bool) -> Chunk:
    """As much as ``max_workspace`` allows, half of it for kernels, an eighth for the transforms; at least one
    kernel and one block."""
    spec, geometry, limit = problem.spec, _geometry(problem.spec), problem.max_workspace
    item, low = np.dtype(spec.dtype).itemsize, geometry.low
    room, kernel_room = (BLOCK_BYTES, KERNEL_BYTES) if limit is None else (limit * 3 // 8, limit // 2)

    def fits(groups: int, rows: int) -> bool:
        kernels = 0 if prepared else _kernel_bytes(geometry, groups * rows, item)
        return kernels <= kernel_room and groups * sum(_block_bytes(geometry, rows, item)) <= room

    rows, groups = max(low.ocg, 1), low.g
    while groups > 1 and not fits(groups, rows):
        groups = -(-groups // 2)
    while rows > 1 and not fits(groups, rows):
        rows = -(-rows // 2)
    left = max(room // (groups * sum(_block_bytes(geometry, rows, item))), 1)
    box = []
    for blocks in reversed(geometry.blocks):  # whole rows of blocks first: what they share is gathered once
        box.append(min(left, max(blocks, 1)))
        left //= box[-1]
    return Chunk(groups, rows, tuple(box[::-1]), max(min(REPAIR_BYTES, room // 2) // _pixel_bytes(spec), 1))


def _kernel_bytes(geometry: Geometry, rows: int, item: int) -> int:
    """Spectra of the kernels of some output channels, and three times those of a slice on their way."""
    passing = min(rows, _slice_rows(geometry, item))
    return (rows + 3 * passing) * geometry.channels * math.prod(geometry.spectrum) * 2 * item


def _slice_rows(geometry: Geometry, item: int) -> int:
    return max(SLICE_BYTES // (geometry.channels * math.prod(geometry.spectrum) * 2 * item), 1)


def _block_bytes(geometry: Geometry, rows: int, item: int) -> tuple[int, int]:
    """Of one block of a group: pixels and the outputs' spectra in scratch; pixels' spectra or outputs, passing."""
    spectrum, points = math.prod(geometry.spectrum) * 2 * item, math.prod(geometry.size) * item
    return geometry.channels * points + rows * spectrum, max(geometry.channels * spectrum, rows * points)


def _pixel_bytes(spec: ConvSpec) -> int:
    """Of one output summed directly: its pixels as they are and in float64, a mask, positions."""
    return spec.terms * (np.dtype(spec.dtype).itemsize + 8) + 2 * spec.taps + 32 * sum(spec.kernel_size)
