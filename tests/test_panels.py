"""1x1 layers whose panels are put together first: the bits of packed rows, and nothing read beyond x."""

import numpy as np
import pytest
from oracle import assert_close, reference, with_gaps

import fastconv

pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels, outputs", [(64, 32), (70, 41), (260, 33)])
@pytest.mark.parametrize(
    "high, wide", [(50, 47), (35, 35), (32, 32), (9, 7), (3, 5), (1, 2)]
)  # far, askew, same sets, few
def test_panels_put_together_give_the_bits_of_packed_rows(isa, rng, fenced, high, wide, channels, outputs, dtype):
    x = rng.standard_normal((2, channels, high, wide)).astype(dtype)
    w, bias = rng.standard_normal((outputs, channels, 1, 1)).astype(dtype), rng.standard_normal(outputs).astype(dtype)
    options = {"backend": "cython", "activation": "relu"}
    expected = fastconv.conv2d(with_gaps(x), w, bias, **options)
    assert_close(expected, reference(x, w, bias, activation="relu"), 1e-3 if dtype == "float32" else 1e-11)
    plan = fastconv.plan(w, x.shape, bias, **options)
    for copy in fenced(x):
        np.testing.assert_array_equal(fastconv.conv2d(copy, w, bias, **options), expected)
        np.testing.assert_array_equal(plan(copy, threads=2), expected)


@pytest.mark.parametrize("padding", [0, (1, 0, 0)])  # with padding they are packed
@pytest.mark.parametrize("groups", [1, 2])
def test_of_volumes(isa, rng, fenced, groups, padding):
    x = rng.integers(-4, 5, (2, 130 // (3 - groups), 5, 9, 7)).astype("float32")
    w, bias = rng.integers(-3, 4, (66, x.shape[1] // groups, 1, 1, 1)).astype("float32"), np.arange(66, dtype="float32")
    options = {"groups": groups, "padding": padding}
    expected = reference(x, w, bias, **options)
    for copy in fenced(x):
        for threads in (1, 2):
            result = fastconv.conv3d(copy, w, bias, backend="cython", threads=threads, **options)
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_of_images_cut_out_of_larger_ones(isa, rng, activation):
    whole = rng.standard_normal((2, 130, 60, 64)).astype("float32")
    w, options = rng.standard_normal((50, 65, 1, 1)).astype("float32"), {"backend": "cython", "activation": activation}
    for x in (whole[:, ::2, 3:50, 5:31], whole[:, :65, ::-1, :40], whole[:, 64::-1, 1::2, 8:16], whole[:, 65:, :2, :3]):
        expected = fastconv.conv2d(with_gaps(x), w, **options)
        residual = rng.standard_normal(expected.shape).astype("float32")
        np.testing.assert_array_equal(fastconv.conv2d(x, w, **options), expected)
        np.testing.assert_array_equal(
            fastconv.conv2d(x, w, residual=residual, **options),
            fastconv.conv2d(with_gaps(x), w, residual=residual, **options),
        )
