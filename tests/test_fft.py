"""The fft backend: agreement, non-finite pixels, the bits, the bound and the workspace."""

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv.arena import arena
from fastconv.errors import UnsupportedConv
from fastconv.spec import ACCURACIES

CONVOLUTIONS = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}
PAD = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def definition(x, w, stride, padding, dilation, groups, mode="zeros"):
    """Cross-correlation in float64: one strided slice of the padded input for each tap."""
    axes = range(w.ndim - 2)
    big = np.pad(x.astype(float), [(0, 0), (0, 0), *padding], mode=PAD[mode])
    size = [(big.shape[a + 2] - (w.shape[a + 2] - 1) * dilation[a] - 1) // stride[a] + 1 for a in axes]
    per = w.shape[0] // groups
    y = np.zeros((x.shape[0], w.shape[0], *size))
    for o in range(w.shape[0]):
        for tap in np.ndindex(*w.shape[1:]):
            axes_of = zip(tap[1:], dilation, size, stride, strict=True)
            at = [slice(r * d, r * d + (n - 1) * s + 1, s) for r, d, n, s in axes_of]
            with np.errstate(invalid="ignore"):
                y[:, o] += big[:, o // per * w.shape[1] + tap[0], *at] * float(w[(o, *tap)])
    return y


def compare(x, w, stride=1, padding=0, dilation=1, groups=1, mode="zeros", layout=None, **options):
    """Plan and one call against the definition, within the plan's own bound."""
    ndim = w.ndim - 2
    stride, dilation = (v if isinstance(v, tuple) else (v,) * ndim for v in (stride, dilation))
    pairs = padding if isinstance(padding, tuple) else ((padding, padding),) * ndim
    options |= {"padding_mode": mode, "backend": "fft"}
    expected = definition(x, w, stride, pairs, dilation, groups, mode)
    if layout and layout.endswith("C"):
        x, expected, options["layout"] = np.moveaxis(x, 1, -1), np.moveaxis(expected, 1, -1), layout
    plan = fastconv.plan(w, x.shape, None, stride, pairs, dilation, groups, **options)
    room = plan.error_bound * np.abs(x[np.isfinite(x)]).max() * np.abs(w).reshape(len(w), -1).sum(1).max()
    for y in (plan(x), CONVOLUTIONS[ndim](x, w, None, stride, pairs, dilation, groups, **options)):
        assert y.dtype == x.dtype
        assert y.shape == expected.shape
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(y[~finite], expected[~finite])
        assert (np.abs(y[finite] - expected[finite]) <= room).all()
    return plan


def normal(rng, *shape, dtype="float32"):
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_image_of_several_blocks(rng, dtype):
    compare(normal(rng, 2, 3, 90, 70, dtype=dtype), normal(rng, 4, 3, 9, 7, dtype=dtype), padding=3)


def test_last_block_hangs_over_by_all_but_one(rng):
    plan = compare(normal(rng, 1, 1, 24 + 9, 24 + 9), normal(rng, 1, 1, 9, 9))
    assert plan.algorithm == "blocks 36x36"  # 28 outputs a block


def test_stride_becomes_channels(rng):
    compare(normal(rng, 2, 2, 41, 80), normal(rng, 4, 2, 5, 7), stride=(2, 3), padding=((1, 2), (3, 0)))


def test_stride_larger_than_kernel(rng):
    compare(normal(rng, 1, 2, 40, 41), normal(rng, 3, 2, 2, 1), stride=5)


def test_dilation_spreads_the_kernel(rng):
    compare(normal(rng, 1, 2, 60, 50), normal(rng, 2, 2, 3, 4), dilation=(7, 2), padding=5)


def test_groups(rng):
    compare(normal(rng, 2, 6, 20, 20), normal(rng, 9, 2, 5, 5), groups=3)


def test_depthwise(rng):
    compare(normal(rng, 1, 20, 40, 40), normal(rng, 20, 1, 7, 7), groups=20, padding=3)


@pytest.mark.parametrize("mode", list(PAD))
def test_padding_modes(rng, mode):
    compare(normal(rng, 1, 2, 12, 40), normal(rng, 2, 2, 7, 5), padding=((3, 8), (4, 0)), stride=(1, 2), mode=mode)


@pytest.mark.parametrize("kernel", [(31, 1), (1, 31), (1, 1)])
def test_axis_one_wide_is_not_transformed(rng, kernel):
    plan = compare(normal(rng, 2, 1, 70, 80), normal(rng, 1, 1, *kernel), padding=tuple((k // 2, 0) for k in kernel))
    assert ("1" in plan.algorithm.split()[1].split("x")) == (1 in kernel)


def test_signal(rng):
    compare(normal(rng, 2, 2, 5000), normal(rng, 3, 2, 400), padding=17)


def test_volume(rng):
    compare(normal(rng, 1, 2, 9, 20, 11), normal(rng, 2, 2, 3, 4, 5), stride=(1, 2, 1), padding=1)


def test_channels_last(rng):
    compare(normal(rng, 2, 5, 20, 30), normal(rng, 4, 5, 6, 6), layout="NHWC")


def test_view_with_negative_strides(rng):
    x, w = normal(rng, 1, 2, 60, 60)[:, :, ::-1, ::2], normal(rng, 2, 2, 5, 5)
    compare(x, w[:, :, ::-1].swapaxes(2, 3))


def test_epilogue(rng):
    x, w, bias, residual = (normal(rng, *s) for s in ((1, 2, 20, 20), (3, 2, 5, 5), (3,), (1, 3, 16, 16)))
    y = fastconv.conv2d(x, w, bias, residual=residual, activation="relu", backend="fft")
    expected = definition(x, w, (1, 1), ((0, 0),) * 2, (1, 1), 1) + bias[:, None, None] + residual
    np.testing.assert_allclose(y, np.maximum(expected, 0), atol=1e-4)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data())
def test_any_layer(data):
    def ints(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(ndim))

    ndim, g = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    mode, dtype = data.draw(st.sampled_from(list(PAD))), data.draw(st.sampled_from(["float32", "float64"]))
    kernel, stride, dilation = ints(1, 5), ints(1, 3), ints(1, 3)
    size = tuple((k - 1) * d + e for k, d, e in zip(kernel, dilation, ints(1, 40 if ndim < 3 else 9), strict=True))
    padding = tuple((min(a, s - 1), min(b, s - 1)) for a, b, s in zip(ints(0, 4), ints(0, 4), size, strict=True))
    n, icg, ocg = (data.draw(st.integers(1, 3)) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x, w = normal(rng, n, g * icg, *size, dtype=dtype), normal(rng, g * ocg, icg, *kernel, dtype=dtype)
    limit = data.draw(st.sampled_from([None, 10**6]))
    try:
        compare(x, w, stride, padding, dilation, g, mode, max_workspace=limit)
    except UnsupportedConv as error:
        assert "bytes of workspace" in error.reason and limit


def test_agrees_with_torch(rng):
    torch = pytest.importorskip("torch")
    x, w = normal(rng, 2, 4, 50, 60), normal(rng, 6, 2, 9, 11)
    expected = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), None, (2, 1), (4, 5), (1, 2), 2)
    y = fastconv.conv2d(x, w, None, (2, 1), (4, 5), (1, 2), 2, backend="fft")
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_without_scipy(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    compare(normal(rng, 1, 3, 50, 40), normal(rng, 2, 3, 9, 9), padding=4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_typical_error_is_that_of_a_direct_sum(rng, dtype):
    x, w = normal(rng, 1, 1, 128, 128, dtype=dtype), normal(rng, 1, 1, 31, 31, dtype=dtype)
    exact = definition(x.astype(np.longdouble), w, (1, 1), ((0, 0),) * 2, (1, 1), 1)
    error = np.abs(fastconv.conv2d(x, w, backend="fft") - exact).max()
    assert error < 40 * np.finfo(dtype).eps * np.linalg.norm(w)


def test_bound_is_of_use():
    plan = fastconv.plan(np.ones((1, 1, 31, 31), "float32"), (1, 1, 200, 200), backend="fft")
    assert 1e-6 < plan.error_bound < 1e-2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_pixel_reaches_its_outputs_only(rng, bad):
    x = normal(rng, 2, 2, 50, 60)
    x[1, 0, 20, 33] = bad
    compare(x, normal(rng, 3, 2, 5, 7), padding=2)


def test_bad_pixels_under_stride_dilation_and_groups(rng):
    x = normal(rng, 1, 4, 50, 60)
    x[0, [0, 3], [4, 40], [59, 7]] = np.inf, np.nan
    compare(x, normal(rng, 4, 2, 3, 4), stride=(2, 3), dilation=(3, 2), groups=2, padding=3, mode="reflect")


def test_infinities_of_both_signs_make_nan(rng):
    x = normal(rng, 1, 1, 40, 40)
    x[0, 0, 10, 10:12] = np.inf, -np.inf
    compare(x, np.abs(normal(rng, 1, 1, 5, 5)))


def test_inf_under_a_weight_of_zero_is_nan(rng):
    x, w = normal(rng, 1, 1, 30, 30), normal(rng, 1, 1, 3, 3)
    x[0, 0, 15, 15], w[0, 0, 1, 1] = np.inf, 0
    compare(x, w)


def test_image_of_nan(rng):
    y = fastconv.conv2d(np.full((1, 2, 40, 40), np.nan, "float32"), normal(rng, 2, 2, 5, 5), backend="fft")
    assert np.isnan(y).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_overflow_of_the_transform_is_mended(rng, threads):
    x, w = np.zeros((1, 1, 70, 70), "float32"), np.full((1, 1, 5, 5), 0.01, "float32")
    x[0, 0, ::7] = 3e38
    y = fastconv.conv2d(x, w, backend="fft", threads=threads)
    np.testing.assert_allclose(y, definition(x, w, (1, 1), ((0, 0),) * 2, (1, 1), 1), rtol=1e-6)


def test_sum_that_overflows_is_infinite():
    x, w = np.full((1, 1, 40, 40), 3e38, "float32"), np.ones((1, 1, 3, 3), "float32")
    assert (fastconv.conv2d(x, w, backend="fft") == np.inf).all()


def test_spectrum_of_the_weights_overflows():
    x, w = np.full((1, 1, 40, 40), 1e-3, "float32"), np.full((1, 1, 3, 3), 3e38, "float32")
    np.testing.assert_allclose(fastconv.conv2d(x, w, backend="fft"), 9 * 3e35, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_weights_are_refused(rng, bad):
    w = normal(rng, 1, 1, 3, 3)
    w[0, 0, 1, 1] = bad
    with pytest.raises(UnsupportedConv, match="'fft' needs finite weights"):
        fastconv.conv2d(normal(rng, 1, 1, 8, 8), w, backend="fft")


def test_exact_is_refused(rng):
    with pytest.raises(UnsupportedConv, match="accuracy"):
        fastconv.conv2d(normal(rng, 8, 8), normal(rng, 3, 3), backend="fft", accuracy=ACCURACIES[0])


LAYERS = [
    ((3, 1, 301, 203), (1, 1, 15, 15), 1),
    ((5, 20, 33, 30), (24, 20, 5, 5), 1),
    ((4, 12, 40, 40), (12, 1, 9, 9), 12),
]


@pytest.mark.parametrize(("shape", "kernel", "g"), LAYERS)
def test_same_bits_for_any_number_of_threads(rng, shape, kernel, g):
    x, plan = normal(rng, *shape), fastconv.plan(normal(rng, *kernel), shape, groups=g, padding=2, backend="fft")
    one = plan(x, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(plan(x, threads=threads), one)


@pytest.mark.parametrize(("shape", "kernel", "g"), LAYERS)
def test_same_bits_in_any_batch(rng, shape, kernel, g):
    x, plan = normal(rng, *shape), fastconv.plan(normal(rng, *kernel), shape, groups=g, padding=2, backend="fft")
    single = plan.for_shape((1, *shape[1:]))
    np.testing.assert_array_equal(plan(x), np.concatenate([single(image[None]) for image in x]))


def test_prepared_spectra_serve_every_size(rng):
    plan = fastconv.plan(normal(rng, 2, 2, 7, 7), (1, 2, 30, 30), padding=3, backend="fft")
    other = plan.for_shape((2, 2, 90, 17))
    assert other.state is plan.state
    x = normal(rng, 2, 2, 90, 17)
    room = other.error_bound * np.abs(x).max() * np.abs(plan.state.w).sum((0, 2, 3, 4, 5)).max()
    expected = definition(x, plan.state.w[0, :, :, 0], (1, 1), ((3, 3),) * 2, (1, 1), 1)
    assert np.abs(other(x) - expected).max() <= room


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("limit", [None, 6 * 10**6])
@pytest.mark.parametrize("bad", [0, np.inf], ids=["finite", "inf"])
@pytest.mark.parametrize(
    ("shape", "kernel", "g"),
    [
        ((1, 1, 1080, 1920), (1, 1, 31, 31), 1),
        ((1, 16, 300, 300), (24, 16, 9, 9), 1),
        ((1, 64, 200, 200), (64, 1, 9, 9), 64),
    ],
)
def test_workspace_is_what_is_reported(rng, shape, kernel, g, limit, threads, bad):
    x, w = normal(rng, *shape), normal(rng, *kernel)
    x[0, 0, 100, 100] = bad
    out = np.empty((1, kernel[0], shape[2] - kernel[2] + 1, shape[3] - kernel[3] + 1), "float32")
    plan = fastconv.plan(w, shape, groups=g, backend="fft", max_workspace=limit)
    with fastconv.num_threads(threads):
        reported = plan.workspace_bytes
    assert limit is None or reported <= limit
    for call in (
        lambda: plan(x, out=out, threads=threads),
        lambda: fastconv.conv2d(x, w, groups=g, backend="fft", max_workspace=limit, out=out, threads=threads),
    ):
        arena.reset()
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= reported + 200_000  # Python's own objects


def test_too_little_workspace_is_refused(rng):
    with pytest.raises(UnsupportedConv, match="bytes of workspace"):
        fastconv.conv2d(normal(rng, 40, 40), normal(rng, 9, 9), backend="fft", max_workspace=1000)
