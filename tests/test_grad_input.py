"""Bad input of the gradients: an error of the right type that names argument, value and remedy."""

import re

import numpy as np
import pytest

from fastconv import grad

TO_INPUT = {1: grad.conv1d_input, 2: grad.conv2d_input, 3: grad.conv3d_input}
TO_WEIGHT = {1: grad.conv1d_weight, 2: grad.conv2d_weight, 3: grad.conv3d_weight}
TO_BIAS = {1: grad.conv1d_bias, 2: grad.conv2d_bias, 3: grad.conv3d_bias}
X = {n: np.ones((2, 4, *(7, 8, 9)[:n]), "float32") for n in (1, 2, 3)}
W = {n: np.ones((6, 4, *(3,) * n), "float32") for n in (1, 2, 3)}
GY = {n: np.ones((2, 6, *(5, 6, 7)[:n]), "float32") for n in (1, 2, 3)}


def input_gradient(ndim, size=None, w=None, gy=None, **options):
    size = X[ndim].shape if size is None else size
    return TO_INPUT[ndim](size, W[ndim] if w is None else w, GY[ndim] if gy is None else gy, **options)


def weight_gradient(ndim, x=None, size=None, gy=None, **options):
    size = W[ndim].shape if size is None else size
    return TO_WEIGHT[ndim](X[ndim] if x is None else x, size, GY[ndim] if gy is None else gy, **options)


@pytest.fixture(params=[1, 2, 3], ids=["1d", "2d", "3d"])
def ndim(request):
    return request.param


@pytest.fixture(params=[input_gradient, weight_gradient])
def entrance(request):
    return request.param


def refuses(error, *words):
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(w)})" for w in words))


@pytest.mark.parametrize("cut", [(slice(1),), (slice(None), slice(5)), (..., slice(1, None))])
def test_grad_output_of_another_shape(entrance, ndim, cut):
    wrong = GY[ndim][cut]
    with refuses(ValueError, f"grad_output has shape {wrong.shape}", f"puts out {GY[ndim].shape}"):
        entrance(ndim, gy=wrong)


def test_grad_output_of_another_rank(entrance, ndim):
    with refuses(ValueError, f"grad_output has shape {GY[ndim][0].shape}", f"puts out {GY[ndim].shape}"):
        entrance(ndim, gy=GY[ndim][0])


def test_mixed_dtypes(entrance, ndim):
    with refuses(TypeError, "grad_output", "float64", "float32", "astype"):
        entrance(ndim, gy=GY[ndim].astype("float64"))


@pytest.mark.parametrize("size", [5, 3.5, "abcd", (2, 4, 7.0), (2, 4, True)])
def test_sizes_that_are_no_shapes(entrance, ndim, size):
    with refuses(TypeError, "_size"):
        entrance(ndim, size=size)


@pytest.mark.parametrize("name", ["padding_mode", "layout", "accuracy", "backend"])
def test_unknown_names(entrance, ndim, name):
    with refuses(ValueError, f"{name}='nonsense'", "choose"):
        entrance(ndim, **{name: "nonsense"})


@pytest.mark.parametrize("value", [1.0, True, None])
@pytest.mark.parametrize("name", ["stride", "dilation", "padding", "groups"])
def test_other_types_where_an_int_belongs(entrance, ndim, name, value):
    with refuses(TypeError, name, "must be an int"):
        entrance(ndim, **{name: value})


@pytest.mark.parametrize("name", ["stride", "dilation", "groups"])
def test_numbers_below_one(entrance, ndim, name):
    with refuses(ValueError, name, "0", "at least 1"):
        entrance(ndim, **{name: 0})


@pytest.mark.parametrize("value", [1, "yes", None])
def test_flip_kernel_that_is_no_bool(entrance, ndim, value):
    with refuses(TypeError, f"flip_kernel={value!r}", "True or False"):
        entrance(ndim, flip_kernel=value)


def test_out_of_another_shape(entrance, ndim):
    with refuses(ValueError, "out has shape (3,)"):
        entrance(ndim, out=np.empty(3, "float32"))


@pytest.mark.parametrize("flip", [False, True])
def test_weight_out_of_another_shape_with_and_without_flip(ndim, flip):
    with refuses(ValueError, "out has shape (3,)", str(W[ndim].shape)):
        weight_gradient(ndim, out=np.empty(3, "float32"), flip_kernel=flip)


def test_out_overlaps_grad_output():
    x, w, gy = (np.ones(s, "float32") for s in ((2, 4, 6, 7), (6, 4, 3, 3), (2, 6, 6, 7)))
    memory = np.zeros(gy.size + 10, "float32")
    with refuses(ValueError, "out shares memory with grad_output"):
        grad.conv2d_input(x.shape, w, memory[: gy.size].reshape(gy.shape), padding=1,
                          out=memory[-x.size :].reshape(x.shape))  # fmt: skip
    with refuses(ValueError, "out shares memory with grad_output"):
        grad.conv2d_weight(x, w.shape, memory[: gy.size].reshape(gy.shape), padding=1,
                           out=memory[-w.size :].reshape(w.shape))  # fmt: skip


def test_channel_counts_that_differ(ndim):
    with refuses(ValueError, "has 3 channels", "takes 4"):
        input_gradient(ndim, size=(2, 3, *X[ndim].shape[2:]))
    with refuses(ValueError, "has 4 channels", "takes 3"):
        weight_gradient(ndim, size=(6, 3, *W[ndim].shape[2:]))


@pytest.mark.parametrize("shape", [(), (2,) * 7])
def test_bias_gradient_of_the_wrong_rank(ndim, shape):
    with refuses(ValueError, f"grad_output has shape {shape}", f"expected {ndim + 2} axes"):
        TO_BIAS[ndim](np.ones(shape))


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_8_bit_sums_that_can_exceed_int32(mode):
    """A pixel gathers one product for each tap, and again for each of its copies in the padding."""
    taps, padding = (140_000, 0) if mode == "zeros" else (1, 70_000)
    gy = np.ones((1, 1, 1 if mode == "zeros" else 140_001), "int8")
    with refuses(ValueError, "products of int8 and int8 can exceed int32", "int16"):
        grad.conv1d_input((1, 1, taps), np.ones((1, 1, taps), "int8"), gy, padding=padding, padding_mode=mode)
