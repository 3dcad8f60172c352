"""One named case for every bug that a user, a fuzzer or a reviewer found and no other file holds."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import fastconv
from fastconv import tuning
from fastconv.adapters import direct
from fastconv.arena import Arena, arena
from fastconv.lowering import choose_tile, lower
from fastconv.spec import parse_layer


@pytest.mark.parametrize("name", ["cython", "numba", "im2col", "fft", "winograd", "naive"])
def test_a_plan_without_input_channels_gives_zeros(name):
    plan = fastconv.plan(np.ones((4, 0, 3, 3), "float32"), (1, 0, 8, 8), backend=name)
    assert not plan(np.ones((1, 0, 8, 8), "float32")).any()


@pytest.mark.parametrize("shape, x", [((64, 64, 3, 3), (1, 64, 56, 56)), ((1, 1, 31, 31), (1, 1, 90, 90))])
def test_explain_sees_the_weights_that_plan_refuses(shape, x):
    w = np.ones(shape, "float32")
    w[0, 0, 0, 0] = np.inf
    explained = fastconv.explain(x, w, padding=1)
    assert explained.chosen == fastconv.plan(w, x, padding=1).backend == "cython"
    refused = {row.backend: row.because for row in explained.rows if row.verdict == "refused"}
    assert refused["fft"] == "needs finite weights; w has Inf or NaN"


def test_the_remedy_for_non_finite_weights_names_only_backends_that_take_them():
    with pytest.raises(fastconv.UnsupportedConv, match="Backends that can: cython, im2col, naive, numba"):
        fastconv.conv2d(np.ones((4, 8, 8)), np.full((4, 4, 3, 3), np.nan), backend="winograd")


def test_explain_without_a_backend_that_runs_has_none_chosen():
    assert fastconv.explain((1, 4, 8, 8), np.ones((4, 4, 3, 3)), stride=2, backend="winograd").chosen is None


@pytest.mark.parametrize("argument", [{"stride": 2**63}, {"padding": 2**62}, {"dilation": 10**30}, {"threads": 2**31}])
def test_numbers_beyond_the_machine_are_refused_by_name(argument):
    ((name, value),) = argument.items()
    with pytest.raises(ValueError, match=rf"{name}=.*{value}"):
        fastconv.conv2d(np.ones((1, 4, 8, 8), "float32"), np.ones((4, 4, 3, 3), "float32"), **argument)


@pytest.mark.parametrize("options", [{"flip_kernel": "no"}, {"activation": ("leaky_relu", np.ones(2))}])
def test_values_of_another_kind_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(TypeError, match=name):
        fastconv.conv2d(np.ones((1, 4, 8, 8)), np.ones((4, 4, 3, 3)), **options)


@pytest.mark.parametrize("dtype", ["nonsense", "float16", ">f4", 3])
def test_a_plan_names_a_dtype_that_it_does_not_take(dtype):
    with pytest.raises(TypeError, match="dtype"):
        fastconv.plan(np.ones((4, 4, 3, 3), "float32"), (1, 4, 8, 8), dtype=dtype)


def test_mixed_dtypes_advise_to_keep_the_fraction():
    with pytest.raises(TypeError, match=r"x\.astype\('float32'\)"):
        fastconv.conv2d(np.ones((4, 4), "int64"), np.ones((2, 2), "float32"))


def test_a_long_row_of_one_filter_keeps_all_threads_busy():
    low = lower(parse_layer("iw60000k80"))
    assert choose_tile(low, 10**9, 8, 1).cols == 59921 // 8 + 1


def test_a_tall_image_is_cut_without_trying_every_height():
    tile = choose_tile(lower(parse_layer("ih100000000iw1k3p1")), 1536, 2, 1)
    assert 1 <= tile.rows <= 1536


@pytest.mark.parametrize("name", ["im2col", "naive", "fft"])
def test_an_activation_stays_within_the_workspace(name):
    x, w = np.ones((1, 2, 600, 600), "float32"), np.ones((8, 2, 3, 3), "float32")
    plan = fastconv.plan(w, x.shape, padding=1, activation="gelu", padding_mode="reflect", backend=name)
    out = plan(x)
    fastconv.arena.arena.reset()
    tracemalloc.start()
    try:
        plan(x, out=out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= plan.workspace_bytes + 256 * 1024


def test_the_arena_lets_old_buffers_go_for_new_ones():
    arena = Arena(limit=1000)
    for nbytes in (900, 400):
        with arena.borrow(nbytes):
            pass
    assert arena.held_bytes <= 1000
    with arena.borrow(400) as first:
        address = first.ctypes.data
    with arena.borrow(400) as second:
        assert second.ctypes.data == address


def test_an_empty_instruction_set_counts_as_unset():
    pytest.importorskip("fastconv.kernels._compiled")
    code = "from fastconv.kernels import _compiled as c; assert c.isa() == c.isas_present()[0]"
    environment = {**os.environ, "FASTCONV_ISA": ""}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_small_layers_take_one_thread(monkeypatch):
    monkeypatch.setattr(tuning, "PARALLEL_FLOPS", 2_000_000)
    assert direct.workers(parse_layer("ic8ih16oc8k3p1"), 8) == 1
    assert direct.workers(parse_layer("ic64ih56oc64k3p1"), 8) == 8
    assert direct.workers(parse_layer("ic960ih7oc960k3p1g960"), 8) == 8, "few products, but many bytes"


def test_fft_holds_the_spectra_of_one_slice_of_kernels_at_a_time(rng):
    x = rng.standard_normal((1, 512, 16, 16), "float32")
    w = np.ones((512, 512, 3, 3), "float32")
    out = np.empty_like(x)
    fastconv.conv2d(x[:, :1], w[:1, :1], padding=1, backend="fft")  # imports
    rows = fastconv.explain(x, w, padding=1, backend="fft").rows
    arena.reset()
    tracemalloc.start()
    fastconv.conv2d(x, w, padding=1, backend="fft", out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= next(row.workspace_bytes for row in rows if row.backend == "fft") + 200_000


NUMBA_FORKS = """
import faulthandler, os, sys, threading, numpy as np, fastconv
x, w = np.ones((1, 32, 30, 30), "float32"), np.ones((32, 32, 3, 3), "float32")
calls = {
    "conv2d": lambda: fastconv.conv2d(x, w, backend="numba", threads=1),
    "explain": lambda: fastconv.explain(x, w, backend="numba"),
}
call = calls[sys.argv[1]]
call()  # compiles, under LLVM's lock
done = threading.Event()
def repeat():
    while not done.is_set():
        call()
threading.Thread(target=repeat, daemon=True).start()
for i in range(30):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(20, exit=True)
        call()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        os._exit(1)
done.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("call", ["conv2d", "explain"])
def test_a_child_forked_while_another_thread_plans_for_numba_does_not_hang(call):
    pytest.importorskip("numba")
    command = [sys.executable, "-P", "-W", "ignore", "-c", NUMBA_FORKS, call]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


FORKS = """
import faulthandler, os, threading, numpy as np
from fastconv import nn
shapes = [(1, 8, h, w) for h in range(4, 12) for w in range(4, 12)]
for layer in nn.Conv2d(8, 8, 3), nn.ConvTranspose2d(8, 8, 4):
    layer(np.ones(shapes[0], "float32"))  # imports, which Python itself locks
done = threading.Event()
def call(layers):
    while not done.is_set():
        layers[0] = nn.Conv2d(8, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 4, 2, 1)  # nothing planned yet
        for shape in shapes:
            for layer in layers[0]:
                layer(np.ones(shape, "float32"))
mine = [[(nn.Conv2d(8, 8, 3), nn.ConvTranspose2d(8, 8, 4))] for _ in range(4)]
threads = [threading.Thread(target=call, args=(layers,)) for layers in mine]
for thread in threads:
    thread.start()
for i in range(60):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(20, exit=True)
        for layer in mine[i % 4][0]:
            layer(np.ones(shapes[i], "float32"))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        os._exit(1)
done.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_other_threads_call_layers_for_the_first_time_does_not_hang():
    command = [sys.executable, "-P", "-W", "ignore", "-c", FORKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_layer_loads_the_backend_that_it_uses_and_no_other():
    pytest.importorskip("fastconv.kernels._compiled")
    code = (
        "import sys, numpy as np; from fastconv import nn; nn.Conv2d(3, 8, 3)(np.ones((1, 3, 9, 9), 'float32'));"
        "assert not {'numba', 'scipy'} & set(sys.modules), 'loaded what it does not need'"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stride", [4_000_000, 2**42])
def test_the_stride_of_an_axis_of_one_element_means_nothing(stride):
    """x was fetched ahead over all that such a stride spans."""
    w = np.ones((16, 16, 1, 1), "float32")
    x = np.ndarray((1, 16, 10, 1), "float32", np.ones(320, "float32"), 0, (1280, 80, 8, stride))
    found = fastconv.conv2d(x, w, stride=2, backend="cython")
    np.testing.assert_array_equal(found, np.full((1, 16, 5, 1), 16))


@pytest.mark.parametrize("name", ["cython", "winograd", "numba"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_field_of_a_record_of_odd_size(rng, name, layout):
    """The stride of an axis of one element was divided by an element's size; with padding x was read a byte off."""

    def field(channels):  # and a channel more, as NumPy shows contiguous arrays with strides of its own
        shape = (20, channels + 1) if layout == "NHWC" else (channels, 21)
        values = np.zeros((1, 1), [("values", "f4", shape), ("flag", "u1")])["values"]
        return values[..., :channels] if layout == "NHWC" else np.moveaxis(values, 1, 2)[..., :20]

    x, out, residual = field(16), field(24), field(24)
    assert x.strides[layout.index("H")] % 4
    x[...] = rng.integers(-4, 5, x.shape)
    residual[...] = rng.integers(-4, 5, residual.shape)
    w, options = rng.integers(-3, 4, (24, 16, 3, 3)).astype("float32"), {"padding": 1, "layout": layout}
    expected = fastconv.conv2d(x.copy(), w, residual=residual.copy(), backend="im2col", **options)
    fastconv.conv2d(x, w, residual=residual, out=out, backend=name, **options)
    np.testing.assert_allclose(out, expected, atol=1e-4 if name == "winograd" else 0)


def test_rows_that_are_far_apart(rng):
    """What lies between rows was fetched ahead, too."""
    room = rng.standard_normal((1, 64, 8, 4096)).astype("float32")
    x, w = room[..., :8], rng.standard_normal((64, 64, 3, 3)).astype("float32")
    plan = fastconv.plan(w, x.shape, padding=1, backend="cython")
    np.testing.assert_array_equal(plan(x), plan(x.copy()))


@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (4, 2, 1)])
def test_channels_and_pixels_that_overlap(rng, kernel, stride, padding):
    """Rows without a gap between them were packed as one, also where squares of pixels and channels are transposed."""
    windows = np.lib.stride_tricks.sliding_window_view(rng.integers(-4, 5, 39).astype("float32"), 8)
    x = windows.T.reshape(1, 8, 4, 8)  # channels and pixels are both one element apart
    w = rng.integers(-4, 5, (80, 8, kernel, kernel)).astype("float32")
    options = {"stride": stride, "padding": padding}
    expected = fastconv.conv2d(x.copy(), w, backend="naive", **options)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, backend="cython", **options), expected)
    np.testing.assert_array_equal(fastconv.plan(w, x.shape, backend="cython", **options)(x), expected)
