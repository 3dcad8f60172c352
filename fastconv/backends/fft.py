"""Convolution as products of spectra, block by block (overlap-save).

Every layer is first lowered to stride 1: the phases of a strided layer are further input channels, so only
the outputs that are wanted are computed. The padded input is cut into overlapping blocks whose size depends
on the layer alone; a block's spectrum times the kernel's is the spectrum of its outputs. Axes along which
the kernel is one wide are not transformed.

Names: ``size`` points of a transform per axis, ``valid`` outputs of a block per axis, a chunk is a box of
blocks done at once. Spectra are stored [frequency][group][channel][block], so that the products are small
matrices and the transforms run over contiguous channels.

An FFT spreads one NaN over its block, so non-finite pixels are transformed as 0; outputs that see a NaN are
NaN, those that see an Inf, and those whose transform overflowed, are summed directly in float64.

A matrix product's shape depends on layer, image and ``max_workspace``, never on threads or batch.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastconv.arena import Arena
from fastconv.epilogue import finish
from fastconv.errors import UnsupportedConv
from fastconv.lowering import Axis, Lowered, lower
from fastconv.spec import ConvSpec, Problem

Sizes = tuple[int, int, int]

CHUNK_BYTES = 16 * 2**20
SPECTRA_BYTES = 256 * 2**20
REPAIR_BYTES = 2**20
FEW_PRODUCTS = 16
SMALLEST = {1: 256, 2: 64, 3: 16}
LARGEST = {1: 32768, 2: 512, 3: 64}
BLAS_MATRIX, BLAS_VECTOR = 2**17, 4095


@dataclass(frozen=True, eq=False)
class Geometry:
    """A lowered layer cut into blocks. ``real`` is the axis of the real transform, ``channels`` are those of
    one group times phases."""

    low: Lowered
    size: Sizes
    valid: Sizes
    blocks: Sizes
    phases: Sizes
    real: int
    channels: int

    @property
    def frequencies(self) -> Sizes:
        d, h, w = (s // 2 + 1 if a == self.real else s for a, s in enumerate(self.size))
        return d, h, w

    @property
    def others(self) -> tuple[int, ...]:
        """Axes of the complex transforms."""
        return tuple(a for a in range(3) if a != self.real and self.size[a] > 1)


@dataclass(frozen=True, slots=True)
class Chunk:
    """How much is done at once: groups, output channels of each, and a box of blocks."""

    groups: int
    rows: int
    box: Sizes


@dataclass(frozen=True, eq=False)
class State:
    """Weights (g, ocg, icg, kd, kh, kw) and their spectra, unless too large or only to be used once."""

    w: np.ndarray
    bias: np.ndarray | None
    spectra: np.ndarray | None


class Fourier:
    """One-axis transforms: SciPy's where it is installed (vectorised, threaded), else NumPy's."""

    def __init__(self, threads: int) -> None:
        self.module: Any = np.fft
        self.options: dict[str, Any] = {}
        self.scipy = False
        try:
            from scipy import fft
        except ImportError:
            return
        self.module, self.options, self.scipy = fft, {"workers": threads}, True

    def forward(self, a: np.ndarray, real: int, others: tuple[int, ...], size: Sizes) -> np.ndarray:
        """Spectra over the first three axes of ``a``, padded with zeros to ``size``."""
        a = self.module.rfft(a, n=size[real], axis=real, **self.options)
        for axis in others:
            a = self._in_place("fft", a, axis, size[axis])
        return a

    def inverse(self, a: np.ndarray, others: tuple[int, ...], size: Sizes) -> np.ndarray:
        """Undo the complex transforms of ``forward``, in place."""
        for axis in others:
            a = self._in_place("ifft", a, axis, size[axis])
        return a

    def to_real(self, a: np.ndarray, n: int, axis: int) -> np.ndarray:
        return np.asarray(self.module.irfft(a, n=n, axis=axis, **self.options))

    def _in_place(self, name: str, a: np.ndarray, axis: int, n: int) -> np.ndarray:
        reuse = {"overwrite_x": True} if self.scipy else {"out": a} if a.shape[axis] == n else {}
        return np.asarray(getattr(self.module, name)(a, n=n, axis=axis, **reuse, **self.options))


def algorithm(spec: ConvSpec) -> str:
    return "blocks " + "x".join(map(str, _geometry(spec).size[3 - spec.ndim :]))


def workspace_bytes(problem: Problem, threads: int) -> int:
    """Input strip, spectra, outputs and kernel spectra of one chunk, and the transforms' own lines."""
    geometry = _geometry(problem.spec)
    chunk = _chunk(problem)
    item = np.dtype(problem.spec.dtype).itemsize
    lines = threads * max(geometry.size) * 32 * item
    kernels = chunk.groups * chunk.rows * _kernel_bytes(geometry, item)
    blocks = chunk.groups * math.prod(chunk.box) * _block_bytes(geometry, chunk.rows, item)
    return kernels + blocks + _repair_pixels(problem.spec) * _repair_bytes(problem.spec) + lines


def error_bound(problem: Problem) -> float:
    """Norm-wise bound of the three transforms and the product, as for the radix-2 FFT in Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., Theorem 24.2.

    A pass of radix p has p terms per output, each with the roundings of a twiddle factor and its product
    (3.83 u), for p > 2 of a root of unity too, and of p - 1 additions; ``|DFT_p|`` has 2-norm p where
    ``DFT_p`` has sqrt(p). So a transform of N points loses at most ``loss = sum over primes sqrt(p) (p + 7) u``
    (radix 2: 5 sqrt(2) u) of the 2-norm. A block has ``|x|_2 <= sqrt(N) max|x|``, and by Cauchy-Schwarz and
    Young an output is off by at most ``sqrt(N) max|x| sum|w|`` times the losses of all stages.
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
    if not borrow:
        w = w.copy()
    w = w.reshape(spec.g, spec.oc // spec.g, *w.shape[1:])
    nbytes = math.prod(geometry.frequencies) * geometry.channels * spec.oc * 2 * w.itemsize
    with np.errstate(all="ignore"):
        keep = not borrow and nbytes <= SPECTRA_BYTES
        return State(w, bias, _spectra(w, geometry, Fourier(1)) if keep else None)


def run(
    state: State, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), geometry, chunk, fourier = operands, _geometry(problem.spec), _chunk(problem), Fourier(threads)
    low = geometry.low
    with scratch.borrow(_strip_bytes(geometry, chunk, x.itemsize)) as buffer, ThreadPoolExecutor(threads) as pool:
        for groups, rows in product(_slices(low.g, chunk.groups), _slices(low.ocg, chunk.rows)):
            w = state.w[groups, rows]
            known = state.spectra
            kernels = _spectra(w, geometry, fourier) if known is None else known[:, groups, rows]
            ics = slice(groups.start * low.icg, groups.stop * low.icg)
            first = groups.start * low.ocg + rows.start  # whole groups or rows of one: consecutive channels
            ocs = slice(first, first + w.shape[0] * w.shape[1])
            for n in range(low.n):
                for box in product(*map(_slices, geometry.blocks, chunk.box)):
                    region = tuple(
                        slice(b.start * v, min(b.stop * v, axis.out))
                        for b, v, axis in zip(box, geometry.valid, low.axes, strict=True)
                    )
                    target = out[n, ocs, *region]
                    target = target.reshape(*w.shape[:2], *target.shape[1:])  # splits an axis: a view
                    strip = _strip(x[n, ics], geometry, box, buffer)
                    nan, inf = _touched(strip, geometry, target.shape)
                    _multiply(strip, kernels, geometry, box, target, fourier, pool, threads)
                    finite = np.isfinite(target).all(axis=1)
                    if finite.all() and nan is None and inf is None:
                        continue
                    redo = ~finite if inf is None else ~finite | inf
                    if nan is not None:
                        redo &= ~nan
                        np.copyto(target, np.nan, where=nan[:, None])
                    _sum_directly(x[n, ics], w, low, region, redo, target, _repair_pixels(problem.spec))
    finish(out, state.bias, residual, problem.epilogue)


@lru_cache(maxsize=256)
def _geometry(spec: ConvSpec) -> Geometry:
    low = lower(spec)
    phases = [len(axis.phases) for axis in low.axes]
    channels = low.icg * math.prod(phases)
    widths = [axis.reach + 1 for axis in low.axes]
    transformed = max(sum(width > 1 for width in widths), 1)
    times = 4 if transformed < 3 and channels * low.ocg <= FEW_PRODUCTS else 2
    size = [
        1 if width == 1 else _fast_length(max(SMALLEST[transformed], 2 * width, min(times * width, LARGEST[transformed])))
        for width in widths
    ]
    valid = [s - width + 1 for s, width in zip(size, widths, strict=True)]
    blocks = [-(-axis.out // v) for axis, v in zip(low.axes, valid, strict=True)]
    real = max((a for a in range(3) if size[a] > 1), default=2)
    return Geometry(low, _three(size), _three(valid), _three(blocks), _three(phases), real, channels)


def _chunk(problem: Problem) -> Chunk:
    """Half of the budget for the spectra of kernels, half for blocks; at least one kernel and one block."""
    geometry, low, item = _geometry(problem.spec), lower(problem.spec), np.dtype(problem.spec.dtype).itemsize
    half = (CHUNK_BYTES if problem.max_workspace is None else problem.max_workspace) // 2
    rows = min(max(half // _kernel_bytes(geometry, item), 1), low.ocg)
    groups = 1
    if rows == low.ocg:
        each = max(low.ocg * _kernel_bytes(geometry, item), _block_bytes(geometry, rows, item))
        groups = min(max(half // each, 1), low.g)
    left = max(half // (groups * _block_bytes(geometry, rows, item)), 1)
    box = []
    for blocks in reversed(geometry.blocks):  # whole rows of blocks first: their overlaps are read once
        box.append(min(left, max(blocks, 1)))
        left //= box[-1]
    return Chunk(groups, rows, _three(box[::-1]))


def _kernel_bytes(geometry: Geometry, item: int) -> int:
    """Of one output channel: spectra, their copy before the last transform, and the kernel itself."""
    return geometry.channels * 3 * math.prod(geometry.frequencies) * 2 * item


def _block_bytes(geometry: Geometry, rows: int, item: int) -> int:
    """Of one block of a group: pixels, their spectra, spectra of the outputs, outputs."""
    spectrum, points = math.prod(geometry.frequencies) * 2 * item, math.prod(geometry.size) * item
    return geometry.channels * (points + spectrum) + rows * (spectrum + points)


def _strip_bytes(geometry: Geometry, chunk: Chunk, item: int) -> int:
    lengths = [(b - 1) * v + s for b, v, s in zip(chunk.box, geometry.valid, geometry.size, strict=True)]
    return chunk.groups * geometry.channels * math.prod(lengths) * item


def _strip(x: np.ndarray, geometry: Geometry, box: tuple[slice, ...], buffer: np.ndarray) -> np.ndarray:
    """The padded pixels under a box of blocks, (channel, phases d, h, w, d, h, w); ``x`` is (channel, d, h, w)."""
    runs, lengths = [], []
    for axis, b, valid, size in zip(geometry.low.axes, box, geometry.valid, geometry.size, strict=True):
        lengths.append((b.stop - b.start - 1) * valid + size)
        first, length, source = b.start * valid, lengths[-1], axis.source
        tables = [source[axis.stride * first + phase :: axis.stride][:length] for phase in axis.phases]
        runs.append([(i, *run) for i, table in enumerate(tables) for run in _runs(table)])
    shape = (x.shape[0], *geometry.phases, *lengths)
    strip = buffer[: math.prod(shape) * x.itemsize].view(x.dtype).reshape(shape)
    strip[...] = 0
    for (pd, zt, zs), (ph, yt, ys), (pw, wt, ws) in product(*runs):
        strip[:, pd, ph, pw, zt, yt, wt] = x[:, zs, ys, ws]
    return strip


def _runs(table: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Cut a table of positions into strided copies: (where to, where from). -1, which is zero, only pads the ends.

    >>> list(_runs(np.array([-1, 0, 1, 2, 1, 0])))
    [(slice(1, 4, None), slice(0, 3, 1)), (slice(4, 6, None), slice(1, None, -1))]
    """
    inside = np.flatnonzero(table >= 0)
    start, end = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
    while start < end:
        steps = np.diff(table[start:end])
        other = np.flatnonzero(steps != steps[:1])
        count = 1 + (int(other[0]) if other.size else steps.size)
        first, step = int(table[start]), int(steps[0]) if steps.size else 1
        stop = first + step * count
        source = slice(first, stop if stop >= 0 else None, step) if step else slice(first, first + 1)
        yield slice(start, start + count), source
        start += count


def _touched(strip: np.ndarray, geometry: Geometry, shape: tuple[int, ...]) -> list[np.ndarray] | None:
    """Which outputs (group, d, h, w) see a NaN, and which an Inf; these pixels are 0 afterwards. ``None``: no one."""
    if np.isfinite(strip).all():
        return None
    seen = []
    for test in (np.isnan, np.isinf):
        hit = test(strip).reshape(shape[0], -1, *strip.shape[1:]).any(axis=1)
        for axis, count in zip(geometry.low.axes, shape[2:], strict=True):
            taps = zip(axis.tap_phase, axis.tap_offset, strict=True)
            hit = reduce(np.logical_or, (hit[:, p][:, :, :, o : o + count] for p, o in taps))
        seen.append(hit)
    strip[~np.isfinite(strip)] = 0
    return seen


def _spectra(w: np.ndarray, geometry: Geometry, fourier: Fourier) -> np.ndarray:
    """Spectra (frequency, g, ocg, channel) of the kernels ``w`` (g, ocg, icg, kd, kh, kw).

    Kernels are written backwards, so that the product of spectra is the correlation; output 0 of a block is
    element ``size - valid``.
    """
    axes = geometry.low.axes
    taps = [np.array([(axis.reach - o, p) for o, p in zip(axis.tap_offset, axis.tap_phase, strict=True)]).T
            for axis in axes]  # fmt: skip
    where = np.ix_(*(place for place, _ in taps)) + np.ix_(*(phase for _, phase in taps))
    flat = w.reshape(-1, *w.shape[2:])
    result = np.empty((math.prod(geometry.frequencies), len(flat), geometry.channels), np.result_type(w, 1j))
    for part in _slices(len(flat), _kernels_at_once(geometry, w.itemsize)):
        kernels = flat[part]
        wide = np.zeros([axis.reach + 1 for axis in axes] + [*geometry.phases, *kernels.shape[:2]], w.dtype)
        wide[where] = kernels.transpose(2, 3, 4, 0, 1)
        spectra = fourier.forward(wide.transpose(0, 1, 2, 6, 7, 3, 4, 5), geometry.real, geometry.others, geometry.size)
        result[:, part] = spectra.reshape(-1, *result[0, part].shape)
    return result.reshape(-1, *w.shape[:2], geometry.channels)


def _convolve(
    strip: np.ndarray, kernels: np.ndarray, geometry: Geometry, shape: tuple[int, ...], fourier: Fourier,
    buffer: np.ndarray, pool: ThreadPoolExecutor | None, threads: int,
) -> np.ndarray:  # fmt: skip
    """Finite outputs of a box of blocks, (g, ocg, blocks d, valid d, blocks h, valid h, blocks w, valid w)."""
    size, valid, real = geometry.size, geometry.valid, geometry.real
    channel, planes, steps = strip.strides[0], strip.strides[1:4], strip.strides[4:]
    blocks = [(length - s) // v + 1 for length, s, v in zip(strip.shape[4:], size, valid, strict=True)]
    windows = as_strided(
        strip, (*size, *strip.shape[:4], *blocks),
        (*steps, channel, *planes, *(step * v for step, v in zip(steps, valid, strict=True))), writeable=False,
    )  # fmt: skip
    spectra = fourier.forward(windows, real, geometry.others, size)
    groups, rows = kernels.shape[1:3]
    spectra = spectra.reshape(-1, groups, geometry.channels, math.prod(blocks))
    products = buffer[: spectra.shape[0] * groups * rows * spectra.shape[3] * spectra.itemsize]
    products = products.view(spectra.dtype).reshape(-1, groups, rows, spectra.shape[3])
    _multiply(kernels, spectra, products, pool, threads)
    del spectra, windows
    sums = fourier.inverse(products.reshape(*geometry.frequencies, groups, rows, *blocks), geometry.others, size)
    first = [slice(None if a == real else s - v, None) for a, (s, v) in enumerate(zip(size, valid, strict=True))]
    sums = fourier.to_real(sums[*first].transpose(3, 4, 5, 0, 6, 1, 7, 2), size[real], 3 + 2 * real)
    return sums[(slice(None),) * (3 + 2 * real) + (slice(size[real] - valid[real], None),)]
