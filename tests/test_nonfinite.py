"""NaN and Inf come out exactly where the definition puts them, on every backend."""

import numpy as np
import pytest
from oracle import assert_close
from oracle import convolve as reference

import fastconv
from fastconv import registry
from fastconv.errors import UnsupportedConv

VALUES = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])
LAYERS = pytest.mark.parametrize(
    "layer",
    [
        {}, {"padding": 1}, {"padding": 2, "padding_mode": "replicate"}, {"stride": 2, "padding": 1},
        {"dilation": 2, "padding": 2}, {"groups": 2, "padding": 1},
    ],
    ids=lambda layer: "-".join(f"{k}{v}" for k, v in layer.items()) or "plain",
)  # fmt: skip


def arrays(rng, groups=1, dtype="float32", oc=6):
    """Positive weights without zeros, so that an infinity times a weight is never NaN."""
    x = rng.standard_normal((2, 4, 11, 12)).astype(dtype)
    return x, rng.uniform(0.5, 1.5, (oc, 4 // groups, 3, 3)).astype(dtype)


def agrees(result, x, w, **layer):
    assert_close(result, reference(x, w, **layer), 1e-3)


@VALUES
@LAYERS
def test_one_nonfinite_pixel(convolve, value, layer, rng):
    x, w = arrays(rng, layer.get("groups", 1))
    x[1, 2, 5, 7] = value
    agrees(convolve(2, x, w, **layer), x, w, **layer)


@VALUES
@pytest.mark.parametrize("where", [(0, 0), (0, 11), (10, 0), (10, 11)])
def test_nonfinite_pixel_in_a_corner(convolve, value, where, rng):
    x, w = arrays(rng)
    x[0, 3, *where] = value
    agrees(convolve(2, x, w, padding=1), x, w, padding=1)


def test_infinities_of_both_signs_make_nan_where_they_meet(convolve, rng):
    x, w = arrays(rng)
    x[0, 0, 5, 5], x[0, 1, 5, 6] = np.inf, -np.inf
    right = reference(x, w, padding=1)
    assert np.isnan(right).any() and np.isposinf(right).any() and np.isneginf(right).any()
    assert_close(convolve(2, x, w, padding=1), right, 1e-3)


def test_infinity_times_a_zero_weight_is_nan(convolve, rng):
    x, w = arrays(rng)
    x[0, 0, 5, 5], w[1] = np.inf, 0
    agrees(convolve(2, x, w, padding=1), x, w, padding=1)


@VALUES
@pytest.mark.parametrize("ndim", [1, 3])
def test_other_numbers_of_axes(convolve, value, ndim, rng):
    x, w = rng.standard_normal((1, 2, *(6,) * ndim)).astype("float32"), np.ones((3, 2, *(3,) * ndim), "float32")
    x[(0, 1, *(3,) * ndim)] = value
    agrees(convolve(ndim, x, w, padding=1), x, w, padding=1)


@VALUES
def test_channels_last(convolve, value, rng):
    x, w = arrays(rng)
    x = np.moveaxis(x, 1, -1).copy()
    x[0, 4, 4, 1] = value
    agrees(convolve(2, x, w, padding=1, layout="NHWC"), x, w, padding=1, channels_last=True)


@VALUES
def test_nonfinite_float64(convolve, value, rng):
    x, w = arrays(rng, dtype="float64")
    x[0, 0, 0, 3] = value
    agrees(convolve(2, x, w, padding=1), x, w, padding=1)


@pytest.fixture
def convolve_any_weights(backend, convolve):
    """``convolve``; backends that transform the weights may refuse those that are not finite, direct ones not."""

    def call(*args, **options):
        try:
            return convolve(*args, **options)
        except UnsupportedConv as error:
            if "exact" in registry.find(backend).capabilities.accurate:
                raise
            assert error.reason == "needs finite weights; w has Inf or NaN"
            assert "naive" in error.able and backend not in error.able
        pytest.skip(f"{backend} needs finite weights")

    return call


@VALUES
def test_nonfinite_weight(convolve_any_weights, value, rng):
    x, w = arrays(rng)
    w[2, 1, 0, 2] = value
    agrees(convolve_any_weights(2, x, w), x, w)


@VALUES
def test_nonfinite_weight_meets_the_zeros_of_the_padding(convolve_any_weights, value, rng):
    x, w = arrays(rng)
    w[2, 1, 0, 2] = value
    agrees(convolve_any_weights(2, x, w, padding=1), x, w, padding=1)


@VALUES
def test_nonfinite_weight_in_a_plan(backend, convolve_any_weights, value, rng):
    x, w = arrays(rng)
    w[4, 3, 1, 1] = value
    convolve_any_weights(2, x, w)  # skips where the backend refuses
    agrees(fastconv.plan(w, x.shape, backend=backend)(x), x, w)


@VALUES
def test_auto_takes_any_weights(value, rng):
    x = rng.standard_normal((1, 64, 30, 30)).astype("float32")
    w = rng.uniform(0.5, 1.5, (64, 64, 3, 3)).astype("float32")
    w[20, 3, 1, 1] = value
    assert_close(fastconv.conv2d(x, w), reference(x, w), 1e-2)
    assert_close(fastconv.plan(w, x.shape)(x), reference(x, w), 1e-2)


@pytest.mark.parametrize("large", [1e37, 1e38, 3e38])
def test_large_finite_pixels_stay_finite(convolve, large, rng):
    x, w = arrays(rng)
    x[0, 1, 5, 6], w = large, w / 16
    agrees(convolve(2, x, w, padding=1) / large, x.astype("float64") / large, w, padding=1)


@pytest.mark.parametrize("large", [1e37, 1e38, 3e38])
def test_large_finite_weights_stay_finite(convolve, large, rng):
    x, w = arrays(rng)
    x, w[2, 1, 1, 2] = x / 16, large
    agrees(convolve(2, x, w, padding=1) / large, x, w.astype("float64") / large, padding=1)


def test_zero_padding_makes_no_nan_from_finite_weights(convolve, rng):
    x, w = arrays(rng)
    w[0] = np.float32(3e38)
    assert not np.isnan(convolve(2, np.zeros_like(x), w, padding=2)).any()


def test_nonfinite_image_leaves_the_rest_of_the_batch_alone(convolve, rng):
    x, w = arrays(rng)
    alone = convolve(2, x[1:], w, padding=1)
    x[0] = np.nan
    result = convolve(2, x, w, padding=1)
    assert np.isnan(result[0]).all()
    np.testing.assert_allclose(result[1], alone[0], rtol=1e-5, atol=1e-5)


def test_nonfinite_group_leaves_the_other_alone(convolve, rng):
    x, w = arrays(rng, groups=2)
    x[:, :2] = np.nan
    result = convolve(2, x, w, groups=2)
    assert np.isnan(result[:, :3]).all() and np.isfinite(result[:, 3:]).all()


def test_scratch_of_an_earlier_call_leaves_no_nan(convolve, rng):
    x, w = arrays(rng)
    convolve(2, np.full_like(x, np.nan), w, padding=1)
    assert np.isfinite(convolve(2, x, w, padding=1)).all()


def test_many_nonfinite_pixels(convolve, rng):
    x, w = arrays(rng, oc=20)
    x[rng.random(x.shape) < 0.02] = np.nan
    x[rng.random(x.shape) < 0.01] = np.inf
    agrees(convolve(2, x, w, padding=1), x, w, padding=1)


def test_sums_that_overflow_give_infinity(convolve):
    x, w = np.full((1, 4, 8, 8), 1e38, "float32"), np.ones((3, 4, 3, 3), "float32")
    assert np.isposinf(convolve(2, x, w)).all()
