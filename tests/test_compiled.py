"""The compiled engine: instruction sets, the kernel that really ran, threads, fork."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from oracle import assert_close, reference

import fastconv

compiled = pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")


def layer(rng, oc=16, ic=20, dtype="float32"):
    x, w = rng.standard_normal((2, ic, 15, 17)), rng.standard_normal((oc, ic, 3, 3))
    return x.astype(dtype), w.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["cython", "winograd"])
@pytest.mark.parametrize("oc", [1, 3, 6, 9, 23])
def test_every_instruction_set_agrees_with_the_oracle_at_every_register_block(rng, isa, backend, oc, dtype):
    x, w = layer(rng, oc, 70, dtype)
    result = fastconv.conv2d(x, w, padding=1, backend=backend, threads=2)
    expected = reference(x, w, padding=1)
    assert_close(result, expected, np.abs(expected).max() * (1e-5 if dtype == "float32" else 1e-13))


@pytest.mark.parametrize(
    "backend, algorithm, tiles",
    [
        ("cython", "pixels", {"avx512": "8x48", "avx2": "4x24"}),
        ("winograd", "winograd_f4x3", {"avx512": "14x32", "avx2": "6x16"}),
    ],
)
def test_the_forced_instruction_set_is_the_one_that_ran(rng, isa, backend, algorithm, tiles):
    x, w = rng.standard_normal((2, 3, 40, 64)).astype("float32"), rng.standard_normal((16, 3, 3, 3)).astype("float32")
    fastconv.conv2d(x, w, padding=1, backend=backend)
    name = compiled.last_kernel()
    assert name.startswith(f"{algorithm}_{isa}_")
    assert name.endswith(tiles.get(isa, ""))


def test_winograd_takes_the_small_tile_where_it_needs_fewer_products(rng):
    x, w = rng.standard_normal((1, 4, 4, 8)), rng.standard_normal((4, 4, 3, 3))
    fastconv.conv2d(x, w, backend="winograd")
    assert compiled.last_kernel().startswith("winograd_f2x3_")


def test_a_plan_keeps_the_instruction_set_for_which_its_weights_were_packed(rng):
    x, w = layer(rng)
    before, lowest = compiled.isa(), compiled.isas_present()[-1]
    try:
        compiled.set_isa(lowest)
        plan = fastconv.plan(w, x.shape, backend="cython")
    finally:
        compiled.set_isa(before)
    expected = reference(x, w)
    assert_close(plan(x), expected, 1e-5 * np.abs(expected).max())
    assert f"_{lowest}_" in compiled.last_kernel()


def test_an_unknown_instruction_set_is_refused_by_name():
    with pytest.raises(ValueError, match="'mmx'.*choose one of.*baseline"):
        compiled.set_isa("mmx")


def run(code, **environment):
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def test_the_environment_forces_an_instruction_set():
    done = run("from fastconv.kernels import _compiled as c; print(c.isa())", FASTCONV_ISA="baseline")
    assert done.stdout.strip() == "baseline", done.stderr


def test_an_instruction_set_that_is_not_there_is_an_error_at_the_first_call():
    code = "import numpy as np, fastconv; fastconv.conv2d(np.ones((4, 4)), np.ones((2, 2)))"
    done = run(code, FASTCONV_ISA="sse9")
    assert done.returncode == 1
    assert "FASTCONV_ISA='sse9'" in done.stderr and "choose one of" in done.stderr


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 256])
def test_any_number_of_threads_gives_the_same_bits(rng, threads):
    x, w = layer(rng)
    alone = fastconv.conv2d(x, w, padding=1, backend="cython", threads=1)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, padding=1, backend="cython", threads=threads), alone)


def test_several_python_threads_call_one_plan_at_once(rng):
    x, w = layer(rng)
    plan = fastconv.plan(w, x.shape, padding=1, backend="cython")
    expected, wrong = plan(x), []

    def work():
        for _ in range(50):
            if not np.array_equal(plan(x, threads=2), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert not wrong and not any(worker.is_alive() for worker in workers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_computes_in_parallel_again():
    code = """
import os, signal, numpy as np, fastconv
x, w = np.ones((1, 16, 40, 40), "float32"), np.ones((16, 16, 3, 3), "float32")
before = fastconv.conv2d(x, w, backend="cython", threads=4)
child = os.fork()
signal.alarm(60)
same = all(np.array_equal(fastconv.conv2d(x, w, backend="cython", threads=4), before) for _ in range(20))
if child == 0:
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
print(same, os.waitstatus_to_exitcode(status))
"""
    done = run(code)
    assert done.stdout.split() == ["True", "0"], done.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_ends_a_long_call_and_the_next_one_works(threads):
    code = f"""
import signal, time, numpy as np, fastconv
x, w = np.ones((100, 512, 28, 28), "float32"), np.ones((512, 512, 3, 3), "float32")
plan = fastconv.plan(w, x.shape, padding=1, backend="cython")
small = fastconv.plan(w, (1, 512, 9, 9), padding=1, backend="cython")
expected = small(x[:1, :, :9, :9])
signal.setitimer(signal.ITIMER_REAL, 0.2)
signal.signal(signal.SIGALRM, signal.default_int_handler)
out = np.zeros(plan.out_shape, "float32")
try:
    plan(x, out=out, threads={threads})
    print("finished")
except KeyboardInterrupt:
    print("stopped", out[0].any() and not out[-1].any())
print(np.array_equal(small(x[:1, :, :9, :9], threads={threads}), expected))
"""
    done = run(code)
    assert done.stdout.split() == ["stopped", "True", "True"], done.stderr


def test_nothing_is_read_or_written_outside_the_arrays(rng):
    """x, w and out lie between guard values that a stray access would pick up or overwrite."""
    for shape, w_shape, padding in [((1, 5, 9, 20), (3, 5, 1, 1), 0), ((2, 3, 7, 7), (9, 3, 3, 3), 1)]:
        x, w = rng.standard_normal(shape), rng.standard_normal(w_shape)
        expected = reference(x, w, padding=padding)
        held = [np.full(a.size + 4096, np.nan) for a in (x, w)]
        views = []
        for buffer, a in zip(held, (x, w), strict=True):
            view = buffer[2048 : 2048 + a.size].reshape(a.shape)
            view[...] = a
            views.append(view)
        target = np.full(expected.size + 4096, 7.0)
        out = target[2048 : 2048 + expected.size].reshape(expected.shape)
        for threads in (1, 2, 5):
            fastconv.conv2d(*views, padding=padding, backend="cython", out=out, threads=threads)
            assert_close(out, expected, 1e-12)
            assert (target[:2048] == 7).all() and (target[2048 + expected.size :] == 7).all()


def test_the_peak_probe_counts_operations():
    assert compiled.fma_peak(threads=1, milliseconds=1.0) > 0
    assert compiled.fma_peak(threads=2, milliseconds=1.0, itemsize=8) > 0


@pytest.mark.parametrize("pages", [2, 3, 64])
def test_the_bandwidth_probe_copies_within_its_slices(pages):
    room = np.zeros((pages + 2) * 4096, np.uint8)
    buffer = room[4096:-4096]
    half = (pages - 1 + pages % 2) * 2048
    buffer[:half] = np.arange(half) % 251
    assert compiled.bandwidth(buffer, 1, 0.1, True) > 0
    assert np.array_equal(buffer[half : 2 * half], buffer[:half]) and not buffer[2 * half :].any()
    assert compiled.bandwidth(buffer, 2 if pages > 2 else 1, 0.1) > 0
    assert not room[:4096].any() and not room[-4096:].any()


def test_the_bandwidth_probe_names_a_buffer_that_is_too_small():
    with pytest.raises(ValueError, match="buffer has 8191 bytes; 1 threads need 8192"):
        compiled.bandwidth(np.zeros(8191, np.uint8), 1, 0.1, True)
