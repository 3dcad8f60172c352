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

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial, reduce
from itertools import product
from queue import SimpleQueue

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastconv import epilogue, tuning
from fastconv.adapters.direct import roundoff
from fastconv.adapters.fft_blocks import Geometry, at_once, chunk_of, geometry_of, kernels_at_once
from fastconv.arena import Arena
from fastconv.kernels.fourier import Fourier, multiply, paste, prime_factors, runs, slices
from fastconv.kernels.sharing import share
from fastconv.lowering import Lowered
from fastconv.spec import ConvSpec, Problem


@dataclass(frozen=True, eq=False)
class State:
    """Weights (g, ocg, icg, kd, kh, kw); their spectra, unless too large or only to be used once."""

    w: np.ndarray
    bias: np.ndarray | None
    spectra: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Work:
    """What the boxes of blocks of some output channels have in common."""

    geometry: Geometry
    w: np.ndarray
    spectra: np.ndarray
    threads: int
    pixels: int


def algorithm(spec: ConvSpec) -> str:
    return "blocks " + "x".join(map(str, geometry_of(spec).size[3 - spec.ndim :]))


def workspace_bytes(problem: Problem, threads: int) -> int:
    """Kernels, chunks and the transforms' own lines; the larger of a call with and without prepared spectra."""
    lines = threads * 32 * max(geometry_of(problem.spec).size) * np.dtype(problem.spec.dtype).itemsize
    chunks = (chunk_of(problem, prepared) for prepared in (False, True))
    lines += epilogue.workspace_bytes(problem)
    return lines + max(c.kernel_bytes + at_once(problem, c, threads) * c.nbytes for c in chunks)


def error_bound(problem: Problem) -> float:
    """Norm-wise bound of three transforms and the products, after Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., Theorem 24.2, which is about radix 2.

    A pass of radix p sums p terms per output; each has the roundings of a twiddle factor and its product
    (3.83 u), for p > 2 those of a root of unity too, and of p - 1 additions. ``|DFT_p|`` has 2-norm p where
    ``DFT_p`` has sqrt(p), so a transform loses at most ``loss = sum over the prime factors sqrt(p) (p + 7) u``
    of its 2-norm (radix 2: 5 sqrt(2) u). A block of N points has ``|x|_2 <= sqrt(N) max|x|``; by
    Cauchy-Schwarz and Young each stage puts an output off by ``sqrt(N) max|x| sum|w|`` times its loss.
    """
    geometry, u = geometry_of(problem.spec), roundoff(problem.spec.dtype)
    points = math.prod(geometry.size)
    loss = sum(math.sqrt(p) * (5 if p == 2 else p + 7) for p in prime_factors(points))
    total = (3 * loss + math.sqrt(2) * (2 * geometry.channels + 1) + 1) * u
    return math.sqrt(points) * total / (1 - total)


def error_typical(problem: Problem) -> float:
    """Every point of a spectrum is off by about as much as the others, whatever is in the image: see `LOSS_FFT`."""
    return tuning.LOSS_FFT * roundoff(problem.spec.dtype) / math.sqrt(max(problem.spec.terms, 1))


def prepare(spec: ConvSpec, constants: tuple[np.ndarray, np.ndarray | None], borrow: bool) -> State:
    w, bias = constants
    geometry = geometry_of(spec)
    w = (w if borrow else w.copy()).reshape(spec.g, spec.oc // spec.g, *w.shape[1:])
    nbytes = spec.oc * geometry.channels * math.prod(geometry.spectrum) * 2 * w.itemsize
    if borrow or nbytes > tuning.FFT_SPECTRA_BYTES or not w.size:
        return State(w, bias, None)
    with np.errstate(all="ignore"):  # an overflow is found, and mended, in the outputs
        return State(w, bias, _spectra(w, geometry, 1))


def run(
    state: State, problem: Problem, operands: tuple[np.ndarray, ...], out: np.ndarray, *,
    residual: np.ndarray | None, threads: int, scratch: Arena,
) -> None:  # fmt: skip
    (x,), geometry = operands, geometry_of(problem.spec)
    low, chunk = geometry.low, chunk_of(problem, state.spectra is not None)
    workers = at_once(problem, chunk, threads)
    inner = threads if workers == 1 else 1  # threads share out the chunks, or else the work in each
    if not x.size:
        out[...] = 0
    with ExitStack() as stack:
        buffers: SimpleQueue[np.ndarray] = SimpleQueue()
        for _ in range(workers):
            buffers.put(stack.enter_context(scratch.borrow(chunk.kept_bytes)))
        for groups, rows in product(slices(low.g, chunk.groups), slices(low.ocg, chunk.rows)) if x.size else ():
            w, known = state.w[groups, rows], state.spectra
            ics = slice(groups.start * low.icg, groups.stop * low.icg)
            first = groups.start * low.ocg + rows.start  # whole groups, or rows of one: consecutive channels
            ocs = slice(first, first + w.shape[0] * w.shape[1])
            tasks = list(product(range(low.n), product(*map(slices, geometry.blocks, chunk.box))))
            spectra = _spectra(w, geometry, threads) if known is None else known[:, groups, rows]
            compute = partial(
                _compute, Work(geometry, w, spectra, inner, chunk.pixels), x[:, ics], out[:, ocs], buffers
            )
            share(compute, tasks, workers)
            del spectra, compute  # or those of two slices would be there at once
    epilogue.finish(out, state.bias, residual, problem.epilogue)


def _compute(
    work: Work, xs: np.ndarray, outs: np.ndarray, buffers: SimpleQueue[np.ndarray], task: tuple[int, tuple[slice, ...]]
) -> None:
    """One box of blocks of one image of ``xs`` and ``outs`` (n, channel, d, h, w)."""
    n, box = task
    low = work.geometry.low
    region = [
        slice(b.start * v, min(b.stop * v, axis.out))
        for b, v, axis in zip(box, work.geometry.valid, low.axes, strict=True)
    ]
    target = outs[n][:, region[0], region[1], region[2]]
    target = target.reshape(*work.w.shape[:2], *target.shape[1:])  # splits an axis: a view
    buffer = buffers.get()
    try:
        strip = _strip(xs[n], work.geometry, box, buffer)
        touched = _touched(strip, low, target.shape)
        paste(_convolve(strip, work, buffer[strip.nbytes :]), target)
    finally:  # another task may wait for it
        buffers.put(buffer)
    redo = ~np.isfinite(target).all(axis=1)
    if touched is not None:
        nan, inf = touched
        redo = (redo | inf) & ~nan
        np.copyto(target, np.nan, where=nan[:, None])
    if redo.any():
        _sum_directly(xs[n], work, region, redo, target)


def _fourier(geometry: Geometry, threads: int) -> Fourier:
    return Fourier(geometry.size, geometry.real, geometry.others, threads)


def _strip(x: np.ndarray, geometry: Geometry, box: tuple[slice, ...], buffer: np.ndarray) -> np.ndarray:
    """The padded pixels under a box of blocks, (channel, phases d, h, w, d, h, w); ``x`` is (channel, d, h, w)."""
    copies, lengths = [], []
    for axis, b, valid, size in zip(geometry.low.axes, box, geometry.valid, geometry.size, strict=True):
        length = (b.stop - b.start - 1) * valid + size
        starts = [axis.stride * b.start * valid + phase for phase in axis.phases]
        tables = [axis.source[start :: axis.stride][:length] for start in starts]
        copies.append([(phase, *run) for phase, table in enumerate(tables) for run in runs(table)])
        lengths.append(length)
    shape = (x.shape[0], *geometry.phases, *lengths)
    strip = buffer[: math.prod(shape) * x.itemsize].view(x.dtype).reshape(shape)
    strip[...] = 0
    for (pd, to_d, d), (ph, to_h, h), (pw, to_w, w) in product(*copies):
        strip[:, pd, ph, pw, to_d, to_h, to_w] = x[:, d, h, w]
    return strip


def _touched(strip: np.ndarray, low: Lowered, shape: tuple[int, ...]) -> list[np.ndarray] | None:
    """Which outputs (group, d, h, w) see a NaN, and which an Inf, pixels that become 0; ``None`` if all are finite."""
    if np.isfinite(strip).all():
        return None
    seen = []
    for test in (np.isnan, np.isinf):
        hit = test(strip).reshape(shape[0], -1, *strip.shape[1:]).any(axis=1)
        for axis, count in zip(low.axes, shape[2:], strict=True):
            taps = zip(axis.tap_phase, axis.tap_offset, strict=True)
            hit = reduce(np.logical_or, (hit[:, p][:, :, :, o : o + count] for p, o in taps))
        seen.append(hit)
    strip[~np.isfinite(strip)] = 0
    return seen


def _spectra(w: np.ndarray, geometry: Geometry, threads: int) -> np.ndarray:
    """Spectra (frequency, g, ocg, channel) of the kernels ``w`` (g, ocg, icg, kd, kh, kw).

    Kernels are written backwards, which turns the convolution of the transforms into correlation; then the
    last ``valid`` of the ``size`` results are outputs.
    """
    axes, fourier = geometry.low.axes, _fourier(geometry, threads)
    places = ([axis.reach - offset for offset in axis.tap_offset] for axis in axes)
    where = (*np.ix_(*places), *np.ix_(*(axis.tap_phase for axis in axes)))
    every = w.reshape(-1, *w.shape[2:])
    result = np.empty((math.prod(geometry.spectrum), len(every), geometry.channels), np.result_type(w, np.complex64))
    for part in slices(len(every), kernels_at_once(geometry, w.itemsize)):
        some = every[part]
        wide = np.zeros((*(axis.reach + 1 for axis in axes), *geometry.phases, *some.shape[:2]), w.dtype)
        wide[where] = some.transpose(2, 3, 4, 0, 1)
        spectra = fourier.forward(wide.transpose(0, 1, 2, 6, 7, 3, 4, 5))
        result[:, part] = spectra.reshape(-1, len(some), geometry.channels)
    return result.reshape(-1, *w.shape[:2], geometry.channels)


def _convolve(strip: np.ndarray, work: Work, buffer: np.ndarray) -> np.ndarray:
    """Outputs of a box of blocks, (g, ocg, blocks d, valid d, blocks h, valid h, blocks w, valid w)."""
    geometry, (groups, rows) = work.geometry, work.w.shape[:2]
    size, valid, real = geometry.size, geometry.valid, geometry.real
    blocks = [(length - s) // v + 1 for length, s, v in zip(strip.shape[4:], size, valid, strict=True)]
    steps, fourier = strip.strides[4:], _fourier(geometry, work.threads)
    leaps = [step * v for step, v in zip(steps, valid, strict=True)]
    windows = as_strided(strip, (*size, *strip.shape[:4], *blocks), (*steps, *strip.strides[:4], *leaps))
    spectra = fourier.forward(windows).reshape(-1, groups, geometry.channels, math.prod(blocks))
    shape = (len(spectra), groups, rows, math.prod(blocks))
    products = buffer[: math.prod(shape) * spectra.itemsize].view(spectra.dtype).reshape(shape)
    multiply(work.spectra, spectra, products, work.threads)
    del spectra
    sums = fourier.inverse(products.reshape(*geometry.spectrum, groups, rows, *blocks))
    cut = [slice(None if a == real else s - v, None) for a, (s, v) in enumerate(zip(size, valid, strict=True))]
    result = fourier.inverse_real(sums[tuple(cut)].transpose(3, 4, 5, 0, 6, 1, 7, 2), 3 + 2 * real)
    return result[(slice(None),) * (3 + 2 * real) + (slice(size[real] - valid[real], None),)]


def _sum_directly(x: np.ndarray, work: Work, region: list[slice], redo: np.ndarray, out: np.ndarray) -> None:
    """Sum in float64 the outputs (g, d, h, w) of ``region`` that are marked."""
    low = work.geometry.low
    taps = [np.array([[axis.tap_position(tap)] for tap in range(len(axis.tap_offset))]) for axis in low.axes]
    for g, marked in enumerate(redo):
        image, target, every = x[g * low.icg : (g + 1) * low.icg], out[g], np.flatnonzero(marked)
        for part in slices(every.size, work.pixels):
            at = np.unravel_index(every[part], marked.shape)
            d, h, w = (
                axis.source[tap + axis.stride * (r.start + i)]
                for axis, tap, r, i in zip(low.axes, taps, region, at, strict=True)
            )
            d, h = d[:, None, None], h[:, None]
            seen = image[:, d, h, w]
            np.copyto(seen, 0, where=(d < 0) | (h < 0) | (w < 0))
            columns = seen.reshape(-1, seen.shape[-1]).astype(np.float64)
            for row, kernel in zip(target, work.w[g], strict=True):
                row[at] = kernel.reshape(-1).astype(np.float64) @ columns
