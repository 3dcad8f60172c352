"""Arrays of any kind and stride come in as they are, without a copy; results are of the caller's kind."""

import tracemalloc

import numpy as np
import pytest
from oracle import assert_close, reference

import fastconv
from fastconv import arrays as border


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 4, 8, 9)).astype("float32")


@pytest.fixture
def w(rng):
    return rng.standard_normal((6, 4, 3, 3)).astype("float32")


def field_view(array):
    """The values of ``array`` as every other four bytes of a structured array."""
    record = np.zeros(array.shape, [("value", array.dtype), ("other", "int32")])
    record["value"], record["other"] = array, -1
    return record["value"]


VIEWS = {
    "transposed": lambda a: np.asfortranarray(a),
    "channels_last_memory": lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1)).transpose(0, 3, 1, 2),
    "negative": lambda a: np.ascontiguousarray(a[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1],
    "every_other": lambda a: np.repeat(np.repeat(a, 2, 2), 3, 3)[:, :, ::2, ::3],
    "inside_a_larger_array": lambda a: np.pad(a, 3, constant_values=np.nan)[3:-3, 3:-3, 3:-3, 3:-3],
    "structured_field": field_view,
    "reversed_batch": lambda a: np.ascontiguousarray(a[::-1])[::-1],
}
any_view = pytest.mark.parametrize("view", VIEWS)


def agrees(result, *args, **layer):
    assert_close(result, reference(*args, **layer), 1e-4)


@any_view
def test_x_of_any_strides(convolve, x, w, view):
    agrees(convolve(2, VIEWS[view](x), w, padding=1), x, w, padding=1)


@any_view
def test_w_of_any_strides(convolve, x, w, view):
    agrees(convolve(2, x, VIEWS[view](w), padding=1), x, w, padding=1)


@any_view
def test_w_of_any_strides_in_a_plan(backend, x, w, view):
    agrees(fastconv.plan(VIEWS[view](w), x.shape, backend=backend)(x), x, w)


@any_view
def test_residual_of_any_strides(convolve, x, w, view, rng):
    residual = rng.standard_normal((2, 6, 8, 9)).astype("float32")
    agrees(convolve(2, x, w, padding=1, residual=VIEWS[view](residual)), x, w, padding=1, residual=residual)


@any_view
def test_out_of_any_strides(convolve, x, w, view):
    out = VIEWS[view](np.zeros((2, 6, 8, 9), "float32"))
    assert convolve(2, x, w, padding=1, out=out) is out
    agrees(out, x, w, padding=1)


def test_out_view_leaves_its_surroundings_alone(convolve, x, w):
    whole = np.full((4, 8, 12, 25), 7, "float32")
    convolve(2, x, w, padding=1, out=whole[1:3, 1:7, 2:10, 3:21:2])
    agrees(whole[1:3, 1:7, 2:10, 3:21:2], x, w, padding=1)
    whole[1:3, 1:7, 2:10, 3:21:2] = 7
    assert (whole == 7).all()


def test_x_that_repeats_memory(convolve, x, w):
    image = np.broadcast_to(x[:1, :1], (2, 4, 8, 9))
    agrees(convolve(2, image, w, padding=1), image.copy(), w, padding=1)


def test_x_of_sliding_windows(convolve, rng, w):
    signal = rng.standard_normal((2, 4, 16)).astype("float32")
    image = np.lib.stride_tricks.sliding_window_view(signal, 9, axis=2)
    agrees(convolve(2, image, w), image.copy(), w)


def test_bias_that_repeats_memory(convolve, x, w):
    bias = np.broadcast_to(np.float32(0.5), (6,))
    agrees(convolve(2, x, w, bias), x, w, bias.copy())


def test_bias_of_negative_stride(convolve, x, w, rng):
    bias = rng.standard_normal(12).astype("float32")[::-2]
    agrees(convolve(2, x, w, bias), x, w, bias.copy())


def test_read_only_inputs(convolve, x, w):
    x.setflags(write=False)
    w.setflags(write=False)
    agrees(convolve(2, x, w), x, w)


def test_subclass_of_ndarray_gives_a_plain_array(backend, x, w, tmp_path):
    mapped = np.memmap(tmp_path / "x", "float32", "w+", shape=x.shape)
    mapped[...] = x
    result = fastconv.conv2d(mapped, w, backend=backend)
    assert type(result) is np.ndarray
    agrees(result, x, w)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_unbatched_x_gives_an_unbatched_result(convolve, ndim, rng):
    x, w = rng.standard_normal((4, *(7,) * ndim)).astype("float32"), rng.standard_normal((5, 4, *(3,) * ndim))
    w = w.astype("float32")
    agrees(convolve(ndim, x, w)[None], x[None], w)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_plain_x_gives_a_plain_result(convolve, ndim, rng):
    x, w = rng.standard_normal((7,) * ndim).astype("float32"), rng.standard_normal((3,) * ndim).astype("float32")
    agrees(convolve(ndim, x, w)[None, None], x[None, None], w[None, None])


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("batched", [True, False])
def test_channels_last(convolve, ndim, batched, rng):
    x, w = rng.standard_normal((2, *(8, 7, 6)[:ndim], 4)).astype("float32"), np.ones((6, 2, *(3,) * ndim), "float32")
    w *= rng.standard_normal(w.shape).astype("float32")
    layer = {"stride": 2, "padding": 1, "groups": 2}
    layout = {1: "NWC", 2: "NHWC", 3: "NDHWC"}[ndim]
    right = reference(x, w, channels_last=True, **layer)
    result = convolve(ndim, x if batched else x[1], w, layout=layout, **layer)
    assert_close(result, right if batched else right[1], 1e-4)


def test_plain_plan(backend, rng):
    x, w = rng.standard_normal((9, 8)).astype("float32"), rng.standard_normal((3, 3)).astype("float32")
    plan = fastconv.plan(w, x.shape, backend=backend)
    assert plan.out_shape == (7, 6)
    agrees(plan(x)[None, None], x[None, None], w[None, None])


def test_out_has_the_rank_of_the_result(convolve, x, w):
    out = np.empty((6, 6, 7), "float32")
    assert convolve(2, x[0], w, out=out) is out
    agrees(out[None], x[:1], w)


def test_results_are_contiguous_arrays_of_their_own(convolve, x, w):
    result = convolve(2, x, w)
    assert result.flags.c_contiguous and result.flags.owndata and result.flags.writeable


def test_border_takes_an_array_without_a_copy(x):
    assert np.shares_memory(border.take(x, "x"), x)


def test_x_is_not_copied_where_the_plan_says_so():
    x, w = np.ones((1, 1, 1000, 1000), "float32"), np.ones((1, 1, 3, 3), "float32")
    plan = fastconv.plan(w, x.shape, backend="naive")
    out = np.empty(plan.out_shape, "float32")
    plan(x, out=out)
    tracemalloc.start()
    plan(x, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.workspace_bytes == 0 and peak < x.nbytes / 10


@pytest.mark.parametrize("padding", [0, 1])
def test_calls_take_no_more_memory_than_the_plan_says(backend, padding):
    x, w = np.ones((1, 16, 200, 200), "float32"), np.ones((16, 16, 3, 3), "float32")
    plan = fastconv.plan(w, x.shape, padding=padding, backend=backend, max_workspace=64 * 2**20)
    out = np.empty(plan.out_shape, "float32")
    plan(x, out=out)
    fastconv.planning.arena.reset()
    tracemalloc.start()
    plan(x, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= plan.workspace_bytes + 200_000  # Python's own objects
