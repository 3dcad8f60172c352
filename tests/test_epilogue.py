"""``act(conv + bias + residual)`` against the float64 formulas, fused or not."""

import numpy as np
import pytest
from oracle import activate as formula
from oracle import assert_close, reference

import fastconv
from fastconv.epilogue import activate, erf
from fastconv.spec import ACTIVATIONS, Epilogue

POINTS = np.concatenate([np.linspace(-12, 12, 97), [-1e4, 1e4, 6 + 2**-20, 3 - 2**-20, -3, 3, 1e-30, -1e-30]])
CHOICES = [None, *ACTIVATIONS, ("leaky_relu", 0.25), ("leaky_relu", 0), ("leaky_relu", -1.5), ("leaky_relu", 2)]
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}

each_activation = pytest.mark.parametrize("activation", CHOICES, ids=str)
each_dtype = pytest.mark.parametrize("dtype", list(EPS))


def identity(convolve, values, **options):
    """``values`` through a 1x1 layer whose weight is 1."""
    x = np.asarray(values)[None, None, None]
    return convolve(2, x, np.ones((1, 1, 1, 1), x.dtype), **options)[0, 0, 0]


@each_activation
@each_dtype
def test_activation_is_its_formula(convolve, activation, dtype):
    x = POINTS.astype(dtype)
    result, right = identity(convolve, x, activation=activation), formula(x.astype("float64"), activation)
    fourier = 1e4 if np.abs(result - x).max() and activation is None else 0  # fft mixes the large points in
    assert_close(result / np.maximum(np.abs(x), 1), right / np.maximum(np.abs(x), 1), 8 * EPS[dtype] * (1 + fourier))


@each_activation
def test_whole_epilogue(convolve, activation, rng):
    x, w = rng.standard_normal((2, 5, 7, 8)).astype("float32"), rng.standard_normal((6, 5, 3, 3)).astype("float32")
    bias, residual = rng.standard_normal(6).astype("float32"), rng.standard_normal((2, 6, 7, 8)).astype("float32")
    result = convolve(2, x, w, bias, padding=1, residual=residual, activation=activation)
    right = reference(x, w, bias, padding=1, residual=residual, activation=activation)
    assert_close(result, right, 1e-5 * np.abs(right).max())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("rank", [3, 4])
def test_residual_has_the_shape_of_the_result(convolve, layout, rank, rng):
    x, w = rng.standard_normal((1, 6, 7, 4)).astype("float32"), rng.standard_normal((5, 4, 3, 3)).astype("float32")
    right = reference(x, w, channels_last=True)
    residual = rng.standard_normal(right.shape).astype("float32")
    right = right + residual
    if layout == "NCHW":
        x, residual, right = (np.moveaxis(a, -1, 1) for a in (x, residual, right))
    if rank == 3:
        x, residual, right = x[0], residual[0], right[0]
    assert_close(convolve(2, x, w, residual=residual, layout=layout), right, 1e-4)


def test_plan_takes_the_residual_of_each_call(convolve, backend, rng):
    x, w = rng.standard_normal((1, 2, 5, 5)).astype("float32"), rng.standard_normal((3, 2, 3, 3)).astype("float32")
    plan = fastconv.plan(w, x.shape, backend=backend, activation="relu")
    for _ in range(2):
        residual = rng.standard_normal((1, 3, 3, 3)).astype("float32")
        assert_close(plan(x, residual=residual), reference(x, w, residual=residual, activation="relu"), 1e-4)


def test_bias_of_a_plain_layer(convolve):
    result = convolve(2, np.ones((3, 3), "float32"), np.ones((2, 2), "float32"), np.array([0.5], "float32"))
    np.testing.assert_allclose(result, 4.5, rtol=1e-5)


@each_activation
@each_dtype
def test_nan_stays_nan(convolve, activation, dtype):
    assert np.isnan(identity(convolve, np.full(5, np.nan, dtype), activation=activation)).all()


@each_activation
def test_nan_of_the_bias_stays_nan(convolve, activation):
    x, w = np.ones((1, 1, 3, 20), "float32"), np.ones((2, 1, 1, 1), "float32")
    result = convolve(2, x, w, np.array([np.nan, 0], "float32"), activation=activation)
    assert np.isnan(result[0, 0]).all() and np.isfinite(result[0, 1]).all()


@each_activation
def test_nan_of_the_residual_stays_where_it_is(convolve, activation):
    x, residual = np.ones((1, 1, 3, 20), "float32"), np.zeros((1, 1, 3, 20), "float32")
    residual[0, 0, 1, 7] = np.nan
    result = convolve(2, x, np.ones((1, 1, 1, 1), "float32"), residual=residual, activation=activation)
    assert np.argwhere(np.isnan(result)).tolist() == [[0, 0, 1, 7]]


@pytest.mark.parametrize(
    ("activation", "at_plus", "at_minus"),
    [
        (None, np.inf, -np.inf), ("relu", np.inf, 0), ("relu6", 6, 0), ("leaky_relu", np.inf, -np.inf),
        (("leaky_relu", 0.5), np.inf, -np.inf), ("hardswish", np.inf, 0),
    ],
)  # fmt: skip
def test_infinities_go_to_their_limits(convolve, activation, at_plus, at_minus):
    x, w, bias = np.ones((1, 1, 2, 20), "float32"), np.ones((2, 1, 1, 1), "float32"), [np.inf, -np.inf]
    result = convolve(2, x, w, np.array(bias, "float32"), activation=activation)
    assert (result[0, 0] == at_plus).all() and (result[0, 1] == at_minus).all()


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_smooth_activations_reach_plus_infinity(convolve, activation):
    x, w = np.ones((1, 1, 2, 20), "float32"), np.ones((1, 1, 1, 1), "float32")
    result = convolve(2, x, w, np.array([np.inf], "float32"), activation=activation)
    assert (result == np.inf).all()


@pytest.mark.parametrize("activation", [a for a in CHOICES if a != "relu6"], ids=str)
def test_far_negative_values_do_not_overflow(convolve, activation):
    result = identity(convolve, np.full(20, -1e30, "float32"), activation=activation)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("backend_name", ["naive", "im2col"])
@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu"])
def test_minus_zero_has_the_value_zero_after_any_activation(backend_name, activation):
    x = np.full((1, 1, 1, 20), -0.0, "float32")
    result = fastconv.conv2d(x, np.ones((1, 1, 1, 1), "float32"), activation=activation, backend=backend_name)
    assert (result == 0).all()


@pytest.mark.parametrize("activation", ["leaky_relu", "silu", "gelu", "gelu_tanh", "hardswish"])
@each_dtype
def test_odd_activations_keep_minus_zero(activation, dtype):
    result = activate(np.array([-0.0], dtype), Epilogue(activation, 0.01))
    assert result[0] == 0 and np.signbit(result[0])


@each_dtype
def test_activation_keeps_the_dtype(dtype):
    for name in ACTIVATIONS:
        assert activate(POINTS.astype(dtype), Epilogue(name, 0.1)).dtype == dtype


@each_dtype
def test_erf_is_that_of_the_math_library(dtype):
    import math

    x = np.linspace(-6, 6, 101).astype(dtype)
    right = np.array([math.erf(v) for v in x.astype("float64")])
    assert_close(erf(x), right, 4 * EPS[dtype])


@each_dtype
def test_erf_without_scipy(dtype, monkeypatch):
    import math
    import sys

    monkeypatch.setitem(sys.modules, "scipy.special", None)  # importing it fails
    monkeypatch.setitem(sys.modules, "scipy", None)
    x = np.linspace(-6, 6, 101).astype(dtype)
    result = erf(x)
    assert result.dtype == dtype
    assert_close(result, np.array([math.erf(v) for v in x.astype("float64")]), EPS[dtype])
