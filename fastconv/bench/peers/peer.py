"""What a rival is: how it is set, what it needs, and a function that makes it ready for a case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.arguments import Pair
from fastconv.bench.case import AnyCase, Arrays, Case
from fastconv.spec import ConvSpec

Call = Callable[[], np.ndarray]
"""One full call, NumPy arrays in and out; the result has the case's shape, and may be overwritten by the next."""

RIVAL_ERROR = 1e-4
"""Largest difference of who promises nothing, over the reference's largest value: ten times what float32 Winograd of
512 channels shows (1e-5), a tenth of what bfloat16 would; who is beyond computes something else and is not timed."""


class NotOffered(Exception):
    """A rival does not do a case; the message is the reason, a short phrase."""


def keep_pages(threads: int) -> dict[str, str]:
    """Let the C library keep what is freed.

    Else each call that makes its own result may get it from the system page by page: half of the time of a layer.
    """
    return {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


@dataclass(frozen=True, slots=True)
class Peer:
    """A rival at its best.

    ``setting`` is one line on how it is set and why that is its best; ``distribution`` is what pip knows it by, names
    separated by blanks where there are several builds; ``modules`` is what must be importable. ``prepare(case, data,
    threads)`` runs in a process of its own, pinned to as many cores as threads, with ``environment(threads)`` set
    before anything is imported. It may place the data where the rival likes it best. ``details`` loads the library and
    says what its version does not.
    """

    name: str
    title: str
    distribution: str
    modules: tuple[str, ...]
    setting: str
    prepare: Callable[[AnyCase, Arrays, int], Call]
    environment: Callable[[int], dict[str, str]] = keep_pages
    details: Callable[[], str] = lambda: ""


def plain(case: AnyCase) -> ConvSpec:
    """The spec of a convolution that every rival's interface can express: float32, channels first, nothing fused.

    Raises
    ------
    NotOffered
        For any other.
    """
    if not isinstance(case, Case):
        raise NotOffered("no poolings")
    spec = case.spec
    common(case)
    if case.activation or case.residual or spec.channels_last or case.padding_mode != "zeros":
        raise NotOffered("only zero padding, channels first, without activation and residual")
    return spec


def common(case: AnyCase) -> None:
    """Raise `NotOffered` unless the case is float32."""
    if case.dtype != "float32" or (isinstance(case, Case) and case.spec.w_dtype != "float32"):
        raise NotOffered("only float32")


def symmetric(padding: tuple[Pair, ...]) -> tuple[int, ...] | None:
    """One number per axis, or None where the two ends differ."""
    return tuple(before for before, _ in padding) if all(before == after for before, after in padding) else None


def single_filter(case: AnyCase) -> ConvSpec:
    """The spec of one filter on one channel of one image, whose output has the size of the input.

    Raises
    ------
    NotOffered
        For any other.
    """
    spec = plain(case)
    if (spec.n, spec.ic, spec.oc) != (1, 1, 1) or max(*spec.stride, *spec.dilation) > 1:
        raise NotOffered("only one filter on one channel of one image, dense and with stride 1")
    if any(sum(pair) != k - 1 for k, pair in zip(spec.kernel_size, spec.padding, strict=True)):
        raise NotOffered("only a result of the input's size")
    return spec


def channels_last(array: np.ndarray) -> np.ndarray:
    """A copy with the channels as the last axis in memory, on a cache line."""
    return aligned(np.moveaxis(array, 1, -1))


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy, contiguous, that starts on a cache line."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy: np.ndarray = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def fastest(build: Callable[[Any], Call], choices: Iterable[Any]) -> Call:
    """What ``build`` makes of the choice that ran fastest; one after the other, so that no two count as its memory."""
    seconds = {choice: _best(build(choice)) for choice in choices}
    return build(min(seconds, key=lambda choice: seconds[choice]))


def _best(call: Call) -> float:
    """Seconds of the fastest of some calls: 20 ms of them, but at least three."""
    clock = time.perf_counter
    taken: list[float] = []
    end = clock() + 0.02
    while len(taken) < 3 or clock() < end:
        start = clock()
        call()
        taken.append(clock() - start)
    return min(taken)
