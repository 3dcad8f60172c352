"""Plans of transposed layers: prepared once, for every size of the image."""

import numpy as np
import pytest

import fastconv
from fastconv.errors import UnsupportedConv

LAYERS = [(3, 1, 1), (4, 2, 1), (2, 2, 0), (6, 2, 2), (1, 3, 0), (5, 3, 2)]  # kernel, stride, padding
SIZES = [(1, 1), (1, 5), (7, 2), (30, 31)]


@pytest.mark.parametrize("layer", LAYERS)
def test_one_plan_serves_every_size(backend, layer, rng):
    k, stride, padding = layer
    w, bias = rng.standard_normal((32, 32, k, k)).astype("float32"), rng.standard_normal(32).astype("float32")
    try:
        plan = fastconv.plan_transpose(w, (1, 32, 4, 4), bias, stride, padding, activation="relu", backend=backend)
    except UnsupportedConv as error:
        pytest.skip(str(error))
    for size in SIZES:
        x = rng.standard_normal((2, 32, *size)).astype("float32")
        try:
            expected = fastconv.conv_transpose2d(x, w, bias, stride, padding, activation="relu", backend="naive")
        except ValueError:  # this padding leaves nothing of so small an image
            with pytest.raises(ValueError):
                plan.for_shape(x.shape)
            continue
        result = plan.for_shape(x.shape)(x)
        assert result.shape == plan.for_shape(x.shape).out_shape
        np.testing.assert_allclose(result, expected, atol=2e-5 * np.abs(expected).max(initial=1))


def test_copies_the_weights(rng):
    w, x = rng.standard_normal((3, 2, 3, 3)), rng.standard_normal((1, 3, 5, 5))
    plan = fastconv.plan_transpose(w, x.shape, stride=2)
    expected = plan(x)
    w[...] = 0
    np.testing.assert_array_equal(plan(x), expected)


@pytest.mark.parametrize("name", ["same", "same_lower"])
def test_same_is_the_stride_times_the_input_at_every_size(name):
    plan = fastconv.plan_transpose(np.ones((2, 3, 5, 4), "float32"), (1, 2, 4, 4), stride=(3, 2), padding=name)
    assert plan.out_shape == (1, 3, 12, 8)
    assert plan.for_shape((1, 2, 7, 9)).out_shape == (1, 3, 21, 18)


def test_other_channels_are_refused():
    plan = fastconv.plan_transpose(np.ones((2, 3, 2, 2)), (1, 2, 4, 4))
    with pytest.raises(ValueError, match="has 3 channels; the weights take 2"):
        plan.for_shape((1, 3, 4, 4))


def test_number_of_axes_is_that_of_the_weights():
    assert fastconv.plan_transpose(np.ones((2, 3, 2)), (2, 4)).out_shape == (3, 5)
    assert fastconv.plan_transpose(np.ones((2, 3, 2, 2, 2)), (1, 2, 1, 1, 1), layout="NCDHW").out_shape == (
        1,
        3,
        2,
        2,
        2,
    )


def test_shows_workspace_and_error_bound(rng):
    plan = fastconv.plan_transpose(np.ones((64, 32, 4, 4), "float32"), (1, 64, 20, 20), stride=2, backend="cython")
    assert 0 < plan.error_bound < 1e-4
    assert plan.workspace_bytes > 0
    assert "backend='cython'" in repr(plan)
