"""Adaptive pooling and unpooling against their definitions, and what they refuse."""

import re

import numpy as np
import pool_oracle as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv

AVG = {1: fastconv.adaptive_avg_pool1d, 2: fastconv.adaptive_avg_pool2d, 3: fastconv.adaptive_avg_pool3d}
MAX = {1: fastconv.adaptive_max_pool1d, 2: fastconv.adaptive_max_pool2d, 3: fastconv.adaptive_max_pool3d}
POOL = {1: fastconv.max_pool1d, 2: fastconv.max_pool2d, 3: fastconv.max_pool3d}
UNPOOL = {1: fastconv.max_unpool1d, 2: fastconv.max_unpool2d, 3: fastconv.max_unpool3d}
EXAMPLES = settings(deadline=None, derandomize=True, max_examples=80)
X = np.arange(24.0).reshape(2, 3, 4)


@st.composite
def adaptive_layers(draw):
    ndim = draw(st.integers(1, 3))
    size, out = ([draw(st.integers(1, 7)) for _ in range(ndim)] for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.integers(-3, 4, (*draw(st.sampled_from([(), (2,), (2, 3)])), *size)).astype("float64")
    x[rng.random(x.shape) < draw(st.sampled_from([0, 0.1]))] = np.nan
    return x, ndim, tuple(out), [oracle.bins(s, o) for s, o in zip(size, out, strict=True)]


@EXAMPLES
@given(adaptive_layers())
def test_any_adaptive_maximum(layer):
    x, ndim, size, axes = layer
    expected, places = oracle.maximum(x, axes)
    best, where = MAX[ndim](x, size, return_indices=True)
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(where, places)
    np.testing.assert_array_equal(MAX[ndim](x, size), expected)
    last = MAX[ndim](oracle.to_last(x, ndim), size, return_indices=True, layout=oracle.LAST[ndim])
    np.testing.assert_array_equal(oracle.to_first(last[0], ndim), expected)
    np.testing.assert_array_equal(oracle.to_first(last[1], ndim), places)


@EXAMPLES
@given(adaptive_layers())
def test_any_adaptive_mean(layer):
    x, ndim, size, axes = layer
    expected = oracle.mean(x, axes, lambda inside, spanned: inside)
    np.testing.assert_allclose(AVG[ndim](x, size), expected, rtol=1e-14, atol=1e-15)
    last = AVG[ndim](oracle.to_last(x, ndim), size, layout=oracle.LAST[ndim])
    np.testing.assert_allclose(oracle.to_first(last, ndim), expected, rtol=1e-14, atol=1e-15)


def test_none_keeps_an_axis():
    np.testing.assert_array_equal(fastconv.adaptive_avg_pool2d(X, (None, 1))[..., 0], X.mean(-1))
    np.testing.assert_array_equal(fastconv.adaptive_max_pool2d(X, (1, None))[:, 0], X.max(1))


def test_size_1_is_global_pooling():
    assert fastconv.adaptive_avg_pool2d(X, 1).ravel().tolist() == [5.5, 17.5]
    assert fastconv.adaptive_max_pool2d(X, 1).ravel().tolist() == [11, 23]


def test_more_outputs_than_inputs_repeat_them():
    assert fastconv.adaptive_max_pool1d(np.array([1.0, 2.0]), 4).tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("dtype", ["int8", "uint64"])
def test_adaptive_maximum_of_integers(dtype):
    best, where = fastconv.adaptive_max_pool2d(X.astype(dtype), (1, 2), return_indices=True)
    assert best.dtype == dtype
    assert (best.ravel().tolist(), where.ravel().tolist()) == ([9, 11, 21, 23], [9, 11, 9, 11])


def test_adaptive_mean_of_integers_is_refused():
    with pytest.raises(TypeError, match="x has dtype int64, whose mean is no integer"):
        fastconv.adaptive_avg_pool1d(np.arange(4), 2)


@pytest.mark.parametrize("pool", [fastconv.adaptive_avg_pool2d, fastconv.adaptive_max_pool2d])
def test_adaptive_out_and_empty_batch(pool):
    out = np.zeros((2, 2, 2))
    assert pool(X, 2, out=out) is out
    np.testing.assert_array_equal(out, pool(X, 2))
    assert pool(np.zeros((0, 3, 4, 4)), 2).shape == (0, 3, 2, 2)
    assert pool(np.zeros((3, 0, 4, 4)), 2).shape == (3, 0, 2, 2)


@pytest.mark.parametrize("pool", [fastconv.adaptive_avg_pool2d, fastconv.adaptive_max_pool2d])
@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (0, ValueError, "output_size=0: every entry must be at least 1, or None"),
        ((2, -1), ValueError, "output_size=(2, -1): every entry must be at least 1"),
        ((2, 2, 2), ValueError, "output_size=(2, 2, 2) has 3 entries"),
        (2.0, TypeError, "output_size=2.0 must be an int"),
        ((2, "2"), TypeError, "output_size='2' must be an int"),
        (None, TypeError, "output_size=None must be an int"),
    ],
)
def test_bad_output_size_is_named(pool, size, error, text):
    with pytest.raises(error, match=re.escape(text)):
        pool(X, size)


@pytest.mark.parametrize("pool", [fastconv.adaptive_avg_pool2d, fastconv.adaptive_max_pool2d])
def test_adaptive_empty_image_is_refused(pool):
    with pytest.raises(ValueError, match="every spatial axis needs at least one element"):
        pool(np.zeros((1, 0, 4)), 2)


@EXAMPLES
@given(st.data(), st.sampled_from(["torch", "onnx"]))
def test_unpooling_puts_every_maximum_back(data, compat):
    """Where windows do not overlap, what is not a maximum is 0 and the rest is the input."""
    ndim, stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    size = [stride * data.draw(st.integers(1, 3)) for _ in range(ndim)]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.standard_normal((*data.draw(st.sampled_from([(), (2,), (2, 3)])), *size))
    best, where = POOL[ndim](x, stride, return_indices=True, compat=compat)
    axes = oracle.axes_of(x, ndim, [stride] * ndim, [stride] * ndim, [0] * ndim, [1] * ndim, False)
    expected = oracle.spread(x, axes, *reversed(oracle.maximum(x, axes)))
    np.testing.assert_array_equal(UNPOOL[ndim](best, where, stride, compat=compat), expected)
    if compat == "torch":
        last = (oracle.to_last(best, ndim), oracle.to_last(where, ndim))
        y = UNPOOL[ndim](*last, stride, layout=oracle.LAST[ndim])
        np.testing.assert_array_equal(oracle.to_first(y, ndim), expected)


ONE, TWO = np.array([[5.0]]), np.array([[3]])


def test_output_size_of_unpooling():
    assert fastconv.max_unpool2d(ONE, TWO, 2).tolist() == [[0, 0], [0, 5]]
    assert fastconv.max_unpool2d(ONE, TWO, 2, output_size=3).tolist() == [[0, 0, 0], [5, 0, 0], [0, 0, 0]]
    assert fastconv.max_unpool2d(ONE, TWO, 2, padding=[(0, 0), (0, 1)], output_size=(2, 2)).shape == (2, 2)
    assert fastconv.max_unpool2d(ONE[None], TWO[None], 2, output_size=(1, 3, 3)).shape == (1, 3, 3)


def test_output_size_of_unpooling_in_onnx_adds_zeros():
    y = fastconv.max_unpool2d(ONE, TWO, 2, output_size=(3, 5), compat="onnx")
    assert y.tolist() == [[0, 0, 0, 0, 0], [0, 5, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_later_elements_stay_and_minus_1_goes_nowhere():
    assert fastconv.max_unpool1d(np.array([1, 2, 3], "int8"), np.array([1, 1, -1]), 1).tolist() == [0, 2, 0]


def test_unpooling_into_out():
    out = np.ones((2, 2))
    assert fastconv.max_unpool2d(ONE, TWO, 2, out=out) is out
    assert out.tolist() == [[0, 0], [0, 5]]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (dict(indices=np.array([[4]])), ValueError, "indices holds 4, no position in a plane of 4 elements"),
        (dict(indices=np.array([[-2]])), ValueError, "indices holds -2, no position"),
        (dict(indices=np.array([[3]], "int32")), TypeError, "indices has dtype int32; convert"),
        (dict(indices=np.array([3])), ValueError, "indices has shape (1,) and x has (1, 1)"),
        (dict(output_size=4), ValueError, "output_size=4 must differ from (2, 2) by less than stride=(2, 2)"),
        (dict(output_size=0), ValueError, "output_size=0 must differ"),
        (dict(output_size=1, compat="onnx"), ValueError, "output_size=1 is less than (2, 2)"),
        (dict(output_size=(1, 2, 2)), ValueError, "output_size=(1, 2, 2) has 3 entries"),
        (dict(padding="same"), ValueError, "padding='same' leaves the size of the output open"),
        (dict(padding=1), ValueError, "padding=1 leaves an output of size (0, 0)"),
        (dict(padding=-1), ValueError, "padding=-1: must be at least 0"),
        (dict(stride=0), ValueError, "stride=(0, 0): every entry must be at least 1"),
        (dict(compat="tf"), ValueError, "compat='tf' is unknown"),
        (dict(out=np.zeros((3, 3))), ValueError, "out has shape (3, 3)"),
    ],
)
def test_bad_unpooling_is_named(options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        fastconv.max_unpool2d(**(dict(x=ONE, indices=TWO, kernel_size=2) | options))


def test_unpooling_into_another_batch_is_refused():
    with pytest.raises(ValueError, match="has another batch or other channels than x"):
        fastconv.max_unpool2d(ONE[None], TWO[None], 2, output_size=(2, 3, 3))


def test_tensors_come_and_go(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.standard_normal((2, 3, 6, 6)))
    best, where = fastconv.adaptive_max_pool2d(x, 3, return_indices=True)
    results = [best, where, fastconv.adaptive_avg_pool2d(x, 3), fastconv.lp_pool2d(x, 2, 2)]
    results.append(fastconv.max_unpool2d(best, where, 2))
    assert all(isinstance(result, torch.Tensor) for result in results)
    again, _ = fastconv.max_pool2d(results[-1].abs(), 2, return_indices=True)
    np.testing.assert_array_equal(again, best.abs())
