"""What the fft backend does to bare arrays: transforms of chosen axes, products of spectra, cutting and pasting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from fastconv.kernels.sharing import share

BLAS_MATRIX, BLAS_VECTOR = 2**17, 2**12 - 1
"""Multiplications of one product of a matrix with a matrix or a vector for which OpenBLAS stays on one thread: it does
up to 65536 * 4 and below 1024 * 4 (interface/gemm.c and zgemv.c). On products this small its threads only stall: 64x64
times a vector took 21 us with them and 1.5 us without (zen5-2, busy, 2026-11)."""

SERIAL = 2**17
"""Multiplications below which no threads are started. Not measured: a guess from 100 us to start two."""


class Fourier:
    """Transforms by SciPy where installed (vectorised, threaded), else by NumPy; single precision stays single.

    Real transforms run over axis ``real``, complex ones over the axes ``others``; ``size`` has the number of points of
    each of the leading axes.
    """

    def __init__(self, size: tuple[int, ...], real: int, others: tuple[int, ...], threads: int) -> None:
        self.size, self.real, self.others = size, real, others
        self._module: Any
        self._options: dict[str, Any]
        try:
            from scipy import fft
        except ImportError:
            self._module, self._options = np.fft, {}
        else:
            self._module, self._options = fft, {"workers": threads}

    def forward(self, a: np.ndarray) -> np.ndarray:
        """Spectra of ``a`` padded with zeros to ``size``: axis by axis, so that few of the zeros are transformed."""
        a = self._module.rfft(a, n=self.size[self.real], axis=self.real, **self._options)
        for axis in self.others:
            a = self._complex("fft", a, axis)
        return a

    def inverse(self, a: np.ndarray) -> np.ndarray:
        """Undo the complex transforms of `forward`, in place."""
        for axis in self.others:
            a = self._complex("ifft", a, axis)
        return a

    def inverse_real(self, a: np.ndarray, axis: int) -> np.ndarray:
        """Undo the real transform of `forward`, now on ``axis``, into a new array."""
        return np.asarray(self._module.irfft(a, n=self.size[self.real], axis=axis, **self._options))

    def _complex(self, name: str, a: np.ndarray, axis: int) -> np.ndarray:
        n = self.size[axis]
        place = {"overwrite_x": True} if self._options else {"out": a} if a.shape[axis] == n else {}
        return np.asarray(getattr(self._module, name)(a, n=n, axis=axis, **place, **self._options))


def multiply(kernels: np.ndarray, spectra: np.ndarray, out: np.ndarray, threads: int) -> None:
    """``out[f, g] = kernels[f, g] @ spectra[f, g]`` for shapes (f, g, row, channel) and (f, g, channel, block).

    Threads share out the frequencies, so no product depends on their number.
    """
    rows, channels, blocks = *kernels.shape[2:], spectra.shape[3]
    most = BLAS_VECTOR if min(rows, blocks) == 1 else BLAS_MATRIX
    longer, step = max(rows, blocks), max(most // (channels * min(rows, blocks)), 1)
    even = slices(longer, -(-longer // -(-longer // step)))  # no lone row at the end, which would be a vector
    pieces = [(cut, slice(None)) if rows >= blocks else (slice(None), cut) for cut in even]

    def some(f: slice) -> None:
        if channels == 1:
            np.multiply(kernels[f], spectra[f], out=out[f])
            return
        for r, b in pieces:
            np.matmul(kernels[f, :, r], spectra[f, :, :, b], out=out[f, :, r, b])

    if out.size * channels < SERIAL:
        threads = 1
    share(some, list(slices(len(out), -(-len(out) // threads))), threads)


def runs(table: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Cut a table of positions into strided copies, (to, from). -1, which is zero, only pads the ends.

    >>> list(runs(np.array([-1, 0, 1, 2, 1, 0])))
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


def paste(blocks: np.ndarray, out: np.ndarray) -> None:
    """Copy ``blocks`` (g, row, then block and place in it for each of d, h, w) to ``out`` (g, row, d, h, w).

    The last block of an axis may hang over the end of ``out``.
    """
    cuts = []
    for valid, count in zip(blocks.shape[3::2], out.shape[2:], strict=True):
        whole, rest = divmod(count, valid)
        full = slice(0, whole * valid), slice(0, whole), valid
        last = slice(whole * valid, count), slice(whole, whole + 1), rest
        cuts.append([cut for cut in (full, last) if cut[0].start < cut[0].stop])
    for (to_d, d, in_d), (to_h, h, in_h), (to_w, w, in_w) in product(*cuts):
        part = blocks[:, :, d, :in_d, h, :in_h, w, :in_w]
        out[:, :, to_d, to_h, to_w].reshape(part.shape)[...] = part  # splits axes: a view


def slices(count: int, step: int) -> Iterator[slice]:
    """Cut range(count) into slices of at most ``step``."""
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def fast_length(least: int) -> int:
    """The smallest number from ``least`` on that is a multiple of 4 and has no prime factors but 2, 3 and 5.

    >>> [fast_length(n) for n in (30, 61, 121)]
    [32, 64, 128]
    """
    n = -(-least // 4) * 4
    while max(prime_factors(n)) > 5:
        n += 4
    return n


def prime_factors(n: int) -> list[int]:
    """
    >>> prime_factors(60)
    [2, 2, 3, 5]
    """
    for p in range(2, math.isqrt(n) + 1):
        if n % p == 0:
            return [p, *prime_factors(n // p)]
    return [n] if n > 1 else [1]
