"""Poolings with sliding windows against their definition, over random layers of both dialects and both layouts."""

import math

import numpy as np
import pool_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=80)
PADDING = {"torch": "pairs", "onnx": "any"}


def problem(data, compat, **options):
    """A layer, its windows, and a function that calls a pool of that many axes in one of its layouts."""
    ndim, x, *layer = data.draw(oracle.layers(PADDING[compat], **options))
    kernel, stride, padding, dilation, ceil_mode = layer
    last = data.draw(st.booleans())

    def call(name, *args, **more):
        given = dict(kernel_size=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
        function, compatible = getattr(fastconv, f"{name}{ndim}d"), {"compat": compat}
        if not last:
            return function(x, *args, **given, **compatible, **more)
        results = function(oracle.to_last(x, ndim), *args, **given, **compatible, **more, layout=oracle.LAST[ndim])
        both = results if isinstance(results, tuple) else (results,)
        both = tuple(oracle.to_first(result, ndim) for result in both)
        return both if isinstance(results, tuple) else both[0]

    return x, oracle.axes_of(x, ndim, *layer), math.prod(kernel), call


@EXAMPLES
@given(st.data(), st.sampled_from(["torch", "onnx"]))
def test_any_maximum(data, compat):
    x, axes, _, call = problem(data, compat, nan=True)
    expected, places = oracle.maximum(x, axes)
    best, where = call("max_pool", return_indices=True)
    if compat == "onnx":
        plane = math.prod(x.shape[x.ndim - len(axes) :])
        windows = math.prod(map(len, axes))
        places = np.where(places < 0, -1, places + plane * (np.arange(where.size) // windows).reshape(where.shape))
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(where, places)
    np.testing.assert_array_equal(call("max_pool"), expected)


@EXAMPLES
@given(st.data(), st.sampled_from(["torch", "onnx"]))
def test_any_maximum_by_columns(data, compat):
    x, axes, _, call = problem(data, compat)
    by_rows, by_columns = (call("max_pool", return_indices=True, storage_order=order)[1] for order in (0, 1))
    size = x.shape[x.ndim - len(axes) :]
    plane = math.prod(size)
    places = np.unravel_index(np.maximum(by_rows, 0) % plane, size)
    turned = np.ravel_multi_index(places, size, order="F") + np.maximum(by_rows, 0) // plane * plane
    np.testing.assert_array_equal(by_columns, np.where(by_rows < 0, -1, turned))


@EXAMPLES
@given(st.data(), st.sampled_from(["torch", "onnx"]), st.booleans(), st.sampled_from([None, 3]))
def test_any_mean(data, compat, include, override):
    x, axes, _, call = problem(data, compat)
    divisor = (lambda inside, spanned: override) if override else lambda inside, spanned: spanned if include else inside
    y = call("avg_pool", count_include_pad=include, divisor_override=override)
    np.testing.assert_allclose(y, oracle.mean(x, axes, divisor), rtol=1e-14, atol=1e-15)


@EXAMPLES
@given(st.data(), st.sampled_from(["torch", "onnx"]), st.sampled_from([0.5, 1, 2, 3, 4.5, math.inf]))
def test_any_norm(data, compat, p):
    x, axes, whole, call = problem(data, compat)
    np.testing.assert_allclose(call("lp_pool", p), oracle.norm(x, axes, p, compat, whole), rtol=1e-13, atol=1e-15)


def test_the_check_fails_on_one_altered_element(rng):
    x = rng.standard_normal((2, 6, 6))
    best, where = oracle.maximum(x, oracle.axes_of(x, 2, (3, 3), (1, 1), (1, 1), (1, 1), False))
    y, places = fastconv.max_pool2d(x, 3, 1, 1, return_indices=True)
    np.testing.assert_array_equal(y, best)
    for array, right in ((y, best), (places, where)):
        array[1, 2, 3] += 1
        assert not np.array_equal(array, right)
