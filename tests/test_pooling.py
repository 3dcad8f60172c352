"""Poolings with sliding windows: textbook numbers, the meaning of each option, what is refused."""

import functools
import math
import re

import numpy as np
import pool_oracle as oracle
import pytest

import fastconv

MAX = {1: fastconv.max_pool1d, 2: fastconv.max_pool2d, 3: fastconv.max_pool3d}
AVG = {1: fastconv.avg_pool1d, 2: fastconv.avg_pool2d, 3: fastconv.avg_pool3d}
LP = {ndim: functools.partial(lp, norm_type=3) for ndim, lp in
      {1: fastconv.lp_pool1d, 2: fastconv.lp_pool2d, 3: fastconv.lp_pool3d}.items()}  # fmt: skip


def lp_pool2d(x, kernel_size, stride=None, padding=0, **options):
    return fastconv.lp_pool2d(x, 2, kernel_size, stride, padding=padding, **options)


POOLS = [fastconv.max_pool2d, fastconv.avg_pool2d, lp_pool2d]
NINE = np.arange(9.0).reshape(3, 3)


def test_textbook_maximum():
    np.testing.assert_array_equal(fastconv.max_pool2d(NINE, 2, stride=1), [[4, 5], [7, 8]])


def test_textbook_mean():
    np.testing.assert_array_equal(fastconv.avg_pool2d(NINE, 2, stride=1), [[2, 3], [5, 6]])


def test_textbook_indices():
    best, where = fastconv.max_pool2d(NINE, 2, stride=1, return_indices=True)
    np.testing.assert_array_equal(best, where)
    assert where.dtype == np.int64


def test_stride_defaults_to_the_kernel():
    assert fastconv.max_pool2d(np.zeros((12, 12)), (3, 4)).shape == (4, 3)


def test_ceil_mode_keeps_the_window_that_hangs_over():
    assert fastconv.max_pool1d(np.arange(5.0), 2).tolist() == [1, 3]
    assert fastconv.max_pool1d(np.arange(5.0), 2, ceil_mode=True).tolist() == [1, 3, 4]


def test_ceil_mode_drops_the_window_that_starts_in_the_padding():
    assert fastconv.max_pool1d(np.arange(3.0), 2, 3, 1, ceil_mode=True).tolist() == [0, 2]
    assert fastconv.max_pool1d(np.arange(2.0), 2, 3, 1, ceil_mode=True).tolist() == [0]


def test_padding_is_minus_infinity_for_the_maximum():
    assert fastconv.max_pool1d(-np.ones(4), 2, 2, 1).tolist() == [-1, -1, -1]


def test_mean_counts_padding_or_not():
    x = np.ones(4)
    assert fastconv.avg_pool1d(x, 2, 2, 1).tolist() == [0.5, 1, 0.5]
    assert fastconv.avg_pool1d(x, 2, 2, 1, count_include_pad=False).tolist() == [1, 1, 1]


def test_mean_of_a_window_over_the_edge_counts_what_the_padded_input_has():
    assert fastconv.avg_pool1d(np.ones(5), 2, ceil_mode=True).tolist() == [1, 1, 1]
    assert fastconv.avg_pool1d(np.ones(5), 4, 3, 1, ceil_mode=True).tolist() == [0.75, 0.75]


def test_divisor_override():
    assert fastconv.avg_pool2d(NINE, 2, 1, divisor_override=1).tolist() == [[8, 12], [20, 24]]
    assert fastconv.avg_pool2d(NINE, 2, 1, divisor_override=-2).tolist() == [[-4, -6], [-10, -12]]


def test_nan_wins_and_the_last_one_is_named():
    best, where = fastconv.max_pool1d(np.array([1, np.nan, np.inf, np.nan, 5]), 3, 1, return_indices=True)
    assert np.isnan(best).all()
    assert where.tolist() == [1, 3, 3]


def test_nan_and_inf_in_a_mean():
    y = fastconv.avg_pool1d(np.array([np.inf, 1, -np.inf, np.inf, np.nan, 1, 2, 4]), 2)
    np.testing.assert_array_equal(y, [np.inf, np.nan, np.nan, 3])


def test_window_of_minus_infinity_names_its_first_element():
    best, where = fastconv.max_pool1d(np.full(4, -np.inf), 2, return_indices=True)
    assert (best == -np.inf).all()
    assert where.tolist() == [0, 2]


def test_dilated_window_of_padding_only():
    best, where = fastconv.max_pool1d(np.ones(1), 2, 1, 1, 2, return_indices=True)
    assert (best.tolist(), where.tolist()) == ([-np.inf], [-1])


def in_python(x, axes):
    """Maxima of integers that float64 does not hold."""
    values = x.ravel().tolist()
    order = {value: rank for rank, value in enumerate(sorted(set(values)))}
    ranks, where = oracle.maximum(np.array([order[v] for v in values]).reshape(x.shape), axes)
    return np.array(sorted(order), x.dtype)[ranks.astype(int)], where


def test_means_and_norms_dilate():
    x = np.array([1.0, 9.0, 3.0, 9.0, 5.0])
    assert fastconv.avg_pool1d(x, 3, dilation=2).tolist() == [3]
    np.testing.assert_allclose(fastconv.lp_pool1d(x, 2, 3, dilation=2), [math.sqrt(35)])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
def test_integers_keep_their_dtype(rng, dtype):
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (2, 3, 7, 9), dtype, endpoint=True)
    axes = oracle.axes_of(x, 2, (3, 2), (2, 2), (1, 1), (1, 2), False)
    expected, places = oracle.maximum(x, axes) if dtype not in ("int64", "uint64") else in_python(x, axes)
    best, where = fastconv.max_pool2d(x, (3, 2), 2, 1, (1, 2), return_indices=True)
    assert best.dtype == dtype
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(where, places)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("shape", [(6, 8), (3, 6, 8), (2, 3, 6, 8)])
def test_rank_of_the_input_is_kept(rng, pool, shape):
    x = rng.standard_normal(shape).astype("float32")
    y = pool(x, 2)
    assert y.shape == (*shape[:-2], 3, 4)
    assert y.dtype == "float32"


@pytest.mark.parametrize("pool", POOLS)
def test_zero_batch_and_zero_channels(pool):
    assert pool(np.zeros((0, 3, 4, 4)), 2).shape == (0, 3, 2, 2)
    assert pool(np.zeros((2, 0, 4, 4)), 2).shape == (2, 0, 2, 2)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_channels_last(rng, ndim, batch):
    x = rng.standard_normal((*batch, 3, *(7, 6, 5)[:ndim]))
    last = np.moveaxis(x, -1 - ndim, -1)
    for pool in (MAX[ndim], AVG[ndim], LP[ndim]):
        y = pool(last, kernel_size=2, layout=oracle.LAST[ndim])
        np.testing.assert_array_equal(y, np.moveaxis(pool(x, kernel_size=2), -1 - ndim, -1))
    where = MAX[ndim](last, 2, return_indices=True, layout=oracle.LAST[ndim])[1]
    np.testing.assert_array_equal(where, np.moveaxis(MAX[ndim](x, 2, return_indices=True)[1], -1 - ndim, -1))


@pytest.mark.parametrize("pool", POOLS)
def test_any_strides_and_the_input_stays(rng, pool):
    x = rng.standard_normal((3, 20, 30, 2)).transpose(0, 3, 1, 2)[:, :, ::-2, ::3]
    x.setflags(write=False)
    before = x.copy()
    np.testing.assert_array_equal(pool(x, 3, 2, 1), pool(before, 3, 2, 1))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("pool", POOLS)
def test_out_receives_the_result(rng, pool):
    x, big = rng.standard_normal((2, 6, 6)), np.zeros((2, 3, 6))
    out = big[..., ::2]
    assert pool(x, 2, out=out) is out
    np.testing.assert_array_equal(out, pool(x, 2))
    assert (big[..., 1::2] == 0).all()


def test_tensors_come_and_go(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.standard_normal((2, 3, 6, 6)))
    best, where = fastconv.max_pool2d(x, 2, return_indices=True)
    assert isinstance(best, torch.Tensor) and isinstance(where, torch.Tensor)
    assert isinstance(fastconv.avg_pool2d(x, 2), torch.Tensor)


X = np.zeros((2, 3, 8, 8))
REFUSED = [
    (dict(kernel_size=2.0), TypeError, "kernel_size=2.0 must be an int"),
    (dict(kernel_size=True), TypeError, "kernel_size=True must be an int"),
    (dict(kernel_size=(2, 2, 2)), ValueError, "kernel_size=(2, 2, 2) has 3 entries; expected an int or 2 of them"),
    (dict(kernel_size=0), ValueError, "kernel_size=(0, 0): every entry must be at least 1"),
    (dict(kernel_size=9), ValueError, "spans 9 elements along h but the padded input has 8"),
    (dict(kernel_size=2, stride=0), ValueError, "stride=(0, 0)"),
    (dict(kernel_size=2, stride=(1, 1.5)), TypeError, "stride=1.5 must be an int"),
    (dict(kernel_size=2, padding=-1), ValueError, "padding=((-1, -1), (-1, -1)): must be at least 0"),
    (dict(kernel_size=3, padding=2), ValueError, "half of the kernel (3 wide)"),
    (
        dict(kernel_size=2, padding="full"),
        ValueError,
        "padding='full' is unknown; choose 'valid', 'same', 'same_lower'",
    ),
    (dict(kernel_size=2, padding=[(1, 1)]), ValueError, "expected 2 (before, after) pairs"),
    (dict(kernel_size=2, padding=[(0, 2), 0]), ValueError, "expected 2 (before, after) pairs"),
    (dict(kernel_size=3, padding=[(0, 2), (0, 0)]), ValueError, "compat='onnx' takes any"),
    (dict(kernel_size=2, compat="caffe"), ValueError, "compat='caffe' is unknown; choose 'torch' or 'onnx'"),
    (dict(kernel_size=2, stride=2**31), ValueError, "every entry must be at least 1 and at most 2147483647"),
    (dict(kernel_size=2, padding=2**31, compat="onnx"), ValueError, "longer than 2147483647"),
    (dict(kernel_size=2, ceil_mode=1), TypeError, "ceil_mode=1 must be True or False"),
    (dict(kernel_size=2, threads=0), ValueError, "threads=0 must be at least 1"),
    (dict(kernel_size=2, layout="NCW"), ValueError, "layout='NCW' does not fit 2 spatial axes"),
    (dict(kernel_size=2, out=np.zeros((2, 3, 4, 5))), ValueError, "out has shape (2, 3, 4, 5)"),
    (dict(kernel_size=2, out=np.zeros((2, 3, 4, 4), "float32")), TypeError, "out has dtype float32"),
    (dict(kernel_size=2, out=X[:, :, :4, :4]), ValueError, "out shares memory with x"),
]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("options", "error", "text"), REFUSED)
def test_bad_arguments_are_named(pool, options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        pool(X, **options)


@pytest.mark.parametrize("order", [2, -1])
def test_storage_order_is_0_or_1(order):
    with pytest.raises(ValueError, match=f"storage_order={order} is unknown; choose 0 or 1"):
        fastconv.max_pool2d(X, 2, storage_order=order)


def test_dilation_of_zero_is_refused():
    with pytest.raises(ValueError, match="dilation="):
        fastconv.max_pool2d(X, 2, dilation=0)


def test_bad_rank_is_refused():
    with pytest.raises(ValueError, match=re.escape("expected (n, c, h, w), (c, h, w) or (h, w)")):
        fastconv.max_pool2d(np.zeros(5), 2)


def test_empty_image_is_refused():
    with pytest.raises(ValueError, match="at least one element"):
        fastconv.max_pool2d(np.zeros((1, 1, 0, 4)), 2, padding=1)


def test_mean_of_integers_is_refused():
    with pytest.raises(TypeError, match="x has dtype int32, whose mean is no integer"):
        fastconv.avg_pool1d(np.arange(4, dtype="int32"), 2)


def test_norm_of_integers_is_refused():
    with pytest.raises(TypeError, match="x has dtype uint8, whose norm is no integer"):
        fastconv.lp_pool1d(np.arange(4, dtype="uint8"), 2, 2)


@pytest.mark.parametrize("power", [0, -1, -math.inf, math.nan])
def test_power_must_be_above_zero(power):
    with pytest.raises(ValueError, match="norm_type=.* must be above 0"):
        fastconv.lp_pool2d(X, power, 2)


@pytest.mark.parametrize("power", ["2", True, None, 2j, (1, 2)])
def test_power_must_be_a_number(power):
    with pytest.raises(TypeError, match="norm_type=.* must be a number"):
        fastconv.lp_pool2d(X, power, 2)


def test_divisor_of_zero_is_refused():
    with pytest.raises(ValueError, match="divisor_override=0"):
        fastconv.avg_pool2d(X, 2, divisor_override=0)
