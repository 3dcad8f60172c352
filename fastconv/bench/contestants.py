"""Who can be timed: the backends, ``auto`` and the rivals, each made ready for a case in this process.

A backend takes part channels first, or with ``-nhwc`` behind its name channels last, as PyTorch does: x and the result
lie so from the start, nothing is converted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

import fastconv
from fastconv import registry
from fastconv.arguments import LAYOUTS
from fastconv.bench import peers, reference
from fastconv.bench.case import AnyCase, Arrays, Case, PoolCase
from fastconv.bench.machine import unavailable
from fastconv.bench.peers.peer import RIVAL_ERROR, aligned, channels_last
from fastconv.errors import UnsupportedConv

AUTO = "auto"
"""The contestant that is `backend="auto"`: what a user gets who does not choose."""

CHANNELS_LAST = "-nhwc"

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
                     "FASTCONV_NUM_THREADS")  # fmt: skip


class Refused(Exception):
    """A contestant does not do a case, or is not here; the message says why."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A contestant as a report knows it."""

    name: str
    kind: str  # "backend" or "peer"
    title: str
    version: str
    setting: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ready:
    """A contestant ready for a case: ``call`` takes nothing and returns the result, of the case's shape."""

    call: Callable[[], np.ndarray]
    algorithm: str | None = None
    workspace_bytes: int | None = None
    error_bound: float | None = None  # None: a rival or a pooling, which promise nothing

    def allowed(self, data: Arrays, expected: np.ndarray) -> float:
        """Largest difference from the reference that is right."""
        if self.error_bound is None:
            return RIVAL_ERROR * float(np.abs(expected).max(initial=0.0))
        return reference.allowed_error(self.error_bound, data.x, data.w, expected, str(data.x.dtype))


def is_peer(name: str) -> bool:
    """Whether the contestant of that name is a rival."""
    return name in {peer.name for peer in peers.PEERS}


def backend_of(name: str) -> tuple[str, bool]:
    """What `fastconv.plan` takes as backend for a contestant that is no rival, and whether channels are last.

    >>> backend_of("cython"), backend_of("auto-nhwc")
    (('cython', False), ('auto', True))
    """
    return name.removesuffix(CHANNELS_LAST), name.endswith(CHANNELS_LAST)


def concerns(name: str, case: AnyCase) -> bool:
    """Whether to ask a contestant for a case at all: poolings have no backends, ``auto`` is what fastconv does."""
    return name == AUTO or is_peer(name) or isinstance(case, Case)


def missing(name: str) -> str | None:
    """Why a contestant cannot run here, with what to do about it; None if it can."""
    if is_peer(name):
        return peers.missing(peers.find(name))
    backend, _ = backend_of(name)
    return None if backend == AUTO else unavailable(registry.find(backend))


def environment(name: str, threads: int) -> dict[str, str]:
    """Variables of a process in which the contestant computes on so many threads."""
    own = peers.find(name).environment(threads) if is_peer(name) else {}
    return {variable: str(threads) for variable in _THREAD_VARIABLES} | own


def describe(name: str) -> Contestant:
    """Loads what it must to know the version."""
    if not is_peer(name):
        backend, last = backend_of(name)
        summary = "the backend that the plan chooses" if backend == AUTO else registry.find(backend).summary
        setting = f"{summary}; channels last" if last else summary
        return Contestant(name, "backend", f"fastconv {name}", fastconv.__version__, setting)
    peer = peers.find(name)
    version = " ".join(filter(None, (peers.version(peer), peer.details())))
    return Contestant(name, "peer", peer.title, version, peer.setting)


def ready(name: str, case: AnyCase, data: Arrays, threads: int) -> Ready:
    """Prepare a contestant for a case: decide, compile, pack the weights.

    Raises
    ------
    Refused
        If it does not take the case.
    """
    if is_peer(name):
        try:
            return Ready(peers.find(name).prepare(case, data, threads))
        except peers.NotOffered as error:
            raise Refused(str(error)) from None
    return _pool(case, data, threads) if isinstance(case, PoolCase) else _plan(name, case, data, threads)


def _plan(name: str, case: Case, data: Arrays, threads: int) -> Ready:
    backend, last = backend_of(name)
    options, x = case.options, channels_last(data.x) if last else aligned(data.x)
    if last and case.spec.channels_last:
        raise Refused("its channels are last as it is")
    if last:
        options["layout"] = LAYOUTS[case.spec.ndim][1]
    try:
        plan = fastconv.plan(data.w, x.shape, data.bias, backend=backend, **options)
    except UnsupportedConv as error:
        raise Refused(error.reason) from None
    out = aligned(np.zeros(plan.out_shape, plan.spec.acc_dtype))
    with fastconv.num_threads(threads):
        workspace = plan.workspace_bytes
    algorithm = f"{plan.backend} {plan.algorithm}" if backend == AUTO else plan.algorithm
    run = partial(plan, x, out=out, threads=threads)
    shown = np.moveaxis(out, -1, 1) if last else out

    def call() -> np.ndarray:
        run()
        return shown

    return Ready(call, algorithm, workspace, plan.error_bound)


def _pool(case: PoolCase, data: Arrays, threads: int) -> Ready:
    spec = case.spec
    kind = "max" if case.op == "max_pool" else "avg"
    function: Any = getattr(fastconv, f"{kind}_pool{len(spec.kernel_size)}d")
    x, out = aligned(data.x), aligned(np.zeros(case.out_shape, case.dtype))
    call = partial(function, x, spec.kernel_size, spec.stride, spec.padding, out=out, threads=threads)
    return Ready(call)
