"""Gradients of poolings against their definitions: transposes, where maxima came from, finite differences."""

import functools
import math
import re

import numpy as np
import pool_oracle as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import grad as gradients

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60)
PADDING = {"torch": "pairs", "onnx": "any"}


def problem(data, compat):
    """A layer with distinct numbers, its windows, the gradient to its output, calls of the pool and of its gradient."""
    ndim, x, *layer = data.draw(oracle.layers(PADDING[compat]))
    kernel, stride, padding, dilation, ceil_mode = layer
    rng = np.random.default_rng(x.size)
    x = rng.permutation(np.linspace(0.5, 2.5, x.size)).reshape(x.shape) * rng.choice([-1, 1], x.shape)
    options = dict(kernel_size=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    last, axes = data.draw(st.booleans()), oracle.axes_of(x, ndim, *layer)
    layout = {"layout": (oracle.LAST if last else oracle.FIRST)[ndim]}
    to, back = (oracle.to_last, oracle.to_first) if last else ((lambda a, _: a),) * 2

    def pool(name, x, *args, **more):
        function = getattr(fastconv, f"{name}{ndim}d")
        return back(function(to(x, ndim), *args, **options, **more, **layout, compat=compat), ndim)

    def gradient(name, *args, indices=None, **more):
        function = getattr(gradients, f"{name}{ndim}d_input")
        args = [to(a, ndim) if isinstance(a, np.ndarray) else a for a in args]
        args = [to(np.empty(a), ndim).shape if isinstance(a, tuple) else a for a in args]
        more |= {} if indices is None else {"indices": to(indices, ndim)}
        return back(function(*args, **options, **more, **layout, compat=compat), ndim)

    return x, axes, rng.standard_normal(oracle.shape(x, axes)), pool, gradient


@EXAMPLES
@given(st.data(), st.sampled_from(["torch", "onnx"]))
def test_maximum_gives_to_the_element_that_it_returned(data, compat):
    x, axes, given, _, gradient = problem(data, compat)
    places = oracle.maximum(x, axes)[1]
    expected = oracle.spread(x, axes, places, given)
    np.testing.assert_allclose(gradient("max_pool", x, given), expected, rtol=1e-13, atol=1e-14)
    if compat == "onnx":
        plane, windows = math.prod(x.shape[x.ndim - len(axes) :]), math.prod(map(len, axes))
        places = np.where(places < 0, -1, places + plane * (np.arange(places.size) // windows).reshape(places.shape))
    indexed = gradient("max_pool", x, given, indices=places)
    np.testing.assert_allclose(indexed, expected, rtol=1e-13, atol=1e-14)


@EXAMPLES
@given(st.data(), st.sampled_from(["torch", "onnx"]), st.booleans(), st.sampled_from([None, 3]))
def test_mean_is_transposed(data, compat, include, override):
    x, _, given, pool, gradient = problem(data, compat)
    options = dict(count_include_pad=True if compat == "onnx" else include, divisor_override=override)
    one = (pool("avg_pool", x, **options) * given).sum()
    other = (x * gradient("avg_pool", x.shape, given, **options)).sum()
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def differences(function, x, given, step=1e-6):
    """Central differences of the sum of ``given * function(x)``."""
    result = np.zeros(x.size)
    for i in range(x.size):
        shift = np.zeros(x.size)
        shift[i] = step
        up, down = (function(x + sign * shift.reshape(x.shape)) for sign in (1, -1))
        result[i] = ((up - down) * given).sum() / (2 * step)
    return result.reshape(x.shape)


@settings(EXAMPLES, max_examples=40)
@given(st.data(), st.sampled_from(["torch", "onnx"]), st.sampled_from([1, 2, 3, 2.5, math.inf]))
def test_norm_by_finite_differences(data, compat, p):
    x, _, given, pool, gradient = problem(data, compat)
    x = np.abs(x) if compat == "torch" and p not in (1, 2, math.inf) else x
    if x.size > 150:
        x, given = x[:1], given[:1]
    result = gradient("lp_pool", x, given, norm_type=p)
    np.testing.assert_allclose(result, differences(lambda a: pool("lp_pool", a, p), x, given), rtol=1e-5, atol=1e-6)


def test_first_of_equal_maxima_takes_all():
    assert gradients.max_pool1d_input(np.ones(4), np.array([1.0, 2.0]), 2).tolist() == [1, 0, 2, 0]


def test_last_nan_takes_all():
    x = np.array([np.nan, 9, np.nan, 9])
    assert gradients.max_pool1d_input(x, np.array([1.0]), 4).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("p", [1, 2, 3])
def test_norm_of_zeros_gives_nothing(p):
    assert gradients.lp_pool1d_input(np.zeros(4), np.ones(2), p, 2).tolist() == [0, 0, 0, 0]


@EXAMPLES
@given(st.data())
def test_adaptive_gradients(data):
    ndim = data.draw(st.integers(1, 3))
    size, out = ([data.draw(st.integers(1, 6)) for _ in range(ndim)] for _ in range(2))
    lead, axes = data.draw(st.sampled_from([(), (2,), (2, 3)])), list(map(oracle.bins, size, out))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x, given = rng.integers(-3, 4, (*lead, *size)).astype(float), rng.standard_normal((*lead, *out))
    last = {"layout": oracle.LAST[ndim]}
    best, mean = (getattr(gradients, f"adaptive_{kind}_pool{ndim}d_input") for kind in ("max", "avg"))

    places = oracle.maximum(x, axes)[1]
    expected = oracle.spread(x, axes, places, given)
    np.testing.assert_allclose(best(x, given), expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(best(x, given, indices=places), expected, rtol=1e-13, atol=1e-14)
    turned = best(oracle.to_last(x, ndim), oracle.to_last(given, ndim), **last)
    np.testing.assert_allclose(oracle.to_first(turned, ndim), expected, rtol=1e-13, atol=1e-14)

    y = oracle.mean(x, axes, lambda inside, spanned: inside)
    np.testing.assert_allclose((mean(x.shape, given) * x).sum(), (y * given).sum(), rtol=1e-10, atol=1e-12)
    turned = mean(oracle.to_last(x, ndim).shape, oracle.to_last(given, ndim), **last)
    np.testing.assert_allclose(oracle.to_first(turned, ndim), mean(x.shape, given), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("compat", ["torch", "onnx"])
def test_unpooling_is_transposed(rng, compat):
    x = rng.standard_normal((2, 3, 6, 6))
    best, where = fastconv.max_pool2d(x, 2, return_indices=True, compat=compat)
    where[0, 1, 2, 0] = -1
    given = rng.standard_normal(x.shape)
    one = (fastconv.max_unpool2d(best, where, 2, compat=compat) * given).sum()
    other = (best * gradients.max_unpool2d_input(given, where, compat=compat)).sum()
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_unpooling_gradient_in_both_layouts(rng, ndim):
    given = rng.standard_normal((2, 3, *(4,) * ndim))
    where = rng.integers(-1, 4**ndim, (2, 3, *(2,) * ndim))
    gradient = getattr(gradients, f"max_unpool{ndim}d_input")
    flat = np.concatenate([given.reshape(6, -1), np.zeros((6, 1))], axis=1)
    expected = np.take_along_axis(flat, where.reshape(6, -1) % (4**ndim + 1), axis=1).reshape(where.shape)
    np.testing.assert_array_equal(gradient(given, where), expected)
    last = gradient(oracle.to_last(given, ndim), oracle.to_last(where, ndim), layout=oracle.LAST[ndim])
    np.testing.assert_array_equal(oracle.to_first(last, ndim), expected)


X, G = np.arange(16.0).reshape(1, 4, 4), np.ones((1, 2, 2))
WHERE = np.full((1, 2, 2), 5)
CALLS = {
    "max": functools.partial(gradients.max_pool2d_input, X, kernel_size=2),
    "avg": functools.partial(gradients.avg_pool2d_input, X.shape, kernel_size=2),
    "lp": functools.partial(gradients.lp_pool2d_input, X, norm_type=2, kernel_size=2),
    "adaptive_max": functools.partial(gradients.adaptive_max_pool2d_input, X),
    "adaptive_avg": functools.partial(gradients.adaptive_avg_pool2d_input, X.shape),
    "unpool": functools.partial(gradients.max_unpool2d_input, indices=WHERE),
}
SIZED = {"max", "avg", "lp"}  # the others read the size of the output off the gradient


@pytest.mark.parametrize("name", CALLS)
def test_gradient_into_out(name):
    given = X if name == "unpool" else G
    expected = CALLS[name](grad_output=given)
    out = np.full(expected.shape, 7.0)
    assert CALLS[name](grad_output=given, out=out) is out
    np.testing.assert_array_equal(out, expected)
    whole = np.zeros((1, 4, 4))
    given, out = (whole[:, : shape[1], : shape[2]] for shape in (given.shape, expected.shape))
    with pytest.raises(ValueError, match="out shares memory with grad_output"):
        CALLS[name](grad_output=given, out=out)


@pytest.mark.parametrize("name", CALLS)
def test_gradient_is_a_tensor_where_grad_output_is(name):
    torch = pytest.importorskip("torch")
    given = X if name == "unpool" else G
    result = CALLS[name](grad_output=torch.from_numpy(given))
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result, CALLS[name](grad_output=given))


@pytest.mark.parametrize("name", sorted(SIZED))
def test_gradient_of_another_shape_is_refused(name):
    with pytest.raises(ValueError, match=re.escape("grad_output has shape (1, 2, 3); the layer puts out (1, 2, 2)")):
        CALLS[name](grad_output=np.ones((1, 2, 3)))


@pytest.mark.parametrize("name", ["adaptive_max", "adaptive_avg"])
def test_gradient_of_other_channels_is_refused(name):
    with pytest.raises(ValueError, match=re.escape("grad_output has shape (2, 2, 2); the layer puts out (1, 2, 2)")):
        CALLS[name](grad_output=np.ones((2, 2, 2)))


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"unpool"}))
def test_gradient_of_integers_is_refused(name):
    with pytest.raises(TypeError, match="grad_output has dtype int64"):
        CALLS[name](grad_output=np.ones((1, 2, 2), "int64"))


@pytest.mark.parametrize("name", ["max", "lp", "adaptive_max"])
def test_gradient_of_another_dtype_is_refused(name):
    with pytest.raises(TypeError, match="grad_output has dtype float32 and x has float64"):
        CALLS[name](grad_output=G.astype("float32"))


@pytest.mark.parametrize("name", ["max", "adaptive_max"])
def test_bad_indices_are_refused(name):
    with pytest.raises(ValueError, match="indices holds 16, no position in a plane of 16 elements"):
        CALLS[name](grad_output=G, indices=WHERE + 11)
    with pytest.raises(ValueError, match=re.escape("indices has shape (1, 2) and grad_output has (1, 2, 2)")):
        CALLS[name](grad_output=G, indices=WHERE[0, :1])
    with pytest.raises(TypeError, match="indices has dtype int32"):
        CALLS[name](grad_output=G, indices=WHERE.astype("int32"))


def test_unpooling_gradient_refuses_indices_of_other_channels():
    with pytest.raises(ValueError, match="they must be the same"):
        gradients.max_unpool2d_input(X, np.zeros((2, 2, 2), "int64"))
    with pytest.raises(ValueError, match="indices holds 16"):
        gradients.max_unpool2d_input(X, WHERE + 11)


@pytest.mark.parametrize("name", ["avg", "adaptive_avg"])
def test_size_must_be_ints(name):
    with pytest.raises(TypeError, match="input_size"):
        CALLS[name].func((1, 4.0, 4), G, *CALLS[name].args[1:], **CALLS[name].keywords)
