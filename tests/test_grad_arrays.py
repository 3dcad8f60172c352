"""Gradients of convolutions: forms of arguments, memory layouts, NaN and Inf, threads, workspace."""

import numpy as np
import pytest
from oracle import assert_close, transpose

import fastconv
from fastconv import grad, registry
from fastconv.adapters import naive
from fastconv.errors import UnsupportedConv
from fastconv.kernels import naive_loops

TO_INPUT = {1: grad.conv1d_input, 2: grad.conv2d_input, 3: grad.conv3d_input}
TO_WEIGHT = {1: grad.conv1d_weight, 2: grad.conv2d_weight, 3: grad.conv3d_weight}
TO_BIAS = {1: grad.conv1d_bias, 2: grad.conv2d_bias, 3: grad.conv3d_bias}
MODES = pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
X = {n: np.ones((2, 4, *(7, 8, 9)[:n]), "float32") for n in (1, 2, 3)}
W = {n: np.ones((6, 4, *(3,) * n), "float32") for n in (1, 2, 3)}
GY = {n: np.ones((2, 6, *(5, 6, 7)[:n]), "float32") for n in (1, 2, 3)}
weight_backend = pytest.mark.parametrize(
    "backend", [b.name for b in registry.BACKENDS if "grad_weight" in b.capabilities.ops]
)


@pytest.fixture
def arrays(rng):
    """x, w and the gradient to the output of a 3x3 layer with padding 1."""
    shapes = (2, 4, 6, 7), (6, 4, 3, 3), (2, 6, 6, 7)
    return [rng.integers(-4, 5, s).astype("float32") for s in shapes]


def to_input(arrays, **options):
    x, w, gy = arrays
    return grad.conv2d_input(x.shape, w, gy, padding=1, **options)


def to_weight(arrays, **options):
    x, w, gy = arrays
    return grad.conv2d_weight(x, w.shape, gy, padding=1, **options)


def reversed_strided(array):
    """The same numbers in memory of twice the size along each axis, run through backwards."""
    big = np.full([2 * n for n in array.shape], np.nan, array.dtype)
    view = big[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    return view


def close(result, right):
    assert_close(result, right, 1e-5 * np.abs(right).max(initial=1))


@MODES
def test_input_out_and_operands_that_run_backwards(backend, arrays, mode):
    right = to_input(arrays, padding_mode=mode, backend="naive")
    out = reversed_strided(np.zeros(right.shape, "float32"))
    x, w, gy = arrays
    assert to_input((x, reversed_strided(w), reversed_strided(gy)), padding_mode=mode, backend=backend, out=out) is out
    close(out, right)
    assert np.isnan(out.base).sum() == out.base.size - out.size, "wrote beside out"


@MODES
@weight_backend
@pytest.mark.parametrize("flip", [False, True])
def test_weight_out_and_operands_that_run_backwards(backend, arrays, mode, flip):
    right = to_weight(arrays, padding_mode=mode, flip_kernel=flip)
    out = reversed_strided(np.zeros(right.shape, "float32"))
    x, w, gy = arrays
    turned = reversed_strided(x), w, reversed_strided(gy)
    assert to_weight(turned, padding_mode=mode, flip_kernel=flip, backend=backend, out=out) is out
    assert np.array_equal(out, right)
    assert np.isnan(out.base).sum() == out.base.size - out.size, "wrote beside out"


def test_input_of_a_flipped_kernel(backend, arrays):
    x, w, gy = arrays
    close(to_input(arrays, flip_kernel=True, backend=backend), to_input((x, w[:, :, ::-1, ::-1], gy)))


@weight_backend
def test_weight_of_a_flipped_kernel(backend, arrays):
    assert np.array_equal(to_weight(arrays, flip_kernel=True, backend=backend), to_weight(arrays)[:, :, ::-1, ::-1])


def test_input_without_batch(backend, arrays):
    x, w, gy = arrays
    close(to_input((x[0], w, gy[0]), backend=backend), to_input(arrays)[0])


@weight_backend
def test_weight_without_batch(backend, arrays):
    x, w, gy = arrays
    assert np.array_equal(to_weight((x[0], w, gy[0]), backend=backend), to_weight((x[:1], w, gy[:1])))


def test_input_of_a_plain_layer(backend, arrays):
    x, w, gy = (a[:1, :1] for a in arrays)
    close(to_input((x[0, 0], w[0, 0], gy[0, 0]), backend=backend), to_input((x, w, gy))[0, 0])


@weight_backend
@pytest.mark.parametrize("flip", [False, True])
def test_weight_of_a_plain_layer(backend, arrays, flip):
    x, w, gy = (a[:1, :1] for a in arrays)
    result = to_weight((x[0, 0], w[0, 0], gy[0, 0]), backend=backend, flip_kernel=flip)
    assert np.array_equal(result, to_weight((x, w, gy), flip_kernel=flip)[0, 0])


@pytest.mark.parametrize("name", [b.name for b in registry.BACKENDS if b.capabilities.reproducible])
@MODES
def test_threads_and_batch_do_not_change_a_bit(name, mode, rng):
    if missing := registry.find(name).missing():
        pytest.skip(f"{name}: {missing}")
    w, gy = rng.standard_normal((6, 4, 3, 3)), rng.standard_normal((3, 6, 6, 7))
    one = grad.conv2d_input((3, 4, 6, 7), w, gy, padding=1, padding_mode=mode, backend=name, threads=1)
    for threads in (2, 8):
        again = grad.conv2d_input((3, 4, 6, 7), w, gy, padding=1, padding_mode=mode, backend=name, threads=threads)
        assert np.array_equal(one, again)
    assert np.array_equal(grad.conv2d_input((4, 6, 7), w, gy[2], padding=1, padding_mode=mode, backend=name), one[2])


def test_gradients_of_a_transposed_layer_are_those_that_the_module_promises(rng):
    x, w, gy = (rng.integers(-4, 5, s).astype("float64") for s in ((1, 3, 4, 5), (3, 2, 3, 3), (1, 2, 9, 11)))
    total = (transpose(x, w, stride=2) * gy).sum()
    assert (fastconv.conv2d(gy, w, stride=2) * x).sum() == total
    assert (grad.conv2d_weight(gy, w.shape, x, stride=2) * w).sum() == total


@MODES
def test_workspace_is_told_and_kept(backend, arrays, mode):
    x, w, gy = arrays
    request = fastconv.calls.grad_input(2, x.shape, w, gy, 1, 1, 1, 1, mode, "NCHW", False, backend, "high", None)
    need = request.plan(borrow=True).workspace_bytes
    close(to_input(arrays, padding_mode=mode, backend=backend, max_workspace=need), to_input(arrays, padding_mode=mode))
    if need:
        with pytest.raises(UnsupportedConv, match=rf"'{backend}' needs [\d,]+ bytes of workspace; got max_workspace=0"):
            to_input(arrays, padding_mode=mode, backend=backend, max_workspace=0)
    else:
        assert backend == "naive"


def test_workspace_of_the_gradient_to_the_weights(arrays):
    assert np.array_equal(to_weight(arrays, backend="im2col", max_workspace=2000), to_weight(arrays, backend="naive"))
    with pytest.raises(UnsupportedConv, match=r"'im2col' needs [\d,]+ bytes of workspace; got max_workspace=100"):
        to_weight(arrays, backend="im2col", max_workspace=100)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_zero_batch(ndim):
    x, gy = X[ndim][:0], GY[ndim][:0]
    assert TO_INPUT[ndim](x.shape, W[ndim], gy).shape == x.shape
    result = TO_WEIGHT[ndim](x, W[ndim].shape, gy)
    assert result.shape == W[ndim].shape and not result.any()
    assert TO_BIAS[ndim](gy).tolist() == [0] * 6


def test_zero_output_channels_send_nothing_back(backend):
    result = grad.conv2d_input((1, 4, 7, 8), W[2][:0], GY[2][:1, :0], backend=backend)
    assert result.shape == (1, 4, 7, 8) and not result.any()


def test_zero_input_channels_have_empty_gradients(backend):
    assert grad.conv2d_input((1, 0, 7, 8), W[2][:, :0], GY[2][:1], backend=backend).shape == (1, 0, 7, 8)
    assert grad.conv2d_weight(X[2][:, :0], (6, 0, 3, 3), GY[2]).shape == (6, 0, 3, 3)


@MODES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])
def test_nonfinite_gradient_goes_to_the_pixels_that_were_seen(backend, arrays, mode, value):
    x, w, gy = arrays
    gy[1, 2, 0, 3] = value
    w[2] = np.abs(w[2]) + 1
    close(to_input(arrays, padding_mode=mode, backend=backend), to_input(arrays, padding_mode=mode, backend="naive"))
    seen = np.zeros_like(gy)
    seen[1, 2, 0, 3] = 1
    touched = to_input((x, w, seen), padding_mode=mode, backend="naive") != 0
    assert np.array_equal(~np.isfinite(to_input(arrays, padding_mode=mode, backend=backend)), touched)


@weight_backend
def test_nonfinite_pixel_in_the_gradient_to_the_weights(backend, arrays):
    x, w, gy = arrays
    x[0, 1, 0, 0], gy[:] = np.inf, np.abs(gy) + 1
    result = to_weight(arrays, backend=backend)
    right = np.zeros(w.shape, bool)
    right[:, 1, :2, :2] = True  # the taps under which the first pixel comes to lie
    assert np.array_equal(np.isposinf(result), right) and np.isfinite(result[~right]).all()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_bias_gradient_of_many_pixels_keeps_its_digits(layout):
    gy = np.full((2, 200, 300, 3) if layout == "NHWC" else (2, 3, 200, 300), 0.1, "float32")
    np.testing.assert_allclose(grad.conv2d_bias(gy, layout=layout), 120_000 * float(gy.flat[0]), rtol=1e-6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_loops_that_nothing_compiles_give_the_same(ndim, rng, monkeypatch):
    shapes = ((1, 2, *(4, 3, 5)[:ndim]), (3, 2, *(2,) * ndim), (1, 3, *(3, 2, 4)[:ndim]))
    x, w, gy = (rng.integers(-9, 9, shape).astype("int8") for shape in shapes)
    compiled = TO_INPUT[ndim](x.shape, w, gy, backend="naive"), TO_WEIGHT[ndim](x, w.shape, gy, backend="naive")
    loops = {"grad_input": naive_loops.naive_grad_input_loops, "grad_weight": naive_loops.naive_grad_weight_loops}
    monkeypatch.setattr(naive, "_loops", lambda op, *dtypes: loops[op])
    assert np.array_equal(TO_INPUT[ndim](x.shape, w, gy, backend="naive"), compiled[0])
    assert np.array_equal(TO_WEIGHT[ndim](x, w.shape, gy, backend="naive"), compiled[1])


def test_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")
    x, w, gy = torch.ones(1, 2, 4, 4), torch.ones(3, 2, 3, 3), torch.ones(1, 3, 2, 2)
    for result, shape in (
        (grad.conv2d_input(x.shape, w, gy), x.shape), (grad.conv2d_weight(x, w.shape, gy), w.shape),
        (grad.conv2d_weight(x, w.shape, gy, flip_kernel=True), w.shape), (grad.conv2d_bias(gy), (3,)),
    ):  # fmt: skip
        assert isinstance(result, torch.Tensor) and result.shape == shape


@pytest.mark.parametrize(("dtype", "result"), [("int8", "int32"), ("uint8", "int32"), ("int16", "int64")])
def test_bias_gradient_of_integers_is_exact(dtype, result):
    gy = np.full((2, 3, 40, 50), np.iinfo(dtype).max, dtype)
    sums = grad.conv2d_bias(gy)
    assert sums.dtype == result and sums.tolist() == [4000 * np.iinfo(dtype).max] * 3


def test_bias_gradient_of_a_plain_image():
    assert grad.conv2d_bias(np.ones((4, 5)), layout="NHWC").tolist() == [20]


def test_8_bit_bias_gradient_that_can_exceed_int32_is_refused():
    wide = np.lib.stride_tricks.as_strided(np.ones(1, "int8"), (1, 1, 3000, 3000), (0, 0, 0, 0))
    with pytest.raises(ValueError, match=r"its 8-bit sums can exceed int32; convert it with astype\('int16'\)"):
        grad.conv2d_bias(wide)
