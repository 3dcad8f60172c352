"""How many threads a call uses: one number for every backend.

The order of precedence: ``threads=`` of the call, `num_threads` around it, `set_num_threads`,
``FASTCONV_NUM_THREADS``, ``OMP_NUM_THREADS``, the cores that this process may use; the last three as they are at the
first call.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from fastconv import tuning
from fastconv.arguments import check_int
from fastconv.spec import ConvSpec

MOST_THREADS = 256  # as many as the compiled pool runs; each costs scratch

_scoped: ContextVar[int | None] = ContextVar("fastconv_num_threads", default=None)
_process: list[int] = []  # empty, or the one number that set_num_threads was given


def check_threads(value: object, name: str = "threads") -> int:
    """An int of at least 1, or an error that names the argument."""
    number = check_int(value, name)
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(f"{name}={number} must be at least 1 and at most {MOST_THREADS}")
    return number


def get_num_threads() -> int:
    """Threads that a call uses unless it says otherwise.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If ``FASTCONV_NUM_THREADS`` is not a positive whole number.

    Examples
    --------
    >>> with num_threads(2):
    ...     get_num_threads()
    2
    """
    scoped = _scoped.get()
    if scoped is not None:
        return scoped
    return _process[0] if _process else _default()


def threads_of(threads: object) -> int:
    """Threads that a call uses which was told so many, or None."""
    return get_num_threads() if threads is None else check_threads(threads)


def worth_sharing(spec: ConvSpec) -> bool:
    """Whether a layer takes so long that a second thread is worth starting."""
    flops, least = spec.flops, tuning.PARALLEL_FLOPS
    return flops >= least or flops + tuning.PARALLEL_BYTE * spec.bytes >= least


def set_num_threads(n: int) -> None:
    """Set the number of threads for the whole process, at least 1.

    Raises
    ------
    TypeError, ValueError
        If ``n`` is not an int, or below 1.
    """
    _process[:] = [check_threads(n, "n")]


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Use ``n`` threads inside the ``with`` block, in this Python thread (or task) only.

    Examples
    --------
    >>> with num_threads(1):
    ...     get_num_threads()
    1
    """
    token = _scoped.set(check_threads(n, "n"))
    try:
        yield
    finally:
        _scoped.reset(token)


@cache
def _default() -> int:
    """What the environment says; asked once, since looking takes 2 us."""
    own = os.environ.get("FASTCONV_NUM_THREADS", "").strip()
    if own:
        if not own.isdecimal() or int(own) < 1:
            raise ValueError(f"FASTCONV_NUM_THREADS={own!r} must be a whole number of at least 1")
        return int(own)
    openmp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if openmp.isdecimal() and int(openmp) >= 1:
        return int(openmp)
    return min(cores(), MOST_THREADS)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
