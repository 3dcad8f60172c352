"""Where PyTorch raises, fastconv raises too or computes more on purpose; tables of both."""

import numpy as np
import pytest

import fastconv
from fastconv import grad

torch = pytest.importorskip("torch", reason="run 'pip install torch'")
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError)  # NotImplementedError is a RuntimeError


def ones(*shape, dtype="float32"):
    return np.ones(shape, dtype)


def layer(ndim, **changes):
    """x and w of a convolution as positional arguments; ``changes`` replace one of them."""
    return changes.get("x", ones(2, 4, *(7,) * ndim)), changes.get("w", ones(6, 4, *(3,) * ndim))


def upward(ndim, **changes):
    """x and w of a transposed convolution."""
    return changes.get("x", ones(2, 4, *(5,) * ndim)), changes.get("w", ones(4, 6, *(3,) * ndim))


def forward_errors(n):
    x, w = layer(n)
    return {
        "channels-differ": (layer(n, w=w[:, :3]), {}),
        "kernel-too-large": (layer(n, w=ones(6, 4, *(9,) * n)), {}),
        "dilated-kernel-too-large": ((x, w), {"dilation": 4}),
        "kernel-without-taps": (layer(n, w=w[:, :, :0]), {}),
        "stride-0": ((x, w), {"stride": 0}),
        "stride-negative": ((x, w), {"stride": -1}),
        "stride-float": ((x, w), {"stride": 1.5}),
        "stride-bool": ((x, w), {"stride": True}),
        "stride-too-long": ((x, w), {"stride": (1,) * (n + 1)}),
        "dilation-0": ((x, w), {"dilation": 0}),
        "padding-negative": ((x, w), {"padding": -1}),
        "padding-unknown": ((x, w), {"padding": "nonsense"}),
        "groups-0": ((x, w), {"groups": 0}),
        "groups-do-not-divide-input": (layer(n, w=w[:, :1]), {"groups": 3}),
        "groups-do-not-divide-output": (layer(n, w=w[:5, :2]), {"groups": 2}),
        "bias-too-short": ((x, w, ones(5)), {}),
        "bias-of-two-axes": ((x, w, ones(6, 1)), {}),
        "bias-of-another-dtype": ((x, w, ones(6, dtype="float64")), {}),
        "x-without-axes": (layer(n, x=ones()), {}),
        "x-of-too-many-axes": (layer(n, x=x[None]), {}),
        "w-without-output-channels": (layer(n, w=w[0]), {}),
        "dtypes-differ": (layer(n, w=w.astype("float64")), {}),
        "bool": (layer(n, x=x.astype(bool), w=w.astype(bool)), {}),
        "no-array": (layer(n, x=None), {}),
    }


def transposed_errors(n):
    x, w = upward(n)
    return {
        "channels-differ": (upward(n, w=w[:3]), {}),
        "output-padding-is-stride": ((x, w), {"stride": 2, "output_padding": 2}),
        "output-padding-without-stride": ((x, w), {"output_padding": 1}),
        "output-padding-negative": ((x, w), {"stride": 2, "output_padding": -1}),
        "output-padding-too-long": ((x, w), {"stride": 2, "output_padding": (1,) * (n + 1)}),
        "padding-leaves-nothing": ((x, w), {"padding": 5}),
        "padding-negative": ((x, w), {"padding": -1}),
        "padding-float": ((x, w), {"padding": 1.0}),
        "stride-0": ((x, w), {"stride": 0}),
        "dilation-0": ((x, w), {"dilation": 0}),
        "groups-0": ((x, w), {"groups": 0}),
        "groups-do-not-divide": ((x, w), {"groups": 3}),
        "bias-as-long-as-the-input": ((x, w, ones(4)), {}),
        "bias-of-another-dtype": ((x, w, ones(6, dtype="float64")), {}),
        "x-of-too-many-axes": (upward(n, x=x[None]), {}),
        "w-without-input-channels": (upward(n, w=w[0]), {}),
        "image-without-pixels": (upward(n, x=x[:, :, :0]), {}),
        "kernel-without-taps": (upward(n, w=w[:, :, :0]), {}),
        "dtypes-differ": (upward(n, w=w.astype("float64")), {}),
    }


def input_gradient_errors(n):
    x, w = layer(n)
    gy = ones(2, 6, *(5,) * n)
    return {
        "output-gradient-too-small": ((x.shape, w, gy[:, :, :4]), {}),
        "output-gradient-of-fewer-channels": ((x.shape, w, gy[:, :5]), {}),
        "input-of-another-size": (((2, 4, *(9,) * n), w, gy), {}),
        "input-of-fewer-channels": (((2, 3, *(7,) * n), w, gy), {}),
        "stride-0": ((x.shape, w, gy), {"stride": 0}),
        "dtypes-differ": ((x.shape, w, gy.astype("float64")), {}),
    }


def weight_gradient_errors(n):
    x, w = layer(n)
    gy = ones(2, 6, *(5,) * n)
    return {
        "output-gradient-too-small": ((x, w.shape, gy[:, :, :4]), {}),
        "kernel-of-another-size": ((x, (6, 4, *(4,) * n), gy), {}),
        "weights-of-fewer-input-channels": ((x, (6, 3, *(3,) * n), gy), {}),
        "weights-of-fewer-output-channels": ((x, (5, 4, *(3,) * n), gy), {}),
        "stride-0": ((x, w.shape, gy), {"stride": 0}),
    }


COLUMNS, IMAGE = ones(2, 36, 25), ones(2, 4, 7, 7)
FOLD_ERRORS = {
    "rows-do-not-fit": ((COLUMNS[:, :35], 7, 3), {}),
    "positions-do-not-fit": ((COLUMNS[..., :24], 7, 3), {}),
    "image-negative": ((COLUMNS, -7, 3), {}),
    "image-below-the-window": ((COLUMNS, 2, 3), {}),
    "window-0": ((COLUMNS, 7, 0), {}),
    "stride-0": ((COLUMNS, 7, 3), {"stride": 0}),
    "padding-negative": ((COLUMNS, 9, 3), {"padding": -1}),
    "one-axis": ((ones(36), 7, 3), {}),
    "four-axes": ((COLUMNS[None], 7, 3), {}),
}
UNFOLD_ERRORS = {
    "window-too-large": ((IMAGE, 8), {}),
    "window-0": ((IMAGE, 0), {}),
    "window-float": ((IMAGE, 3.0), {}),
    "window-of-three-axes": ((IMAGE, (3, 3, 3)), {}),
    "stride-0": ((IMAGE, 3), {"stride": 0}),
    "dilation-0": ((IMAGE, 3), {"dilation": 0}),
    "padding-negative": ((IMAGE, 3), {"padding": -1}),
    "one-axis": ((ones(7), 3), {}),
    "five-axes": ((IMAGE[None], 3), {}),
}


def extensions(n):
    """Function, call and shape of the result of what PyTorch does not compute, by the reason why fastconv does."""
    x, w = layer(n)
    y, v = upward(n)
    pairs = ((0, 1),) * n

    def shape(size, channels=6):
        return (2, channels, *(size,) * n)

    return {
        "each-side-has-its-padding": ("conv", ((x, w), {"padding": pairs}), shape(6)),
        "each-side-of-the-result-has-its-padding": ("conv_transpose", ((y, v), {"padding": pairs}), shape(6)),
        "same-is-defined-for-every-stride": ("conv", ((x, w), {"padding": "same", "stride": 2}), shape(4)),
        "onnx-has-same-lower": ("conv", ((x, w), {"padding": "same_lower"}), shape(7)),
        "signal-processing-has-full": ("conv", ((x, w), {"padding": "full"}), shape(9)),
        "onnx-has-same-for-them": ("conv_transpose", ((y, v), {"padding": "same", "stride": 2}), shape(10)),
        "an-image-needs-no-channel-axis": ("conv", ((x[0, 0], w[0, 0]), {}), (5,) * n),
        "an-image-needs-no-channel-axis-upward": ("conv_transpose", ((y[0, 0], v[0, 0]), {}), (7,) * n),
        "onnx-mixes-signed-and-unsigned": ("conv", ((x.astype("uint8"), w.astype("int8")), {}), shape(5)),
        "a-layer-may-have-no-output-channels": ("conv", ((x, w[:0]), {}), shape(5, 0)),
        "padding-alone-is-an-image": ("conv", ((ones(2, 4, *(0,) * n), w), {"padding": 2}), shape(2)),
        "sums-of-nothing-are-0": ("conv_transpose", ((y[:, :0], v[:0]), {}), shape(7)),
        "integers-go-upward-too": ("conv_transpose", ((y.astype("int32"), v.astype("int32")), {}), shape(7)),
    }


IMAGE_EXTENSIONS = {
    "an-image-needs-no-channel-axis": ("unfold", ((IMAGE[0, 0], 3), {}), (9, 25)),
    "each-side-has-its-padding": ("unfold", ((IMAGE, 3), {"padding": ((0, 1), (2, 0))}), (2, 36, 42)),
    "paddings-have-names": ("unfold", ((IMAGE, 3), {"padding": "same"}), (2, 36, 49)),
    "integers-have-windows-too": ("unfold", ((IMAGE.astype("int32"), 3), {}), (2, 36, 25)),
    "an-image-may-have-no-channels": ("unfold", ((IMAGE[:, :0], 3), {}), (2, 0, 25)),
    "integers-add-up-too": ("fold", ((COLUMNS.astype("int32"), 7, 3), {}), (2, 4, 7, 7)),
    "each-side-of-the-image-has-its-padding": ("fold", ((COLUMNS, 6, 3), {"padding": ((0, 1), (1, 0))}), (2, 4, 6, 6)),
}
BAD = [
    *((f"conv{n}d", name, *call) for n in (1, 2, 3) for name, call in forward_errors(n).items()),
    *((f"conv_transpose{n}d", name, *call) for n in (1, 2, 3) for name, call in transposed_errors(n).items()),
    *((f"grad.conv{n}d_input", name, *call) for n in (1, 2, 3) for name, call in input_gradient_errors(n).items()),
    *((f"grad.conv{n}d_weight", name, *call) for n in (1, 2, 3) for name, call in weight_gradient_errors(n).items()),
    *(("fold", name, *call) for name, call in FOLD_ERRORS.items()),
    *(("unfold", name, *call) for name, call in UNFOLD_ERRORS.items()),
]
MORE = [
    *((f"{f}{n}d", why, *call, shape) for n in (1, 2, 3) for why, (f, call, shape) in extensions(n).items()),
    *((f, why, *call, shape) for why, (f, call, shape) in IMAGE_EXTENSIONS.items()),
]


def table(names, rows):
    """Parameters ``function`` and ``names`` for rows of the function, the test's name, and the others."""
    return pytest.mark.parametrize(
        f"function, {names}", [pytest.param(row[0], *row[2:], id=f"{row[0]}-{row[1]}") for row in rows]
    )


def both(function):
    """The function of that name of each library."""
    if function.startswith("grad."):
        return getattr(grad, function[5:]), getattr(torch.nn.grad, function[5:])
    return getattr(fastconv, function), getattr(torch.nn.functional, function)


def tensors(args):
    return [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]


@table("args, options", BAD)
def test_both_raise(function, args, options):
    ours, theirs = both(function)
    with pytest.raises(REFUSALS):
        theirs(*tensors(args), **options)
    with pytest.raises((ValueError, TypeError)) as caught:
        ours(*args, **options)
    assert type(caught.value) in (ValueError, TypeError) and len(str(caught.value)) > 20


@table("args, options, shape", MORE)
def test_only_fastconv_computes(function, args, options, shape):
    ours, theirs = both(function)
    with pytest.raises(REFUSALS):
        theirs(*tensors(args), **options)
    assert ours(*args, **options).shape == shape
