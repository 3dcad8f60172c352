"""Depthwise layers whose channels share vectors: the bits of packed rows, and nothing read beyond x."""

import numpy as np
import pytest
from oracle import assert_close, reference, with_gaps

import fastconv

compiled = pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")

SHAPES = [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)]


@pytest.fixture
def lanes(isa):
    """The lanes of float32 that channels share, of each instruction set."""
    return compiled.vector_lanes(isa, 4)


def _layer(rng, channels, high, wide, taps, dtype):
    x = rng.standard_normal((2, channels, high, wide)).astype(dtype)
    return x, rng.standard_normal((channels, 1, taps, taps)).astype(dtype), rng.standard_normal(channels).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("taps,stride", SHAPES)
def test_channels_side_by_side_give_the_bits_of_packed_rows(lanes, rng, fenced, taps, stride, dtype):
    half = taps // 2
    for wide in [1, 2, 3, 4, 5, 7, 8, 9, 14, 15, 17, 28, 33]:
        for padding in [(0, 0), (half, half), (half, 0), (0, taps), (taps + 2, 1)]:
            if wide + sum(padding) < taps:
                continue
            channels = int(rng.choice([4, 5, 8, 9, 13, 16, 19]))
            x, w, bias = _layer(rng, channels, int(rng.integers(1, 18)) + taps, wide, taps, dtype)
            options = {"stride": stride, "padding": ((1, 2), padding), "groups": channels, "backend": "cython"}
            expected = fastconv.conv2d(with_gaps(x), w, bias, **options)
            plan = fastconv.plan(w, x.shape, bias, **options)
            for copy in fenced(x):
                np.testing.assert_array_equal(fastconv.conv2d(copy, w, bias, **options), expected)
                np.testing.assert_array_equal(plan(copy, threads=2), expected)
            np.testing.assert_array_equal(fastconv.conv2d(x[:, :, ::-1], w, bias, **options),
                                          fastconv.conv2d(with_gaps(x[:, :, ::-1]), w, bias, **options))  # fmt: skip
            mirrored = fastconv.conv2d(x[:, ::-1], w[::-1], bias[::-1], **options)
            np.testing.assert_array_equal(mirrored[:, ::-1], expected)
            plain = {name: value for name, value in options.items() if name != "backend"}
            assert_close(expected, reference(x, w, bias, **plain), 1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("high,wide", [(90, 14), (150, 41), (257, 70)])
@pytest.mark.parametrize("taps,stride", SHAPES)
def test_images_come_in_bands(lanes, rng, taps, stride, high, wide):
    x, w, bias = _layer(rng, 17, high, wide, taps, "float32")
    options = {"stride": stride, "padding": taps // 2, "groups": 17, "backend": "cython"}
    expected = fastconv.conv2d(with_gaps(x), w, bias, **options)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(fastconv.conv2d(x, w, bias, threads=threads, **options), expected)


@pytest.mark.parametrize("high,wide", [(9, 1300), (40, 333), (3, 2600)])
@pytest.mark.parametrize("taps,stride", SHAPES)
def test_wide_images_come_in_columns(lanes, rng, taps, stride, high, wide):
    x, w, bias = _layer(rng, 21, high, wide, taps, "float32")
    options = {"stride": stride, "padding": taps // 2, "groups": 21, "backend": "cython"}
    residual = rng.standard_normal(fastconv.conv2d(x, w, **options).shape).astype("float32")
    for extra in ({}, {"residual": residual, "activation": "relu6"}):
        expected = fastconv.conv2d(with_gaps(x), w, bias, **options, **extra)
        last = {
            name: np.ascontiguousarray(np.moveaxis(v, 1, -1)) if name == "residual" else v for name, v in extra.items()
        }
        found = fastconv.conv2d(np.ascontiguousarray(np.moveaxis(x, 1, -1)), w, bias, layout="NHWC", **options, **last)
        np.testing.assert_array_equal(np.moveaxis(found, -1, 1), expected)


def test_a_depth_of_padding_is_zeros(lanes, rng):
    x, w = rng.standard_normal((1, 20, 2, 9, 7)), rng.standard_normal((20, 1, 1, 3, 3))
    options = {"padding": (1, 1, 1), "groups": 20, "backend": "cython"}
    bias = rng.standard_normal(20)
    expected = fastconv.conv3d(x, w, bias, **options | {"backend": "im2col"})
    for found in (
        fastconv.conv3d(x, w, bias, **options),
        np.moveaxis(fastconv.conv3d(np.moveaxis(x, 1, -1).copy(), w, bias, layout="NDHWC", **options), -1, 1),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(
            found[:, :, [0, -1]], np.broadcast_to(bias[:, None, None, None], (1, 20, 2, 9, 7))
        )


@pytest.mark.parametrize("channels", [2, 5, 8, 21])
@pytest.mark.parametrize("taps,stride", SHAPES)
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_channels_last(lanes, rng, fenced, taps, stride, activation, channels):
    x, w, bias = _layer(rng, channels, 20, 19, taps, "float32")
    options = {
        "stride": stride,
        "padding": taps // 2,
        "groups": channels,
        "activation": activation,
        "backend": "cython",
    }
    expected = fastconv.conv2d(with_gaps(x), w, bias, **options)
    for copy in fenced(np.ascontiguousarray(np.moveaxis(x, 1, -1))):
        found = fastconv.conv2d(copy, w, bias, layout="NHWC", **options)
        np.testing.assert_array_equal(np.moveaxis(found, -1, 1), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("taps,stride", SHAPES)
def test_channels_last_are_read_and_written_where_they_lie(lanes, rng, fenced, taps, stride, dtype):
    shapes = [(3, (2, 2)), (8, (0, 0)), (17, (1, 0)), (33, (taps // 2, 3)), (41, (0, taps + 1)), (70, (1, 1))]
    for wide, padding in shapes:
        if wide + sum(padding) < taps:
            continue
        x, w, bias = _layer(rng, 24, 12 + taps, wide, taps, dtype)
        for weight in (w[0, 0, 0, 0], np.inf):  # whose product with padding is not left out
            w[0, 0, 0, 0] = weight
            options = {"stride": stride, "padding": ((2, 1), padding), "groups": 24, "backend": "cython"}
            with np.errstate(invalid="ignore"):
                expected = np.moveaxis(fastconv.conv2d(with_gaps(x), w, bias, **options), 1, -1)
            room = np.full((*expected.shape[:-1], 30), 7, dtype)
            for copy in fenced(np.ascontiguousarray(np.moveaxis(x, 1, -1))):
                fastconv.conv2d(copy, w, bias, layout="NHWC", out=room[..., 3:27], **options)
                np.testing.assert_array_equal(room[..., 3:27], expected)
                assert (room[..., :3] == 7).all() and (room[..., 27:] == 7).all()


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize("wide", [7, 13])
def test_epilogues_of_channels_side_by_side(lanes, rng, activation, wide):
    x, w, bias = _layer(rng, 12, 11, wide, 3, "float32")
    options = {"padding": 1, "groups": 12, "activation": activation, "backend": "cython"}
    residual = rng.standard_normal(x.shape).astype("float32")
    for extra in ({}, {"residual": residual}):
        expected = fastconv.conv2d(with_gaps(x), w, bias, **options, **extra)
        np.testing.assert_array_equal(fastconv.conv2d(x, w, bias, **options, **extra), expected)
        for out in (
            np.full((2, 12, 11, 2 * wide), 7, "float32")[..., ::2],
            np.full((2, 12, 23, wide), 7, "float32")[:, :, 1::2],
        ):
            fastconv.conv2d(x, w, bias, **options, **extra, out=out)
            np.testing.assert_array_equal(out, expected)
            base = out.base.copy()
            out[...] = 7
            assert (out.base == 7).all() and np.count_nonzero(base != 7) <= out.size


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_meet_the_padding(lanes, rng, value):
    x, w, _ = _layer(rng, 9, 7, 7, 3, "float32")
    w[4, 0, 0, 0] = value
    options = {"padding": 1, "groups": 9, "backend": "cython"}
    expected = np.isfinite(fastconv.conv2d(with_gaps(x), w, **options))
    assert not expected[:, 4].any()
    np.testing.assert_array_equal(np.isfinite(fastconv.plan(w, x.shape, **options)(x)), expected)
    np.testing.assert_array_equal(np.isfinite(fastconv.conv2d(x, w, **options)), expected)
