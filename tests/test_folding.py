"""`unfold` shows what a convolution multiplies; `fold` is its adjoint."""

import re

import numpy as np
import pytest
from oracle import convolve, pad

import fastconv
from fastconv.spec import ACCUMULATOR

CHANNELS_FIRST, CHANNELS_LAST = {1: "NCW", 2: "NCHW", 3: "NCDHW"}, {1: "NWC", 2: "NHWC", 3: "NDHWC"}
LAYERS = {  # name -> shape of x, kernel, options
    "1d": ((2, 3, 9), (3,), {}),
    "1d-stride-with-remainder": ((2, 3, 10), (3,), {"stride": 4, "padding": 1}),
    "1d-reflect": ((1, 2, 5), (4,), {"padding": ((4, 2),), "padding_mode": "reflect"}),
    "1d-kernel-of-one": ((1, 2, 5), (1,), {"stride": 2}),
    "2d": ((2, 3, 5, 6), (3, 2), {}),
    "2d-padding": ((2, 3, 5, 6), (3, 2), {"padding": (2, 1)}),
    "2d-pairs": ((1, 2, 5, 6), (3, 3), {"padding": ((0, 2), (3, 1)), "stride": 2}),
    "2d-dilation": ((1, 2, 8, 9), (3, 2), {"dilation": (2, 3), "stride": (1, 3), "padding": 1}),
    "2d-stride-beyond-kernel": ((1, 2, 8, 9), (2, 1), {"stride": (3, 4)}),
    "2d-same": ((1, 2, 5, 6), (4, 3), {"padding": "same", "stride": 2}),
    "2d-replicate": ((1, 2, 5, 6), (3, 3), {"padding": 7, "padding_mode": "replicate"}),
    "2d-circular": ((1, 2, 5, 6), (3, 3), {"padding": ((5, 0), (1, 6)), "padding_mode": "circular", "stride": 2}),
    "3d": ((2, 2, 3, 4, 5), (2, 3, 2), {"padding": (1, 0, 1), "stride": (1, 1, 2)}),
    "3d-reflect": (
        (1, 2, 3, 4, 5),
        (2, 3, 3),
        {"padding": (1, 2, 3), "padding_mode": "reflect", "dilation": (1, 2, 1)},
    ),
}
any_layer = pytest.mark.parametrize("layer", LAYERS)


def problem(layer, dtype="float64"):
    """x, kernel, options, and the layer's padding as pairs."""
    shape, kernel, options = LAYERS[layer]
    x = np.random.default_rng(3).integers(0, 5, shape).astype(dtype)
    pairs = fastconv.explain(shape, np.empty((1, shape[1], *kernel)), **options).spec.padding
    return x, kernel, options, pairs


def windows(x, kernel, pairs, padding_mode="zeros", stride=1, dilation=1, padding=None):
    """The columns by slices of the padded image, tap by tap."""
    ndim = x.ndim - 2
    stride, dilation = ((v,) * ndim if isinstance(v, int) else v for v in (stride, dilation))
    big, rows = pad(x, pairs, padding_mode), []
    for c in range(x.shape[1]):
        for tap in np.ndindex(*kernel):
            axes = zip(big.shape[2:], tap, kernel, stride, dilation, strict=True)
            seen = big[:, c][(slice(None), *(slice(r * d, n - (k - 1 - r) * d, s) for n, r, k, s, d in axes))]
            rows.append(seen.reshape(len(x), -1))
    return np.stack(rows, 1)


@any_layer
def test_unfold_is_every_window(layer):
    x, kernel, options, pairs = problem(layer)
    right = windows(x, kernel, pairs, **options)
    ndim = x.ndim - 2
    assert np.array_equal(fastconv.unfold(x, kernel, layout=CHANNELS_FIRST[ndim], **options), right)
    last = np.moveaxis(x, 1, -1)
    assert np.array_equal(fastconv.unfold(last, kernel, layout=CHANNELS_LAST[ndim], **options), right)


@any_layer
def test_weights_times_columns_are_the_convolution(layer):
    x, kernel, options, pairs = problem(layer)
    w = np.random.default_rng(4).integers(-3, 4, (4, x.shape[1], *kernel)).astype("float64")
    product = w.reshape(4, -1) @ fastconv.unfold(x, kernel, layout=CHANNELS_FIRST[x.ndim - 2], **options)
    right = convolve(x, w, **options | {"padding": pairs})
    assert np.array_equal(product.reshape(right.shape), right)


@any_layer
@pytest.mark.parametrize("channels_last", [False, True])
def test_fold_is_the_adjoint_of_unfold(layer, channels_last):
    x, kernel, options, pairs = problem(layer)
    ndim = x.ndim - 2
    columns = np.random.default_rng(5).integers(-3, 4, windows(x, kernel, pairs, **options).shape).astype("float64")
    layout = (CHANNELS_LAST if channels_last else CHANNELS_FIRST)[ndim]
    result = fastconv.fold(columns, x.shape[2:], kernel, layout=layout, **options)
    right = np.empty_like(x)
    for at in np.ndindex(*x.shape):
        unit = np.zeros_like(x)
        unit[at] = 1
        right[at] = (windows(unit, kernel, pairs, **options) * columns).sum()
    assert np.array_equal(result, np.moveaxis(right, 1, -1) if channels_last else right)


def test_fold_of_unfold_counts_the_windows():
    ones = fastconv.fold(fastconv.unfold(np.ones((4, 4)), 3), 4, 3)[0]
    assert ones.tolist() == [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]


@pytest.mark.parametrize("dtype", ACCUMULATOR)
def test_every_dtype_stays(dtype):
    x, kernel, options, pairs = problem("2d-padding", dtype)
    columns = fastconv.unfold(x, kernel, **options)
    assert columns.dtype == dtype and np.array_equal(columns, windows(x, kernel, pairs, **options))
    image = fastconv.fold(columns, x.shape[2:], kernel, **options)
    assert image.dtype == dtype
    assert np.array_equal(image, fastconv.fold(columns.astype("float64"), x.shape[2:], kernel, **options))


def test_numbers_pass_unchanged():
    x = np.array([[np.nan, np.inf], [-np.inf, 3e38]], "float32")
    assert np.array_equal(fastconv.unfold(x, 1).ravel(), x.ravel(), equal_nan=True)
    assert np.array_equal(fastconv.fold(x.reshape(1, 4), 2, 1)[0], x, equal_nan=True)


def test_image_without_batch_and_plain_image():
    x, kernel, options, _ = problem("2d-padding")
    whole = fastconv.unfold(x, kernel, **options)
    assert np.array_equal(fastconv.unfold(x[1], kernel, **options), whole[1])
    assert np.array_equal(fastconv.unfold(x[1, 0], kernel, **options), whole[1, :6])
    folded = fastconv.fold(whole, x.shape[2:], kernel, **options)
    assert np.array_equal(fastconv.fold(whole[1], x.shape[2:], kernel, **options), folded[1])


def test_arrays_that_run_backwards():
    x, kernel, options, _ = problem("2d-padding")
    columns = fastconv.unfold(x[::-1, ::-1, ::-1, ::-1], kernel, **options)
    assert np.array_equal(columns, fastconv.unfold(x[::-1, ::-1, ::-1, ::-1].copy(), kernel, **options))
    turned = columns[::-1, ::-1, ::-1]
    image = fastconv.fold(turned, x.shape[2:], kernel, **options)
    assert np.array_equal(image, fastconv.fold(turned.copy(), x.shape[2:], kernel, **options))


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
def test_out_that_is_not_contiguous(padding_mode):
    x, kernel, _, _ = problem("2d")
    options = {"padding": 1, "padding_mode": padding_mode}
    columns = fastconv.unfold(x, kernel, **options)
    out = np.full(columns.shape[::-1], np.nan).T
    assert fastconv.unfold(x, kernel, out=out, **options) is out and np.array_equal(out, columns)
    image = fastconv.fold(columns, x.shape[2:], kernel, **options)
    out = np.full(image.shape[::-1], np.nan).T
    assert fastconv.fold(columns, x.shape[2:], kernel, out=out, **options) is out and np.array_equal(out, image)


def test_nothing_in_gives_nothing_out():
    assert fastconv.unfold(np.ones((0, 3, 4, 4)), 2).shape == (0, 12, 9)
    assert fastconv.unfold(np.ones((2, 0, 4, 4)), 2).shape == (2, 0, 9)
    assert fastconv.fold(np.ones((0, 12, 9)), 4, 2).shape == (0, 3, 4, 4)
    assert fastconv.fold(np.ones((2, 0, 9)), 4, 2).shape == (2, 0, 4, 4)


def test_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")
    columns = fastconv.unfold(torch.ones(1, 2, 4, 4), 2)
    assert isinstance(columns, torch.Tensor) and isinstance(fastconv.fold(columns, 4, 2), torch.Tensor)


def unfold(x=None, kernel_size=3, **options):
    return fastconv.unfold(np.ones((2, 3, 5, 6)) if x is None else x, kernel_size, **options)


def fold(x=None, kernel_size=3, **options):
    return fastconv.fold(np.ones((2, 27, 12)) if x is None else x, (5, 6), kernel_size, **options)


@pytest.fixture(params=[unfold, fold])
def entrance(request):
    return request.param


def refuses(error, *words):
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(w)})" for w in words))


@pytest.mark.parametrize("value", [1.0, True, "3", None])
@pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation"])
def test_other_types_where_an_int_belongs(entrance, name, value):
    with refuses(TypeError, name, "must be an int"):
        entrance(**{name: value})


@pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation", "padding"])
def test_tuples_of_the_wrong_length(entrance, name):
    with refuses(ValueError, name, "(3, 3, 3)", "2 of them"):
        entrance(**{name: (3, 3, 3)})


@pytest.mark.parametrize("name", ["stride", "dilation"])
def test_numbers_below_one(entrance, name):
    with refuses(ValueError, name, "0", "at least 1"):
        entrance(**{name: 0})


@pytest.mark.parametrize("kernel_size", [0, -3, (0, 3)])
def test_kernel_without_taps(entrance, kernel_size):
    with refuses(ValueError, "kernel_size"):
        entrance(kernel_size=kernel_size)


def test_negative_padding(entrance):
    with refuses(ValueError, "padding", "-1", "negative"):
        entrance(padding=-1)


@pytest.mark.parametrize("name", ["padding", "padding_mode"])
def test_unknown_names(entrance, name):
    with refuses(ValueError, f"{name}='Same'", "choose"):
        entrance(**{name: "Same"})


@pytest.mark.parametrize("layout", ["NHCW", None, 2])
def test_layouts_that_there_are_not(entrance, layout):
    with refuses(ValueError, f"layout={layout!r}", "choose one of NCW, NWC, NCHW"):
        entrance(layout=layout)


def test_window_larger_than_the_image():
    with refuses(ValueError, "kernel spans 6", "padded input has 5"):
        unfold(kernel_size=6)


def test_x_of_the_wrong_rank():
    with refuses(ValueError, "x has shape (5,)", "layout='NCHW'"):
        unfold(np.ones(5))
    with refuses(ValueError, "x has shape (27,)", "(n, rows, positions)"):
        fold(np.ones(27))


def test_columns_that_do_not_fit_the_kernel():
    with refuses(ValueError, "x has 26 rows", "kernel_size=(3, 3)", "multiple of 9"):
        fold(np.ones((2, 26, 12)))


def test_columns_that_do_not_fit_the_image():
    with refuses(ValueError, "x has 13 positions", "(5, 6)", "12 windows"):
        fold(np.ones((2, 27, 13)))


def test_output_size_of_the_wrong_length():
    with refuses(ValueError, "output_size=(4, 4, 4)", "2 of them"):
        fastconv.fold(np.ones((4, 9)), (4, 4, 4), 2)


def test_out_that_cannot_take_the_result(entrance):
    with refuses(ValueError, "out has shape (3,)"):
        entrance(out=np.empty(3))
    shape = entrance().shape
    with refuses(TypeError, "out has dtype float32", "float64"):
        entrance(out=np.empty(shape, "float32"))


def test_out_may_not_overlap_x():
    memory = np.ones(300)
    with refuses(ValueError, "out shares memory with x"):
        fastconv.unfold(memory[:16].reshape(4, 4), 2, out=memory[10:46].reshape(4, 9))
    with refuses(ValueError, "out shares memory with x"):
        fastconv.fold(memory[:36].reshape(4, 9), 4, 2, out=memory[30:46].reshape(1, 4, 4))
