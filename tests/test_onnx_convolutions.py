"""ONNX's own node cases of ConvTranspose, ConvInteger, QLinearConv and Col2Im through the public API.

DeformConv is outside the library. So are the scales of QLinearConv: its integer part is `conv2d` with zero points,
and the test requantises the sums by ONNX's formula.
"""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="run 'pip install onnx'")

from onnx_cases import attributes, cases, padding, same

import fastconv
from fastconv import registry
from fastconv.errors import UnsupportedConv

TRANSPOSED = {1: fastconv.conv_transpose1d, 2: fastconv.conv_transpose2d, 3: fastconv.conv_transpose3d}
DENSE_3 = ("test_convtranspose", "test_convtranspose_1d", "test_convtranspose_group_2",
           "test_convtranspose_group_2_image_3")  # fmt: skip
OTHERS = tuple(
    f"test_convtranspose_{variant}"
    for variant in ("3d", "autopad_same", "dilations", "kernel_shape", "output_shape", "pad", "pads")
)
INTEGER = ("test_convinteger_with_padding", "test_convinteger_without_padding")
COLUMNS = tuple(f"test_col2im{variant}" for variant in ("", "_5d", "_dilations", "_pads", "_strides"))
integer_backend = pytest.mark.parametrize("backend", [b.name for b in registry.BACKENDS if b.capabilities.zero_point])


def transposed(x, w, b=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, output_padding=None,
               output_shape=None, pads=None, strides=None, backend):  # fmt: skip
    """ConvTranspose by its attributes; ``output_shape`` becomes the padding that leaves this size."""
    ndim = x.ndim - 2
    assert kernel_shape is None or tuple(kernel_shape) == w.shape[2:]
    strides, dilations, spare = strides or [1] * ndim, dilations or [1] * ndim, output_padding or [0] * ndim
    pairs = padding(ndim, auto_pad, pads)
    if output_shape is not None:
        axes = zip(x.shape[2:], w.shape[2:], strides, dilations, spare, output_shape, strict=True)
        totals = [(i - 1) * s + (k - 1) * d + 1 + more - out for i, k, s, d, more, out in axes]
        halves = [(max(t, 0) // 2, max(t, 0) - max(t, 0) // 2) for t in totals]
        pairs = halves if auto_pad == "SAME_UPPER" else [pair[::-1] for pair in halves]
        spare = [more + max(-t, 0) for more, t in zip(spare, totals, strict=True)]
    return TRANSPOSED[ndim](x, w, b, strides, pairs, spare, group, dilations, backend=backend)


def outputs(case):
    """Inputs and the only expected output of each data set."""
    for inputs, (expected,) in case.data_sets:
        yield inputs, expected


@pytest.mark.parametrize("name", DENSE_3 + OTHERS)
def test_transposed(backend, name):
    case = cases("ConvTranspose")[name]
    if backend == "winograd" and name not in DENSE_3:
        with pytest.raises(UnsupportedConv, match="in a phase of the transposed layer"):
            transposed(*case.data_sets[0][0], **attributes(case), backend=backend)
        return
    for inputs, expected in outputs(case):
        same(transposed(*inputs, **attributes(case), backend=backend), expected)


@integer_backend
@pytest.mark.parametrize("name", INTEGER)
def test_integer(backend, name):
    case = cases("ConvInteger")[name]
    for (x, w, x_zero, *w_zero), expected in outputs(case):
        options = attributes(case)
        pairs = padding(x.ndim - 2, pads=options.pop("pads", None))
        assert not options
        y = fastconv.conv2d(x, w, padding=pairs, x_zero_point=x_zero, w_zero_point=w_zero[0] if w_zero else 0,
                            backend=backend)  # fmt: skip
        assert y.dtype == expected.dtype and y.tolist() == expected.tolist()


@integer_backend
def test_quantised(backend):
    case = cases("QLinearConv")["test_qlinearconv"]
    for (x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero), expected in outputs(case):
        assert not attributes(case)
        sums = fastconv.conv2d(x, w, x_zero_point=x_zero, w_zero_point=w_zero, backend=backend)
        limits = np.iinfo(y_zero.dtype)
        y = np.clip(np.rint(sums * (x_scale * w_scale / y_scale)) + y_zero, limits.min, limits.max)
        assert y.astype(y_zero.dtype).tolist() == expected.tolist()


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_to_image(name):
    case = cases("Col2Im")[name]
    for (columns, size, block), expected in outputs(case):
        ndim, options = len(size), attributes(case)
        pairs = padding(ndim, pads=options.get("pads"))
        image = fastconv.fold(columns, size.tolist(), block.tolist(), options.get("dilations", 1), pairs,
                              options.get("strides", 1), layout={2: "NCHW", 3: "NCDHW"}[ndim])  # fmt: skip
        same(image, expected)


def test_these_are_all_cases():
    assert sorted(cases("ConvTranspose")) == sorted(DENSE_3 + OTHERS) and len(DENSE_3 + OTHERS) == 11
    assert sorted(cases("ConvInteger")) == sorted(INTEGER)
    assert sorted(cases("QLinearConv")) == ["test_qlinearconv"]
    assert sorted(cases("Col2Im")) == sorted(COLUMNS)
