"""Pooling against its definition, window by window, and against PyTorch."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastconv

MAX = {1: fastconv.max_pool1d, 2: fastconv.max_pool2d, 3: fastconv.max_pool3d}
AVG = {1: fastconv.avg_pool1d, 2: fastconv.avg_pool2d, 3: fastconv.avg_pool3d}
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
NINE = np.arange(9.0).reshape(3, 3)


def windows(size, kernel, stride, padding, dilation, ceil_mode):
    """For each output of one axis: the elements in its window, and how many it spans in the padded input."""
    result, start = [], -padding
    extent = (kernel - 1) * dilation + 1
    while start + extent <= size + padding or (ceil_mode and start < size and start + extent < size + padding + stride):
        places = [start + k * dilation for k in range(kernel)]
        result.append(([i for i in places if 0 <= i < size], sum(i < size + padding for i in places)))
        start += stride
    return result


def definition(x, ndim, kernel, stride, padding, dilation=1, ceil_mode=False, mean=None):
    """Largest elements and their flat positions, or with ``mean(inside, spanned)`` as divisor the means."""
    lead = x.shape[: x.ndim - ndim]
    flat = x.reshape(-1, *x.shape[x.ndim - ndim :])
    axes = [windows(s, k, t, p, d, ceil_mode) for s, k, t, p, d in zip(
        x.shape[x.ndim - ndim :], kernel, stride, padding, dilation, strict=True)]  # fmt: skip
    out = np.zeros((len(flat), *map(len, axes)), x.dtype if mean is None else float)
    where = np.full(out.shape, -1)
    for i, image in enumerate(flat):
        for o in np.ndindex(*out.shape[1:]):
            inside, spanned = zip(*(axis[place] for axis, place in zip(axes, o, strict=True)), strict=True)
            seen = image[np.ix_(*inside)].ravel()
            flats = np.arange(image.size).reshape(image.shape)[np.ix_(*inside)].ravel()
            if mean is not None:
                out[(i, *o)] = seen.astype(float).sum() / mean(seen.size, np.prod(spanned))
            elif seen.size:
                nan = np.flatnonzero(seen != seen)
                best = nan[-1] if nan.size else seen.argmax()
                out[(i, *o)], where[(i, *o)] = seen[best], flats[best]
            else:
                out[(i, *o)] = -np.inf
    return out.reshape(*lead, *out.shape[1:]), where.reshape(*lead, *out.shape[1:])


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


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
def test_integers_keep_their_dtype(rng, dtype):
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (2, 3, 7, 9), dtype, endpoint=True)
    expected, places = definition(x, 2, (3, 2), (2, 2), (1, 1), (1, 2))
    best, where = fastconv.max_pool2d(x, (3, 2), 2, 1, (1, 2), return_indices=True)
    assert best.dtype == dtype
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(where, places)


@pytest.mark.parametrize("pool", [fastconv.max_pool2d, fastconv.avg_pool2d])
@pytest.mark.parametrize("shape", [(6, 8), (3, 6, 8), (2, 3, 6, 8)])
def test_rank_of_the_input_is_kept(rng, pool, shape):
    x = rng.standard_normal(shape).astype("float32")
    y = pool(x, 2)
    assert y.shape == (*shape[:-2], 3, 4)
    assert y.dtype == "float32"


@pytest.mark.parametrize("pool", [fastconv.max_pool2d, fastconv.avg_pool2d])
def test_zero_batch_and_zero_channels(pool):
    assert pool(np.zeros((0, 3, 4, 4)), 2).shape == (0, 3, 2, 2)
    assert pool(np.zeros((2, 0, 4, 4)), 2).shape == (2, 0, 2, 2)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_channels_last(rng, ndim, batch):
    x = rng.standard_normal((*batch, 3, *(7, 6, 5)[:ndim]))
    last = np.moveaxis(x, -1 - ndim, -1)
    for pool in (MAX[ndim], AVG[ndim]):
        np.testing.assert_array_equal(pool(last, 2, layout=LAST[ndim]), np.moveaxis(pool(x, 2), -1 - ndim, -1))
    where = MAX[ndim](last, 2, return_indices=True, layout=LAST[ndim])[1]
    np.testing.assert_array_equal(where, np.moveaxis(MAX[ndim](x, 2, return_indices=True)[1], -1 - ndim, -1))


@pytest.mark.parametrize("pool", [fastconv.max_pool2d, fastconv.avg_pool2d])
def test_any_strides_and_the_input_stays(rng, pool):
    x = rng.standard_normal((3, 20, 30, 2)).transpose(0, 3, 1, 2)[:, :, ::-2, ::3]
    x.setflags(write=False)
    before = x.copy()
    np.testing.assert_array_equal(pool(x, 3, 2, 1), pool(before, 3, 2, 1))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("pool", [fastconv.max_pool2d, fastconv.avg_pool2d])
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


def layers(data):
    """Numbers that make a pooling layer, by drawing until PyTorch's rules hold."""
    ndim = data.draw(st.integers(1, 3))

    def ints(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(ndim))

    kernel, dilation, stride = ints(1, 4), ints(1, 3), ints(1, 4)
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    room = zip(kernel, dilation, padding, ints(0, 6), strict=True)
    size = tuple(max((k - 1) * d + 1 - 2 * p, 1) + extra for k, d, p, extra in room)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.integers(-3, 4, (*data.draw(st.sampled_from([(), (2,), (2, 3)])), *size)).astype("float64")
    x[rng.random(x.shape) < data.draw(st.sampled_from([0, 0.1]))] = np.nan
    return ndim, x, kernel, stride, padding, dilation, data.draw(st.booleans())


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.data())
def test_any_maximum(data):
    ndim, x, kernel, stride, padding, dilation, ceil_mode = layers(data)
    expected, places = definition(x, ndim, kernel, stride, padding, dilation, ceil_mode)
    best, where = MAX[ndim](x, kernel, stride, padding, dilation, ceil_mode, True)
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(where, places)
    np.testing.assert_array_equal(MAX[ndim](x, kernel, stride, padding, dilation, ceil_mode), expected)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.data(), st.booleans(), st.sampled_from([None, 3]))
def test_any_mean(data, include, override):
    ndim, x, kernel, stride, padding, _, ceil_mode = layers(data)
    divisor = (lambda inside, spanned: override) if override else lambda inside, spanned: spanned if include else inside
    expected, _ = definition(x, ndim, kernel, stride, padding, (1,) * ndim, ceil_mode, divisor)
    y = AVG[ndim](x, kernel, stride, padding, ceil_mode, include, override)
    np.testing.assert_allclose(y, expected, rtol=1e-14)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.data(), st.booleans(), st.sampled_from([None, 5]))
def test_agrees_with_torch(data, include, override):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    ndim, x, kernel, stride, padding, dilation, ceil_mode = layers(data)
    assume(all(s >= k for s, k in zip(x.shape[-ndim:], kernel, strict=True)))  # its 3-D mean wants that
    batch = x.reshape((1,) * (ndim + 2 - x.ndim) + x.shape)
    tensor = torch.from_numpy(batch)
    best, where = MAX[ndim](batch, kernel, stride, padding, dilation, ceil_mode, True)
    theirs = getattr(functional, f"max_pool{ndim}d")(tensor, kernel, stride, padding, dilation, ceil_mode, True)
    np.testing.assert_array_equal(best, theirs[0])
    some = where >= 0  # PyTorch names a place outside for a window of padding only
    np.testing.assert_array_equal(where[some], theirs[1].numpy()[some])
    extra = {"divisor_override": override} if ndim > 1 else {}
    theirs = getattr(functional, f"avg_pool{ndim}d")(tensor, kernel, stride, padding, ceil_mode, include, **extra)
    y = AVG[ndim](batch, kernel, stride, padding, ceil_mode, include, **extra)
    np.testing.assert_allclose(y, theirs, rtol=1e-14)


X = np.zeros((2, 3, 8, 8))
REFUSED = [
    (dict(kernel_size=2.0), TypeError, "kernel_size=2.0 must be an int"),
    (dict(kernel_size=True), TypeError, "kernel_size=True must be an int"),
    (dict(kernel_size=(2, 2, 2)), ValueError, "kernel_size=(2, 2, 2) has 3 entries; expected an int or 2 of them"),
    (dict(kernel_size=0), ValueError, "kernel_size=(0, 0): every entry must be at least 1"),
    (dict(kernel_size=9), ValueError, "spans 9 elements along h but the padded input has 8"),
    (dict(kernel_size=2, stride=0), ValueError, "stride=(0, 0)"),
    (dict(kernel_size=2, stride=(1, 1.5)), TypeError, "stride=1.5 must be an int"),
    (dict(kernel_size=2, padding=-1), ValueError, "padding=(-1, -1)"),
    (dict(kernel_size=3, padding=2), ValueError, "half of the kernel (3 wide)"),
    (dict(kernel_size=2, layout="NCW"), ValueError, "layout='NCW' does not fit 2 spatial axes"),
    (dict(kernel_size=2, out=np.zeros((2, 3, 4, 5))), ValueError, "out has shape (2, 3, 4, 5)"),
    (dict(kernel_size=2, out=np.zeros((2, 3, 4, 4), "float32")), TypeError, "out has dtype float32"),
    (dict(kernel_size=2, out=X[:, :, :4, :4]), ValueError, "out shares memory with x"),
]


@pytest.mark.parametrize("pool", [fastconv.max_pool2d, fastconv.avg_pool2d])
@pytest.mark.parametrize(("options", "error", "text"), REFUSED)
def test_bad_arguments_are_named(pool, options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        pool(X, **options)


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


def test_divisor_of_zero_is_refused():
    with pytest.raises(ValueError, match="divisor_override=0"):
        fastconv.avg_pool2d(X, 2, divisor_override=0)
