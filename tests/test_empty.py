"""Layers without images, without output channels or without input channels."""

import numpy as np
import pytest

import fastconv


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_zero_batch_gives_an_empty_result(convolve, ndim):
    x, w = np.ones((0, 2, *(6,) * ndim), "float32"), np.ones((5, 2, *(3,) * ndim), "float32")
    assert convolve(ndim, x, w).shape == (0, 5, *(4,) * ndim)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_zero_output_channels_give_an_empty_result(convolve, ndim):
    x, w = np.ones((2, 2, *(6,) * ndim), "float32"), np.ones((0, 2, *(3,) * ndim), "float32")
    assert convolve(ndim, x, w, np.ones(0, "float32")).shape == (2, 0, *(4,) * ndim)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_zero_outputs_of_one_channel(convolve, layout):
    x, w = np.ones((1, 4, 8, 4), "float32"), np.ones((0, 1, 3, 3), "float32")
    shape = (1, 0, 6, 2) if layout == "NCHW" else (1, 2, 6, 0)
    assert convolve(2, x, w, groups=4, layout=layout).shape == shape


def test_zero_channels_in_and_out(convolve):
    assert convolve(2, np.ones((1, 0, 8, 8), "float32"), np.ones((0, 0, 3, 3), "float32")).shape == (1, 0, 6, 6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_zero_input_channels_give_the_bias(convolve, ndim):
    x, w = np.ones((2, 0, *(6,) * ndim), "float32"), np.ones((3, 0, *(3,) * ndim), "float32")
    bias = np.array([1, 2, 3], "float32")
    result = convolve(ndim, x, w, bias)
    assert np.array_equal(result, np.broadcast_to(bias.reshape(3, *[1] * ndim), (2, 3, *(4,) * ndim)))


def test_zero_input_channels_without_bias_give_zeros(convolve):
    result = convolve(2, np.ones((1, 0, 4, 4), "float32"), np.ones((3, 0, 3, 3), "float32"), out=None)
    assert result.shape == (1, 3, 2, 2) and not result.any()


def test_zero_input_channels_give_the_activated_bias_and_residual(convolve):
    x, w, bias = np.ones((1, 0, 4, 4), "float32"), np.ones((2, 0, 3, 3), "float32"), np.array([-1, 2], "float32")
    result = convolve(2, x, w, bias, residual=np.full((1, 2, 2, 2), -0.5, "float32"), activation="relu")
    assert result[0, :, 0, 0].tolist() == [0, 1.5]


@pytest.mark.parametrize("padding", [1, 2])
def test_empty_image_with_padding_gives_the_bias(convolve, padding):
    x, w = np.ones((1, 2, 0, 5), "float32"), np.ones((3, 2, 2, 2), "float32")
    result = convolve(2, x, w, np.array([1, 2, 3], "float32"), padding=padding)
    assert result.shape == (1, 3, 2 * padding - 1, 4 + 2 * padding)
    assert np.array_equal(result, np.broadcast_to(np.array([1, 2, 3], "float32")[:, None, None], result.shape))


def test_empty_batch_of_integers_has_the_dtype_of_the_sums():
    result = fastconv.conv2d(np.ones((0, 1, 4, 4), "int8"), np.ones((1, 1, 2, 2), "int8"))
    assert result.shape == (0, 1, 3, 3) and result.dtype == "int32"


def test_plan_of_an_empty_batch(backend):
    w = np.ones((3, 2, 3, 3), "float32")
    plan = fastconv.plan(w, (0, 2, 6, 6), backend=backend)
    assert plan(np.ones((0, 2, 6, 6), "float32")).shape == (0, 3, 4, 4)
    full = plan.for_shape((2, 2, 6, 6))(np.ones((2, 2, 6, 6), "float32"))
    np.testing.assert_allclose(full, 18, rtol=1e-5)
