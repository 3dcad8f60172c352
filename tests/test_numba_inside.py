"""`conv2d`, `max_pool2d` and `avg_pool2d` inside a user's own jitted functions."""

import subprocess
import sys

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from oracle import assert_close, reference

import fastconv
from fastconv.spec import parse_layer

njit = numba.njit


@njit
def convolve(x, w, stride, padding, dilation, groups):
    return fastconv.conv2d(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)


@njit
def biased(x, w, bias):
    return fastconv.conv2d(x, w, bias, padding=1)


@njit
def plain(x, w):
    return fastconv.conv2d(x, w)


LAYERS = [
    "ih5k3", "ic3ih12iw17oc5k3p1", "n2ic6ih9iw11oc8k5s2p2g2", "ic40ih7oc19k3p1", "ic70ih6iw20oc33k1",
    "ic4ih19iw8oc12kh2kw4s3", "g6ic6ih13oc6k3p1", "g6ic6ih13oc12k3p2", "ic5ih20iw31oc9k3p4dh3dw2",
    "ic2ih6iw90oc3k3p1", "ic9ih1iw1oc4k3p1", "ic3ih30iw29oc16k7s2p3",
]  # fmt: skip


def data(spec, rng, dtype):
    return rng.standard_normal(spec.x_shape).astype(dtype), rng.standard_normal(spec.w_shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolution_agrees_with_the_oracle_and_the_backend(rng, dtype):
    for text in LAYERS:
        spec = parse_layer(text)
        x, w = data(spec, rng, dtype)
        options = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g}
        expected = reference(x, w, **options)
        result = convolve(x, w, *options.values())
        assert_close(result, expected, np.abs(expected).max() * (1e-5 if dtype == "float32" else 1e-13))
        assert result.dtype == x.dtype
        np.testing.assert_array_equal(result, fastconv.plan(w, x.shape, backend="numba", **options)(x))


def test_ints_pairs_and_defaults(rng):
    x, w = rng.standard_normal((1, 3, 9, 10)), rng.standard_normal((4, 3, 3, 3))
    assert_close(convolve(x, w, 2, 1, 1, 1), reference(x, w, stride=2, padding=1), 1e-12)
    expected = reference(x, w, stride=(1, 2), padding=(2, 0), dilation=(2, 1))
    assert_close(convolve(x, w, (1, 2), (2, 0), (2, 1), 1), expected, 1e-12)
    assert_close(plain(x, w), reference(x, w), 1e-12)
    assert_close(plain(x[0, 0], w[0, 0]), reference(x[:, :1], w[:1, :1])[0, 0], 1e-12)


def test_bias(rng):
    x, w, bias = rng.standard_normal((2, 3, 9, 10)), rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    assert_close(biased(x, w, bias), reference(x, w, bias, padding=1), 1e-12)
    assert_close(biased(x, w, None), reference(x, w, padding=1), 1e-12)
    with pytest.raises(ValueError, match="bias must have one element"):
        biased(x, w, bias[:3])


def test_any_strides_and_read_only_arrays(rng):
    whole, w = rng.standard_normal((2, 6, 20, 22)), rng.standard_normal((4, 3, 3, 3))
    for x in (whole[:, ::2, ::-1, ::2], whole[:, 5:2:-1, 3:, 1:], whole.transpose(0, 1, 3, 2)[:, :3]):
        assert_close(plain(x, w), reference(x, w), 1e-12)
        assert_close(plain(x[0, 1], w[0, 0]), reference(x[:1, 1:2], w[:1, :1])[0, 0], 1e-12)
    x = whole[:, :3].copy()
    x.flags.writeable = w.flags.writeable = False
    assert_close(plain(x, w), reference(x, w), 1e-12)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((np.ones((1, 2, 5, 5)), np.ones((1, 3, 3, 3)), 1, 0, 1, 1), "as many channels"),
        ((np.ones((1, 4, 5, 5)), np.ones((3, 2, 3, 3)), 1, 0, 1, 2), "groups does not divide"),
        ((np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3)), 1, 0, 3, 1), "larger than the padded input"),
        ((np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3)), 0, 0, 1, 1), "at least 1"),
        ((np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3)), 1, -1, 1, 1), "at least 0"),
        ((np.ones((1, 2, 5, 5)), np.ones((1, 2, 3, 3)), 1, 0, 1, 0), "groups must be at least 1"),
    ],
)
def test_sizes_that_do_not_fit_raise_when_it_runs(arguments, words):
    with pytest.raises(ValueError, match=words):
        convolve(*arguments)


@pytest.mark.parametrize(
    "function, arguments, words",
    [
        (
            lambda x, w: fastconv.conv2d(x, w, backend="fft"),
            (4, 4),
            "backend='fft' is not supported inside jitted code",
        ),
        (lambda x, w: fastconv.conv2d(x, w, layout="NHWC"), (4, 4), "layout='NHWC' is not supported"),
        (lambda x, w: fastconv.conv2d(x, w, padding="same"), (4, 4), "work out 'same' and 'valid' beforehand"),
        (lambda x, w: fastconv.conv2d(x, w, stride=1.5), (4, 4), "stride=.* must be an int or a tuple"),
        (lambda x, w: fastconv.conv2d(x, w, threads=2), (4, 4), "threads=2 is not supported"),
        (lambda x, w: fastconv.conv2d(x, w), (3, 3), "x has 3 axes; expected 2 or 4"),
        (lambda x, w: fastconv.conv2d(x, w), (4, 2), "w has 2 axes; expected 4"),
        (lambda x, w: fastconv.max_pool2d(x, 2, return_indices=True), (4, 4), "return_indices=True is not supported"),
        (lambda x, w: fastconv.avg_pool2d(x, "2"), (4, 4), "kernel_size=.* must be an int or a tuple"),
    ],
)
def test_what_is_not_supported_is_said_while_compiling(function, arguments, words):
    x, w = (np.ones((2,) * ndim) for ndim in arguments)
    with pytest.raises(TypingError, match=words):
        njit(function)(x, w)


def test_dtypes_that_do_not_fit_are_said_while_compiling():
    with pytest.raises(TypingError, match="x is array\\(int64.*convert it first"):
        plain(np.ones((1, 1, 3, 3), int), np.ones((1, 1, 3, 3), int))
    with pytest.raises(TypingError, match="w has dtype float64, x float32"):
        plain(np.ones((1, 1, 3, 3), "float32"), np.ones((1, 1, 3, 3)))


@njit
def largest(x, kernel_size, stride, padding, dilation, ceil_mode):
    return fastconv.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)


@njit
def mean(x, kernel_size, stride, padding, ceil_mode, count_include_pad):
    return fastconv.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad)


@njit
def defaults(x):
    return fastconv.max_pool2d(x, 2), fastconv.avg_pool2d(x, (2, 3), divisor_override=5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_poolings_agree_with_pythons(rng, dtype, ceil_mode):
    for shape, kernel, stride, padding in [
        ((2, 3, 11, 13), 3, 2, 1),
        ((1, 2, 7, 8), (2, 3), (2, 3), (1, 0)),
        ((1, 1, 5, 6), 2, 3, 1),
    ]:
        x = rng.standard_normal(shape).astype(dtype)
        x[0, 0, 2, 3] = np.nan
        np.testing.assert_array_equal(largest(x, kernel, stride, padding, 1, ceil_mode),
                                      fastconv.max_pool2d(x, kernel, stride, padding, 1, ceil_mode))  # fmt: skip
        for include in (False, True):
            np.testing.assert_allclose(mean(x, kernel, stride, padding, ceil_mode, include),
                                       fastconv.avg_pool2d(x, kernel, stride, padding, ceil_mode, include),
                                       rtol=1e-5 if dtype == "float32" else 1e-12)  # fmt: skip
    x = rng.standard_normal((1, 2, 8, 9)).astype(dtype)
    most, middle = defaults(x)
    np.testing.assert_array_equal(most, fastconv.max_pool2d(x, 2))
    np.testing.assert_allclose(middle, fastconv.avg_pool2d(x, (2, 3), divisor_override=5), rtol=1e-5)
    np.testing.assert_array_equal(defaults(x[0, 0])[0], fastconv.max_pool2d(x[0, 0], 2))


def test_poolings_refuse_what_python_refuses():
    with pytest.raises(ValueError, match="at most half"):
        largest(np.ones((1, 1, 5, 5)), 2, 2, 2, 1, False)


def test_inside_a_users_own_prange(rng):
    @njit(parallel=True)
    def many(images, w):
        out = np.empty((images.shape[0], 4, 8, 8), images.dtype)
        for i in numba.prange(images.shape[0]):
            out[i] = fastconv.conv2d(images[i : i + 1], w)[0]
        return out

    images, w = rng.standard_normal((16, 3, 10, 10)), rng.standard_normal((4, 3, 3, 3))
    assert_close(many(images, w), reference(images, w), 1e-12)


def test_importing_fastconv_is_all_a_user_does():
    code = (
        "import fastconv, sys\nassert 'numba' not in sys.modules\nimport numpy as np, numba\n"
        "f = numba.njit(lambda x, w: fastconv.conv2d(x, w, padding=1).sum())\n"
        "print(f(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "49.0", done.stderr
