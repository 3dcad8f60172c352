"""What is particular to the Numba backend: its machine code, its threads, its cache on disk."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import oracle
import pytest

import fastconv

pytest.importorskip("numba", reason="numba is not installed")

import numba
from numba import types

from fastconv import tuning
from fastconv.adapters import numba_geometry, numba_parallel
from fastconv.kernels import micro_numba, numba_launch, shifted_numba, tile_numba, vector_ir
from fastconv.spec import parse_layer

PACKAGE = Path(fastconv.__file__).parents[1]
VECTOR_BYTES = vector_ir.host_vector_bytes()
THREADED = "ic70ih40oc24k3p1"  # worth several threads, two blocks of input channels


def numbers(layer, rng, dtype="float32"):
    """Small integers: every sum is exact, so any right result is equal to the bit."""
    spec = parse_layer(layer, dtype=dtype)
    return spec, *(rng.integers(-4, 5, shape).astype(dtype) for shape in (spec.x_shape, spec.w_shape))


def run_python(code, **environment):
    """Run ``code`` in a new process and return what it printed."""
    path = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True, text=True, check=True, timeout=120, env={**os.environ, "PYTHONPATH": path, **environment},
    ).stdout  # fmt: skip


@pytest.mark.parametrize("item", [4, 8])
@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("mr, nv", tuning.NUMBA_PANELS[32].items())
def test_micro_kernel_keeps_its_accumulators_in_registers(item, mr, nv, packed):
    literals = item, mr, nv, VECTOR_BYTES // item, packed
    assert count_in_code(micro_numba.kernel_block, 16, literals) == mr * nv


@pytest.mark.parametrize("item", [4, 8])
@pytest.mark.parametrize("leave", [0, 1, 2])
@pytest.mark.parametrize("high, wide", [(1, 14), (1, 13), (2, 7), (2, 2), (1, 1)])
@pytest.mark.parametrize("col", [1, 2])
def test_tiles_of_channels_keep_their_sums_in_registers(item, high, wide, col, leave):
    columns = sum(wide - n for n in (0, *range(1, leave + 1), *range(1, leave + 1)) if n < wide)
    rows = (
        high + 2 if high == 2 and leave else high
    )  # of a tile, and, of two rows, of the upper and the lower one alone
    literals = item, high, wide, 2, VECTOR_BYTES // item, col, leave
    assert count_in_code(tile_numba.tile_block, 12, literals) == 2 * columns * rows


def count_in_code(function, integers, literals):
    """The fused multiply-adds of a kernel, none of which may have a spilled register."""
    if VECTOR_BYTES != 64:
        pytest.skip(f"counts the registers of AVX-512; this machine has vectors of {VECTOR_BYTES} bytes")
    kernel = numba.njit(types.void(*[types.int64] * integers, *map(types.literal, literals)))(function)
    (code,) = kernel.inspect_asm().values()
    body = code[: code.rindex("vfmadd")]  # the wrapper that follows clears its stack
    assert not re.findall(r"vmov\w+\s+%zmm\d+, -?\d*\(%r[sb]p\)", body)
    return len(re.findall(r"vfmadd\d+p[sd]\s[^\n]*%zmm", code))


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("oc", [1, 2, 3, 4, 7, 8, 11])
def test_every_vector_width_and_register_block_agrees(vector_bytes, dtype, oc, rng):
    if vector_bytes > VECTOR_BYTES:
        pytest.skip(f"this machine has vectors of {VECTOR_BYTES} bytes")
    spec, x, w = numbers(f"n2ic5ih9iw23oc{oc}k3p1", rng, dtype)
    plan = fastconv.plan(w, x.shape, padding=1, backend="numba")
    state = numba_parallel.prepare(spec, (w[:, :, None], None), False, vector_bytes)
    out = np.empty(spec.out_shape, dtype)
    numba_parallel.run(
        state, plan.problem, (x[:, :, None],), out[:, :, None], residual=None, threads=1, scratch=fastconv.arena.arena
    )
    np.testing.assert_array_equal(out, fastconv.conv2d(x, w, padding=1, backend="naive"))


def test_same_bits_for_every_number_of_threads_and_every_strip(rng, monkeypatch):
    x, w = rng.standard_normal((2, 70, 40, 40), "float32"), rng.standard_normal((24, 70, 3, 3), "float32")
    expected = fastconv.conv2d(x, w, padding=1, backend="numba", threads=1)
    for strip_bytes in (2**12, 2**16, 2**18):
        monkeypatch.setattr(tuning, "MOST_STRIP_BYTES", strip_bytes)
        numba_geometry.geometry.cache_clear()
        for threads in (1, 2, 3, 4):
            result = fastconv.conv2d(x, w, padding=1, backend="numba", threads=threads)
            np.testing.assert_array_equal(result, expected)
    numba_geometry.geometry.cache_clear()


@pytest.mark.parametrize("layer", ["ic70ih11iw13oc12k1", "ic3ih11iw37oc9k3", "ic3iw500oc4k5", "ic2id4ih5iw30oc8k2"])
def test_reads_x_in_place_and_never_beyond_it(layer, rng):
    spec, x, w = numbers(layer, rng)
    fence = np.full(x.size + 2, np.nan, "float32")  # what lies around x would spoil a sum, but not a crash
    inside = fence[1:-1].reshape(x.shape)
    inside[...] = x
    convolve = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}[spec.ndim]
    np.testing.assert_array_equal(convolve(inside, w, backend="numba"), convolve(x, w, backend="naive"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guards memory by mprotect of Linux")
def test_no_panel_reads_a_page_after_x():
    code = """
import ctypes, mmap, numpy, fastconv
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 2 * page)
buffer = numpy.frombuffer(memory, "uint8")
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(buffer.ctypes.data + page), page, 0) == 0
for size in range(16, 64):
    x = buffer[page - 4 * 4 * size : page].view("float32").reshape(1, 4, size)
    x[...] = 1
    for k in (1, 3):
        y = fastconv.conv1d(x, numpy.ones((9, 4, k), "float32"), backend="numba")
        assert (y == 4 * k).all()
print("read nothing")
"""
    assert run_python(code).strip() == "read nothing"


def test_channels_last_and_backward_views_agree(rng):
    spec, x, w = numbers("n2ic6ih9iw20oc10k3s2p1", rng)
    expected = fastconv.conv2d(x, w, stride=2, padding=1, backend="naive")
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    result = fastconv.conv2d(last, w, stride=2, padding=1, layout="NHWC", backend="numba")
    np.testing.assert_array_equal(result.transpose(0, 3, 1, 2), expected)
    backward = np.ascontiguousarray(x[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1]
    turned = np.ascontiguousarray(w[::-1, :, ::-1])[::-1, :, ::-1]
    np.testing.assert_array_equal(fastconv.conv2d(backward, turned, stride=2, padding=1, backend="numba"), expected)


def test_error_stays_below_the_bound(rng):
    x, w = rng.standard_normal((1, 300, 9, 9), "float32"), rng.standard_normal((8, 300, 3, 3), "float32")
    plan = fastconv.plan(w, x.shape, backend="numba")
    exact = oracle.convolve(x, w)
    scale = np.abs(x).max() * np.abs(w).sum((1, 2, 3)).max()
    assert np.abs(plan(x) - exact).max() <= plan.error_bound * scale


def test_two_python_threads_at_once(rng):
    spec, x, w = numbers(THREADED, rng)
    plan = fastconv.plan(w, x.shape, padding=1, backend="numba")
    expected, wrong = plan(x, threads=1), []

    def repeat():
        for _ in range(20):
            if not np.array_equal(plan(x, threads=2), expected):
                wrong.append(1)

    threads = [threading.Thread(target=repeat) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_python_threads_and_forked_children_survive(layer):
    if layer == "omp" and sys.platform == "win32":
        pytest.skip("numba has no GNU OpenMP on Windows")
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    code = f"""
import os, threading, numpy, numba, fastconv
x, w = numpy.ones((1, 40, 40, 40), "float32"), numpy.ones((24, 40, 3, 3), "float32")
plan = fastconv.plan(w, x.shape, padding=1, backend="numba")
expected = plan(x, threads=1)
def work():
    for _ in range(10):
        assert (plan(x, threads=2) == expected).all()
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
try:
    assert numba.threading_layer() == {layer!r}
except ValueError:
    assert numba.config.NUMBA_NUM_THREADS == 1
child = os.fork()
if child == 0:
    os._exit(0 if (plan(x, threads=2) == expected).all() else 1)
print(os.waitpid(child, 0)[1])
"""
    assert run_python(code, NUMBA_THREADING_LAYER=layer).strip() == "0"


def test_second_process_compiles_nothing(tmp_path):
    code = """
import numpy, fastconv
from numba.core import event
compiled = event.RecordingListener()
with event.install_listener("numba:compile", compiled):
    for dtype in ("float32", "float64"):
        x, w = numpy.ones((1, 40, 40, 40), dtype), numpy.ones((24, 40, 3, 3), dtype)
        for threads in (1, 2):
            fastconv.conv2d(x, w, padding=1, backend="numba", threads=threads)
from fastconv.kernels import numba_launch
print(sum(numba_launch.loops(n, i).cache_hits for n in ("run_tasks", "pack_strip", "multiply") for i in (4, 8)))
"""
    first, second = (run_python(code, NUMBA_CACHE_DIR=str(tmp_path)).strip() for _ in range(2))
    assert (first, second) == ("0", "6")
    files = sorted(p.name for p in tmp_path.rglob("*.fastconv"))
    run_python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert sorted(p.name for p in tmp_path.rglob("*.fastconv")) == files


def test_importing_loads_no_numba_and_starts_no_thread():
    assert run_python("import fastconv, sys; print('numba' in sys.modules)").strip() == "False"
    code = "import fastconv.adapters.numba_parallel, threading; print(threading.active_count())"
    assert run_python(code).strip() == "1"


def test_threads_beyond_numbas_own_are_clamped():
    problem = fastconv.plan(np.ones((24, 40, 3, 3), "float32"), (1, 40, 40, 40), backend="numba").problem
    most = numba_launch.max_threads()
    assert numba_parallel.workspace_bytes(problem, 10 * most) == numba_parallel.workspace_bytes(problem, most)


def test_job_fields_are_eight_bytes_each():
    assert shifted_numba.JOB.itemsize == 8 * len(shifted_numba.CALL + shifted_numba.LAYER)
