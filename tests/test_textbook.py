"""The worked examples that textbooks print, on every backend that computes them."""

import numpy as np
import pytest

DTYPES = ("float32", "float64")
IMAGE = np.arange(9.0).reshape(3, 3)
KERNEL = np.arange(4.0).reshape(2, 2)
TOLERANCE = 1e-5  # of numbers up to 60; winograd and fft round


def close(result, expected):
    np.testing.assert_allclose(result, np.asarray(expected), rtol=1e-6, atol=TOLERANCE, strict=False)
    assert np.shape(result) == np.shape(expected)


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


def test_3x3_image_with_2x2_kernel(convolve, dtype):
    close(convolve(2, IMAGE.astype(dtype), KERNEL.astype(dtype)), [[19, 25], [37, 43]])


def test_vertical_edge_detector_on_half_bright_image(convolve, dtype):
    image = np.zeros((6, 6), dtype)
    image[:, :3] = 10
    edge = np.array([[1, 0, -1]] * 3, dtype)
    close(convolve(2, image, edge), [[0, 30, 30, 0]] * 4)


def test_padding_one_gives_the_4x4(convolve, dtype):
    expected = [[0, 3, 8, 4], [9, 19, 25, 10], [21, 37, 43, 16], [6, 7, 8, 0]]
    close(convolve(2, IMAGE.astype(dtype), KERNEL.astype(dtype), padding=1), expected)


def test_padding_one_at_stride_3_2(convolve, dtype):
    close(convolve(2, IMAGE.astype(dtype), KERNEL.astype(dtype), stride=(3, 2), padding=1), [[0, 8], [6, 8]])


def two_channels(dtype):
    x = np.stack([IMAGE, IMAGE + 1])[None].astype(dtype)
    w = np.stack([KERNEL, KERNEL + 1])[None].astype(dtype)
    return x, w


def test_two_input_channels_add_up(convolve, dtype):
    close(convolve(2, *two_channels(dtype))[0, 0], [[56, 72], [104, 120]])


def test_several_output_channels_are_the_single_ones_stacked(convolve, dtype):
    x, w = two_channels(dtype)
    several = np.concatenate([w, w + 1, w + 2])
    singles = [convolve(2, x, several[o : o + 1])[0, 0] for o in range(3)]
    result = convolve(2, x, several)
    close(result[0], np.stack(singles))
    close(result[0], [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]])


def test_1x1_kernel_is_a_matrix_product_over_channels(convolve, dtype, rng):
    x, w = rng.integers(-4, 5, (1, 3, 3, 3)).astype(dtype), rng.integers(-4, 5, (2, 3, 1, 1)).astype(dtype)
    close(convolve(2, x, w)[0].reshape(2, 9), w.reshape(2, 3) @ x.reshape(3, 9))


def test_horizontal_edge_detector_is_the_transposed_one(convolve, dtype):
    image = np.zeros((6, 6), dtype)
    image[:3] = 10
    edge = np.array([[1, 0, -1]] * 3, dtype).T
    close(convolve(2, image, edge), np.array([[0, 30, 30, 0]] * 4).T)


def test_cross_correlation_in_one_axis(convolve, dtype):
    x = np.arange(7, dtype=dtype)
    close(convolve(1, x, np.array([1, 2], dtype)), [2, 5, 8, 11, 14, 17])


def test_cross_correlation_of_several_channels_in_one_axis(convolve, dtype):
    x = np.stack([np.arange(7), np.arange(1, 8), np.arange(2, 9)]).astype(dtype)
    w = np.array([[[1, 2], [3, 4], [-1, -3]]], dtype)
    close(convolve(1, x, w)[0], [2, 8, 14, 20, 26, 32])


@pytest.mark.parametrize("padding", [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)])
def test_output_size_with_total_padding_p(convolve, padding):
    n_h, n_w, k_h, k_w, p = 8, 9, 3, 2, sum(padding)
    result = convolve(2, np.ones((n_h, n_w), "float32"), np.ones((k_h, k_w), "float32"), padding=[padding, padding])
    assert result.shape == (n_h - k_h + p + 1, n_w - k_w + p + 1)


@pytest.mark.parametrize("padding", [(0, 0), (0, 1), (1, 1), (1, 2)])
@pytest.mark.parametrize("stride", [(2, 2), (3, 2), (1, 4)])
def test_output_size_with_stride(convolve, padding, stride):
    n_h, n_w, k_h, k_w, p, (s_h, s_w) = 8, 9, 3, 2, sum(padding), stride
    result = convolve(
        2, np.ones((n_h, n_w), "float32"), np.ones((k_h, k_w), "float32"), stride=stride, padding=[padding, padding]
    )
    assert result.shape == ((n_h - k_h + p + s_h) // s_h, (n_w - k_w + p + s_w) // s_w)


def test_3x3_kernel_with_padding_1_keeps_8x8(convolve):
    assert convolve(2, np.ones((8, 8), "float32"), np.ones((3, 3), "float32"), padding=1).shape == (8, 8)


def test_5x3_kernel_with_padding_2_1_keeps_8x8(convolve):
    assert convolve(2, np.ones((8, 8), "float32"), np.ones((5, 3), "float32"), padding=(2, 1)).shape == (8, 8)


def test_3x3_kernel_with_padding_1_and_stride_2_halves_8x8(convolve):
    assert convolve(2, np.ones((8, 8), "float32"), np.ones((3, 3), "float32"), stride=2, padding=1).shape == (4, 4)


def test_3x5_kernel_padding_0_1_stride_3_4(convolve):
    x, w = np.ones((8, 8), "float32"), np.ones((3, 5), "float32")
    assert convolve(2, x, w, stride=(3, 4), padding=(0, 1)).shape == (2, 2)


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "uint8"])
def test_2x2_max_pool_of_0_to_8(dtype):
    from fastconv.pooling import max_pool2d

    result = max_pool2d(IMAGE.astype(dtype), 2, stride=1)
    assert result.tolist() == [[4, 5], [7, 8]]
    assert result.dtype == dtype


def test_max_pool_default_stride_is_the_window():
    from fastconv.pooling import max_pool2d

    assert max_pool2d(np.arange(16.0).reshape(4, 4), 2).tolist() == [[5, 7], [13, 15]]
