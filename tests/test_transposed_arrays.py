"""Transposed convolution: forms of its arguments, memory layouts, integers, NaN and Inf, workspace, refusals.

Layers have a 3x3 kernel and stride 1, or 6x6 and stride 2, so that every backend of floats runs every test.
"""

import tracemalloc

import numpy as np
import pytest
from oracle import assert_close, transpose, wrap

import fastconv
from fastconv import registry
from fastconv.errors import UnsupportedConv
from fastconv.spec import ACCUMULATOR

INTEGERS = [d for d in ACCUMULATOR if not d.startswith("float")]
integer_backend = pytest.mark.parametrize(
    "backend", [b.name for b in registry.BACKENDS if "int8" in b.capabilities.dtypes]
)
BY_PHASES = [b.name for b in registry.BACKENDS if "grad_input" not in b.capabilities.ops]
VALUES = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])


@pytest.fixture(params=[(3, 1), (6, 2)], ids=["k3", "k6s2"])
def layer(request, rng):
    """x, w (4 input, 6 output channels) and the stride."""
    k, stride = request.param
    x, w = rng.standard_normal((2, 4, 6, 7)), rng.standard_normal((4, 6, k, k))
    return x.astype("float32"), w.astype("float32"), stride


def close(result, right):
    assert_close(result, right, 1e-5 * np.abs(right).max(initial=1))


def reversed_strided(array):
    """The same numbers in memory of twice the size along each axis, run through backwards."""
    big = np.full([2 * n for n in array.shape], np.nan, array.dtype)
    view = big[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    return view


def test_same_makes_stride_times_the_input(backend, layer):
    x, w, stride = layer
    result = fastconv.conv_transpose2d(x, w, stride=stride, padding="same", backend=backend)
    total = 2 if stride == 1 else 4
    assert result.shape == (2, 6, 6 * stride, 7 * stride)
    close(result, transpose(x, w, stride=stride, padding=[(total // 2, total // 2)] * 2))


@pytest.mark.parametrize(("name", "pair"), [("same", (1, 2)), ("same_lower", (2, 1)), ("valid", (0, 0))])
def test_odd_row_of_same_is_taken_off_at_the_end(name, pair, rng):
    x, w = rng.standard_normal((1, 2, 6, 7)), rng.standard_normal((2, 3, 5, 5))
    result = fastconv.conv_transpose2d(x, w, stride=2, padding=name)
    close(result, transpose(x, w, stride=2, padding=[pair] * 2))


@pytest.mark.parametrize("name", ["same", "same_lower"])
def test_same_adds_rows_where_the_kernel_is_below_the_stride(name):
    result = fastconv.conv_transpose1d(np.array([1.0, 2.0]), np.ones(1), stride=3, padding=name)
    assert result.tolist() == [1, 0, 0, 2, 0, 0]


def test_same_takes_the_output_padding_off_again():
    x, w = np.ones(4), np.ones(3)
    result = fastconv.conv_transpose1d(x, w, stride=2, padding="same", output_padding=1)
    assert (
        result.tolist() == transpose(x[None, None], w[None, None], stride=2, output_padding=1, padding=1)[0, 0].tolist()
    )


def test_flip_kernel(backend, layer):
    x, w, stride = layer
    result = fastconv.conv_transpose2d(x, w, stride=stride, flip_kernel=True, backend=backend)
    close(result, transpose(x, w[:, :, ::-1, ::-1], stride=stride))


def test_one_image_without_batch(backend, layer):
    x, w, stride = layer
    result = fastconv.conv_transpose2d(x[0], w, stride=stride, padding=1, backend=backend)
    close(result, transpose(x, w, stride=stride, padding=1)[0])


def test_one_image_without_batch_channels_last(backend, layer):
    x, w, stride = layer
    result = fastconv.conv_transpose2d(np.moveaxis(x[0], 0, -1), w, stride=stride, layout="NHWC", backend=backend)
    close(result, np.moveaxis(transpose(x, w, stride=stride)[0], 0, -1))


def test_plain_image_and_kernel(backend, layer):
    x, w, stride = layer
    bias = np.array([3], "float32")
    result = fastconv.conv_transpose2d(x[0, 0], w[0, 0], bias, stride=stride, backend=backend)
    close(result, transpose(x[:1, :1], w[:1, :1], stride=stride)[0, 0] + 3)


@pytest.mark.parametrize("ndim", [1, 3])
def test_plain_arrays_of_other_ranks(ndim, rng):
    x, w = rng.standard_normal((3, 4, 5)[-ndim:]), rng.standard_normal((2, 3, 2)[-ndim:])
    call = {1: fastconv.conv_transpose1d, 3: fastconv.conv_transpose3d}[ndim]
    close(call(x, w, stride=2), transpose(x[None, None], w[None, None], stride=2)[0, 0])


def test_strided_arrays_that_run_backwards(backend, layer):
    x, w, stride = layer
    result = fastconv.conv_transpose2d(reversed_strided(x), reversed_strided(w), stride=stride, backend=backend)
    close(result, transpose(x, w, stride=stride))


@pytest.mark.parametrize("channels_last", [False, True])
def test_out_that_is_not_contiguous(backend, layer, channels_last):
    x, w, stride = layer
    right = transpose(x, w, stride=stride, padding=1)
    if channels_last:
        x, right = np.moveaxis(x, 1, -1), np.moveaxis(right, 1, -1)
    out = reversed_strided(np.zeros(right.shape, "float32"))
    options = {"stride": stride, "padding": 1, "layout": "NHWC" if channels_last else "NCHW"}
    assert fastconv.conv_transpose2d(x, w, backend=backend, out=out, **options) is out
    close(out, right)
    assert np.isnan(out.base).sum() == out.base.size - out.size, "wrote beside out"


def test_leaves_x_and_w_alone(backend, layer):
    x, w, stride = layer
    before = x.copy(), w.copy()
    fastconv.conv_transpose2d(x, w, stride=stride, activation="relu", backend=backend)
    assert np.array_equal(x, before[0]) and np.array_equal(w, before[1])


def test_read_only_arrays(backend, layer):
    x, w, stride = layer
    x.flags.writeable = w.flags.writeable = False
    close(fastconv.conv_transpose2d(x, w, stride=stride, backend=backend), transpose(x, w, stride=stride))


@pytest.mark.parametrize("shape", [(0, 4, 6, 7), (0, 4, 1, 1)])
def test_zero_batch(backend, layer, shape):
    _, w, stride = layer
    result = fastconv.conv_transpose2d(np.ones(shape, "float32"), w, stride=stride, backend=backend)
    assert result.shape == (0, 6, *((n - 1) * stride + w.shape[2] for n in shape[2:]))


def test_zero_input_channels_give_the_activated_bias(backend, layer):
    x, w, stride = layer
    bias = np.array([-1, 2], "float32")
    result = fastconv.conv_transpose2d(x[:, :0], w[:0, :2], bias, stride, activation="relu", backend=backend)
    assert np.array_equal(result, np.broadcast_to(np.maximum(bias, 0)[:, None, None], result.shape))


def test_zero_output_channels_give_an_empty_result(backend, layer):
    x, w, stride = layer
    result = fastconv.conv_transpose2d(x, w[:, :0], stride=stride, backend=backend)
    assert result.shape == (2, 0, 5 * stride + w.shape[2], 6 * stride + w.shape[3])


@integer_backend
@pytest.mark.parametrize("dtype", INTEGERS)
def test_whole_range_of_each_integer_dtype(backend, dtype, rng):
    limits = np.iinfo(dtype)
    x, w = (
        rng.integers(limits.min, limits.max, s, dtype, endpoint=True) for s in ((2, 4, 4, 5), (4, 3, 3, 2))
    )  # fmt: skip
    options = {"stride": (2, 1), "padding": [(1, 0), (0, 1)], "dilation": (1, 2), "groups": 2, "output_padding": (1, 0)}
    result = fastconv.conv_transpose2d(x, w, **options, backend=backend)
    assert result.dtype == ACCUMULATOR[dtype]
    assert np.array_equal(result, wrap(transpose(x, w, **options), result.dtype))


@integer_backend
@pytest.mark.parametrize(("x_dtype", "w_dtype"), [("uint8", "int8"), ("int8", "uint8")])
def test_signed_and_unsigned_8_bits_mix(backend, x_dtype, w_dtype, rng):
    x, w = rng.integers(0, 128, (1, 2, 4, 4)).astype(x_dtype), rng.integers(0, 128, (2, 3, 3, 3)).astype(w_dtype)
    result = fastconv.conv_transpose2d(x, w, stride=2, backend=backend)
    assert result.dtype == "int32" and result.tolist() == transpose(x, w, stride=2).tolist()


@pytest.mark.parametrize("name", [b.name for b in registry.BACKENDS if "int8" not in b.capabilities.dtypes])
def test_float_backends_refuse_integers_by_name(name):
    x, w = np.ones((1, 1, 6, 6), "int16"), np.ones((1, 1, 3, 3), "int16")
    with pytest.raises(UnsupportedConv, match=rf"'{name}' computes float32, float64; got int16.*im2col, naive"):
        fastconv.conv_transpose2d(x, w, backend=name)


@VALUES
def test_nonfinite_pixel(backend, layer, value):
    x, w, stride = layer
    x[1, 2, 3, 4] = value
    close(fastconv.conv_transpose2d(x, w, stride=stride, padding=1, backend=backend),
          transpose(x, w, stride=stride, padding=1))  # fmt: skip


@VALUES
@pytest.mark.parametrize("where", [(0, 0), (5, 6)])
def test_nonfinite_pixel_in_a_corner_beside_a_zero_weight(backend, layer, value, where):
    x, w, stride = layer
    x[0, 1, *where], w[1, 2] = value, 0
    with np.errstate(invalid="ignore"):
        right = transpose(x, w, stride=stride)
    assert np.isnan(right[0, 2]).any()
    close(fastconv.conv_transpose2d(x, w, stride=stride, backend=backend), right)


@VALUES
def test_naive_puts_a_nonfinite_weight_where_the_definition_does(layer, value):
    x, w, stride = layer
    w[2, 1, 0, 2] = value
    close(fastconv.conv_transpose2d(x, w, stride=stride, padding=1, backend="naive"),
          transpose(x, w, stride=stride, padding=1))  # fmt: skip


@VALUES
@pytest.mark.parametrize("name", BY_PHASES)
def test_backends_by_phases_refuse_nonfinite_weights_by_name(name, layer, value):
    x, w, stride = layer
    w[2, 1, 0, 2] = value
    if missing := registry.find(name).missing():
        pytest.skip(f"{name}: {missing}")
    with pytest.raises(UnsupportedConv, match="needs finite weights; w has Inf or NaN.*Backends that can: naive"):
        fastconv.conv_transpose2d(x, w, stride=stride, backend=name)


@VALUES
def test_auto_takes_nonfinite_weights(layer, value):
    x, w, stride = layer
    w[2, 1, 0, 2] = value
    right = transpose(x, w, stride=stride)
    close(fastconv.conv_transpose2d(x, w, stride=stride), right)
    close(fastconv.plan_transpose(w, x.shape, stride=stride)(x), right)


def test_workspace_that_is_enough_is_kept(backend, layer):
    x, w, stride = layer
    need = fastconv.plan_transpose(w, x.shape, stride=stride, backend=backend).workspace_bytes
    result = fastconv.conv_transpose2d(x, w, stride=stride, backend=backend, max_workspace=need)
    close(result, transpose(x, w, stride=stride))


def test_workspace_of_nothing_is_refused_by_all_but_naive(backend, layer):
    x, w, stride = layer
    if backend == "naive":
        close(fastconv.conv_transpose2d(x, w, stride=stride, backend=backend, max_workspace=0),
              transpose(x, w, stride=stride))  # fmt: skip
        return
    with pytest.raises(UnsupportedConv, match=rf"'{backend}' needs [\d,]+ bytes of workspace; got max_workspace=0"):
        fastconv.conv_transpose2d(x, w, stride=stride, backend=backend, max_workspace=0)


@pytest.mark.parametrize("kernel", [3, 6])
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_calls_take_no_more_memory_than_the_plan_says(backend, kernel, activation):
    x, w = np.ones((1, 16, 90, 91), "float32"), np.ones((16, 16, kernel, kernel), "float32")
    plan = fastconv.plan_transpose(w, x.shape, stride=kernel // 3, activation=activation, backend=backend)
    out = np.empty(plan.out_shape, "float32")
    plan(x, out=out)
    fastconv.planning.arena.reset()
    tracemalloc.start()
    plan(x, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= plan.workspace_bytes + 200_000  # Python's own objects


def test_transposed_layer_of_a_tensor_is_a_tensor():
    torch = pytest.importorskip("torch")
    result = fastconv.conv_transpose2d(torch.ones(1, 2, 3, 3), torch.ones(2, 1, 2, 2))
    assert isinstance(result, torch.Tensor) and result.shape == (1, 1, 4, 4)


def test_out_may_not_overlap_w():
    memory = np.ones(200)
    w, x = memory[:36].reshape(2, 2, 3, 3), np.ones((1, 2, 3, 3))
    with pytest.raises(ValueError, match="out shares memory with w; pass an array of its own"):
        fastconv.conv_transpose2d(x, w, out=memory[20:70].reshape(1, 2, 5, 5))
