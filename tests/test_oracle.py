"""The oracle and its checker are themselves checked."""

import numpy as np
import pytest
from oracle import assert_close, convolve, reference, wrap


def test_checker_accepts_equal_arrays(rng):
    a = rng.standard_normal((3, 4))
    assert_close(a, a.copy(), 0)


@pytest.mark.parametrize("index", [(0, 0), (1, 2), (2, 3)])
def test_checker_fails_on_one_altered_element(rng, index):
    expected = rng.standard_normal((3, 4))
    result = expected.copy()
    result[index] += 1e-3
    with pytest.raises(AssertionError, match="1 of 12 elements"):
        assert_close(result, expected, 1e-4)


@pytest.mark.parametrize(("wrong", "right"), [(np.nan, 1), (1, np.nan), (np.inf, 1), (np.inf, -np.inf), (1, np.inf)])
def test_checker_fails_on_a_wrong_nonfinite_element(wrong, right):
    with pytest.raises(AssertionError):
        assert_close(np.array([0.0, wrong]), np.array([0.0, right]), 1e9)


def test_checker_fails_on_a_shape_that_would_broadcast():
    with pytest.raises(AssertionError, match="shape"):
        assert_close(np.zeros((1, 3)), np.zeros((2, 3)), 1)


def test_oracle_agrees_with_scipy(rng):
    signal = pytest.importorskip("scipy.signal")
    x, w = rng.standard_normal((1, 1, 9, 8, 7)), rng.standard_normal((1, 1, 3, 2, 4))
    assert_close(convolve(x, w)[0, 0], signal.correlate(x[0, 0], w[0, 0], "valid", method="direct"), 1e-12)


def test_oracle_follows_the_definition_element_by_element(rng):
    x, w, bias = rng.standard_normal((2, 4, 9)), rng.standard_normal((6, 2, 3)), rng.standard_normal(6)
    y = reference(x, w, bias, stride=2, dilation=2, groups=2, padding=[(1, 2)])
    for n, o, p in np.ndindex(*y.shape):
        total = bias[o]
        for c in range(2):
            for s in range(3):
                at = 2 * p + 2 * s - 1
                if 0 <= at < 9:
                    total += x[n, o // 3 * 2 + c, at] * w[o, c, s]
        assert y[n, o, p] == pytest.approx(total, abs=1e-12)


def test_oracle_is_exact_on_integers():
    x = np.full((1, 1, 3), 2**62, np.int64)
    assert convolve(x, np.full((1, 1, 3), 4, np.int64)).item() == 3 * 2**64


def test_wrap_folds_like_numpy():
    values = np.array([2**63, -(2**63) - 1, 5, 2**64 + 7], object)
    assert wrap(values, "int64").tolist() == [-(2**63), 2**63 - 1, 5, 7]
