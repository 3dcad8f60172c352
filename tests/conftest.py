"""Fixtures: a backend by name, and calls that skip with the reason that the engine itself gives."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np
import pytest

import fastconv
from fastconv import known, registry, threads, tuning
from fastconv.errors import UnsupportedConv

os.environ.setdefault("NUMBA_NUM_THREADS", "8")  # read when Numba is imported; the tests go up to 8

tuning.PARALLEL_FLOPS = 0  # the problems are small: let every call use the threads that it is told to
tuning.POOL_COMPILED_BYTES = tuning.POOL_PARALLEL_BYTES = 0
tuning.POOL_PIECE_BYTES = 4096  # and let pools have something to share out

CONVOLUTIONS = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}


@pytest.fixture(params=[b.name for b in registry.BACKENDS])
def backend(request):
    """The name of each backend in turn; skipped where a part of it is not installed."""
    row = registry.find(request.param)
    if missing := row.missing():
        pytest.skip(f"{row.name}: {missing}")
    return row.name


@pytest.fixture
def convolve(backend):
    """Convolve by ``backend``; skip, quoting ``why_not``, where that is the reason of a refusal."""

    def spec_of(ndim, x, w, *args, **options):
        planned = {k: v for k, v in options.items() if k not in ("residual", "out", "threads")}
        layout = planned.pop("layout", {1: "NCW", 2: "NCHW", 3: "NCDHW"}[ndim])
        plain = (None, None) if x.ndim == ndim else ...
        return fastconv.explain(x[plain], w[plain], *args, layout=layout, **planned).spec

    def call(ndim, x, w, *args, **options):
        try:
            return CONVOLUTIONS[ndim](x, w, *args, backend=backend, **options)
        except UnsupportedConv as error:
            reason = registry.why_not(registry.find(backend).capabilities, spec_of(ndim, x, w, *args, **options))
            if reason is None or reason != error.reason:
                raise
        pytest.skip(f"{backend} {reason}")

    return call


def _isas_compiled():
    try:
        from fastconv.kernels import _compiled
    except ImportError:
        return ["no extension"]
    return _compiled.isas_compiled()


@pytest.fixture(params=_isas_compiled())
def isa(request):
    """Each instruction set in turn, for new layers of the compiled kernels; skipped where the processor has it not."""
    compiled = pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")
    if request.param not in compiled.isas_present():
        pytest.skip(f"this processor has no {request.param}")
    before = compiled.isa()
    compiled.set_isa(request.param)
    known.calls.clear()
    yield request.param
    compiled.set_isa(before)


@pytest.fixture(autouse=True)
def environment():
    """Each test asks the environment anew how many threads there are."""
    threads._default.cache_clear()


@pytest.fixture
def rng():
    return np.random.default_rng(20261122)


@pytest.fixture
def fenced():
    """Copies of an array whose first or last byte lies beside a page that may not be touched."""
    kept = []

    def copies(array):
        libc = ctypes.CDLL(None, use_errno=True)
        room = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        for at_end in (False, True):
            memory = mmap.mmap(-1, room + 2 * mmap.PAGESIZE)
            start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            for fence in (start, start + mmap.PAGESIZE + room):
                assert libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
            kept.append((memory, libc, start, room))
            offset = mmap.PAGESIZE + (room - array.nbytes if at_end else 0)
            copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
            copy[...] = array
            yield copy

    yield copies
    for memory, libc, start, room in kept:
        for fence in (start, start + mmap.PAGESIZE + room):
            libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE)
        del memory
