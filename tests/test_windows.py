"""Windows of one input channel that are read where they lie: the bits of packed rows, and nothing beyond the image."""

import numpy as np
import pytest
from oracle import assert_close, reference, with_gaps

import fastconv

compiled = pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("taps,stride", [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)])
def test_windows_give_the_bits_of_packed_rows(isa, rng, fenced, taps, stride, dtype):
    half = taps // 2
    for wide in [1, 2, taps - 1, taps, 7, 8, 9, 14, 15, 16, 17, 18, 30, 32, 33, 64, 65, 97]:  # around whole vectors
        for padding in [(0, 0), (half, half), (half, 0), (half, taps), (2, 0), (0, taps + 1)]:
            if wide + sum(padding) < taps:
                continue
            groups = int(rng.choice([1, 2, 3, 9]))  # narrow images share vectors
            times = int(rng.choice([1, 2, 5, 9, 33, 50]))  # packed weights come in blocks of so many lanes as there are
            x = rng.standard_normal((1, groups, int(rng.integers(1, 18)) + taps, wide)).astype(dtype)
            w = rng.standard_normal((times * groups, 1, taps, taps)).astype(dtype)
            bias = rng.standard_normal(times * groups).astype(dtype)
            options = {"stride": stride, "padding": ((1, 2), padding), "groups": groups}
            expected = fastconv.conv2d(with_gaps(x), w, bias, backend="cython", **options)
            assert_close(expected, reference(x, w, bias, **options), 1e-4 if dtype == "float32" else 1e-12)
            plan = fastconv.plan(w, x.shape, bias, backend="cython", **options)
            for copy in fenced(x):
                np.testing.assert_array_equal(fastconv.conv2d(copy, w, bias, backend="cython", **options), expected)
                np.testing.assert_array_equal(plan(copy, threads=2), expected)
            np.testing.assert_array_equal(plan(with_gaps(x)), expected)


@pytest.mark.parametrize("wide", [5, 14, 40])
def test_rows_and_slices_may_lie_backwards(isa, rng, wide):
    x, w = rng.standard_normal((1, 3, 4, 9, wide)), rng.standard_normal((3, 1, 1, 3, 3))
    for flipped in (x[:, :, ::-1], x[:, :, :, ::-1], x[:, :, ::-1, ::-1]):
        found = fastconv.conv3d(flipped, w, padding=(0, 1, 1), groups=3, backend="cython")
        assert_close(found, reference(flipped, w, padding=(0, 1, 1), groups=3), 1e-12)
    image, kernel = x[:, :, 0, ::-1], w[:, :, 0]
    plan = fastconv.plan(kernel, image.shape, padding=1, groups=3, backend="cython")
    assert_close(plan(image), reference(image, kernel, padding=1, groups=3), 1e-12)


@pytest.mark.parametrize("activation", ["relu", "silu", "relu6"])
@pytest.mark.parametrize("taps,stride", [(3, 1), (5, 2)])
@pytest.mark.parametrize("wide", [7, 13, 150])
def test_epilogues_of_windows(isa, rng, taps, stride, activation, wide):
    x = rng.standard_normal((2, 3, 41, wide)).astype("float32")
    w, bias = rng.standard_normal((6, 1, taps, taps)).astype("float32"), rng.standard_normal(6).astype("float32")
    options = {"stride": stride, "padding": taps // 2, "groups": 3, "activation": activation, "backend": "cython"}
    residual = rng.standard_normal(fastconv.conv2d(x, w, **options).shape).astype("float32")
    for extra in ({}, {"residual": residual}):
        expected = fastconv.conv2d(with_gaps(x), w, bias, **options, **extra)
        np.testing.assert_array_equal(fastconv.conv2d(x, w, bias, **options, **extra), expected)
        out = np.full((*expected.shape[:-1], 2 * expected.shape[-1]), 7, "float32")
        fastconv.conv2d(x, w, bias, **options, **extra, out=out[..., ::2])
        np.testing.assert_array_equal(out[..., ::2], expected)
        assert (out[..., 1::2] == 7).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("wide", [7, 14, 40])
def test_a_value_that_is_not_finite_stays_in_its_windows(isa, rng, value, wide):
    x = rng.standard_normal((1, 4, 20, wide)).astype("float32")
    w = rng.standard_normal((4, 1, 3, 3)).astype("float32")
    x[0, 1, 9, wide - 1] = value
    y = fastconv.conv2d(x, w, padding=1, groups=4, backend="cython")
    hit = np.zeros(y.shape, bool)
    hit[0, 1, 8:11, wide - 2 :] = True
    np.testing.assert_array_equal(np.isfinite(y), ~hit)
