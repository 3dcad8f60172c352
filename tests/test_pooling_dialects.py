"""What names, pairs and ``compat`` mean for pools: where PyTorch's dialect and ONNX's differ."""

import math

import numpy as np
import pool_oracle as oracle
import pytest

import fastconv


def lp_pool2d(x, kernel_size, stride=None, padding=0, **options):
    return fastconv.lp_pool2d(x, 2, kernel_size, stride, padding=padding, **options)


POOLS = [fastconv.max_pool2d, fastconv.avg_pool2d, lp_pool2d]


def test_padding_by_name_makes_as_many_windows_as_strides():
    assert fastconv.max_pool1d(np.arange(5.0), 2, 2, "same").tolist() == [1, 3, 4]
    assert fastconv.max_pool1d(np.arange(5.0), 2, 2, "same_lower").tolist() == [0, 2, 4]
    assert fastconv.max_pool1d(np.arange(5.0), 2, 2, "valid").tolist() == [1, 3]


@pytest.mark.parametrize("name", ["valid", "same", "same_lower"])
@pytest.mark.parametrize("pool", POOLS)
def test_a_name_decides_the_size_and_not_ceil_mode(pool, name):
    x = np.ones((6, 8))
    assert pool(x, 3, 4, name, ceil_mode=True).shape == pool(x, 3, 4, name).shape


@pytest.mark.parametrize("pool", POOLS)
def test_padding_by_pairs(pool):
    x = np.arange(1.0, 13).reshape(3, 4)
    np.testing.assert_array_equal(pool(x, 2, 1, [(0, 1), (1, 0)]), pool(x, 2, 1, 1)[1:, :-1])


def test_onnx_takes_windows_of_padding_only():
    x = np.ones(1)
    best, where = fastconv.max_pool1d(x, 2, 1, 3, compat="onnx", return_indices=True)
    assert (best.tolist(), where.tolist()) == ([-np.inf] * 2 + [1, 1] + [-np.inf] * 2, [-1, -1, 0, 0, -1, -1])
    means = fastconv.avg_pool1d(x, 2, 1, 3, count_include_pad=False, compat="onnx")
    np.testing.assert_array_equal(means, [np.nan, np.nan, 1, 1, np.nan, np.nan])
    assert fastconv.lp_pool1d(x, 2, 2, 1, padding=3, compat="onnx").tolist() == [0, 0, 1, 1, 0, 0]


def test_smallest_integer_stands_for_padding():
    assert fastconv.max_pool1d(np.ones(1, "int8"), 2, 1, 2, compat="onnx").tolist() == [-128, 1, 1, -128]


def test_indices_count_one_plane_in_torch_and_all_of_x_in_onnx():
    x = np.arange(24.0).reshape(2, 3, 2, 2)
    assert fastconv.max_pool2d(x, 2, return_indices=True)[1].ravel().tolist() == [3] * 6
    where = fastconv.max_pool2d(x, 2, return_indices=True, compat="onnx")[1]
    assert where.ravel().tolist() == [3, 7, 11, 15, 19, 23]
    last = fastconv.max_pool2d(oracle.to_last(x, 2), 2, return_indices=True, compat="onnx", layout="NHWC")[1]
    np.testing.assert_array_equal(oracle.to_first(last, 2), where)


def test_indices_by_columns():
    x = np.zeros((2, 3, 4))
    x[1, 2, 3] = 1
    assert fastconv.max_pool3d(x, (2, 3, 4), return_indices=True, storage_order=0)[1].item() == 23
    x[1, 2, 3], x[1, 0, 2] = 0, 1
    assert fastconv.max_pool3d(x, (2, 3, 4), return_indices=True, storage_order=1)[1].item() == 1 + 2 * (2 * 3)


def test_norm_of_signed_powers_in_torch_and_of_absolute_ones_in_onnx():
    x = np.array([1.0, -2.0])
    assert fastconv.lp_pool1d(x, 1, 2).tolist() == [-1]
    assert fastconv.lp_pool1d(x, 1, 2, compat="onnx").tolist() == [3]
    np.testing.assert_array_equal(fastconv.lp_pool1d(x, 3, 2), [np.nan])
    np.testing.assert_allclose(fastconv.lp_pool1d(x, 3, 2, compat="onnx"), [9 ** (1 / 3)])


def test_norm_of_a_window_over_the_end_is_scaled_up_in_torch_only():
    x = np.array([1.0, 1.0, 3.0])
    assert fastconv.lp_pool1d(x, 1, 2, ceil_mode=True).tolist() == [2, 6]
    assert fastconv.lp_pool1d(x, 1, 2, ceil_mode=True, compat="onnx").tolist() == [2, 3]


@pytest.mark.parametrize("compat", ["torch", "onnx"])
def test_infinite_power_is_the_largest_absolute_element(compat):
    x = np.array([1.0, -4.0, 0.0, 3.0, np.nan, 1.0])
    np.testing.assert_array_equal(fastconv.lp_pool1d(x, math.inf, 2, compat=compat), [4, 3, np.nan])
