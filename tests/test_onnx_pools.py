"""ONNX's own node cases of all pooling operators, through the public functions."""

import numpy as np
import pytest
from onnx_cases import attributes, cases, padding, same

import fastconv

pytest.importorskip("onnx", reason="run 'pip install onnx'")

NAMES = {
    "MaxPool": {
        *(f"test_maxpool_{variant}" for variant in (
            "1d_default", "2d_ceil", "2d_ceil_output_size_reduce_by_one", "2d_default", "2d_dilations", "2d_pads",
            "2d_precomputed_pads", "2d_precomputed_same_upper", "2d_precomputed_strides", "2d_same_lower",
            "2d_same_upper", "2d_strides", "2d_uint8", "3d_default", "3d_dilations", "3d_dilations_use_ref_impl",
            "3d_dilations_use_ref_impl_large",
        )),
        "test_maxpool_with_argmax_2d_precomputed_pads",
        "test_maxpool_with_argmax_2d_precomputed_strides",
    },
    "AveragePool": {f"test_averagepool_{variant}" for variant in (
        "1d_default", "2d_ceil", "2d_ceil_last_window_starts_on_pad", "2d_default", "2d_dilations", "2d_pads",
        "2d_pads_count_include_pad", "2d_precomputed_pads", "2d_precomputed_pads_count_include_pad",
        "2d_precomputed_same_upper", "2d_precomputed_strides", "2d_same_lower", "2d_same_upper", "2d_strides",
        "3d_default", "3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False",
        "3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True",
        "3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False",
        "3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True", "3d_dilations_small",
    )},
    "LpPool": {f"test_lppool_{variant}" for variant in (
        "1d_default", "2d_default", "2d_dilations", "2d_pads", "2d_same_lower", "2d_same_upper", "2d_strides",
        "3d_default",
    )},
    "GlobalAveragePool": {"test_globalaveragepool", "test_globalaveragepool_precomputed"},
    "GlobalMaxPool": {"test_globalmaxpool", "test_globalmaxpool_precomputed"},
    "GlobalLpPool": set(),
    "MaxUnpool": {"test_maxunpool_export_with_output_shape", "test_maxunpool_export_without_output_shape"},
}  # fmt: skip


def window(ndim, kernel_shape, auto_pad="NOTSET", pads=None, strides=None):
    """The attributes that all operators with a sliding window have."""
    return {"kernel_size": kernel_shape, "stride": strides or 1, "padding": padding(ndim, auto_pad, pads)}


def options(ndim, ceil_mode=0, dilations=None, **attributes):
    return window(ndim, **attributes) | {"ceil_mode": bool(ceil_mode), "dilation": dilations or 1, "compat": "onnx"}


def function(name, ndim):
    return getattr(fastconv, f"{name}{ndim}d")


def max_pool(x, outputs, storage_order=0, **attributes):
    ndim = x.ndim - 2
    given = options(ndim, **attributes) | {"storage_order": storage_order, "return_indices": outputs == 2}
    result = function("max_pool", ndim)(x, **given)
    return result if outputs == 2 else (result,)


def average_pool(x, outputs, count_include_pad=0, **attributes):
    ndim = x.ndim - 2
    return (function("avg_pool", ndim)(x, count_include_pad=bool(count_include_pad), **options(ndim, **attributes)),)


def lp_pool(x, outputs, p=2, **attributes):
    return (function("lp_pool", x.ndim - 2)(x, p, **options(x.ndim - 2, **attributes)),)


def max_unpool(x, indices, output_shape=None, *, outputs, **attributes):
    size = None if output_shape is None else tuple(output_shape.tolist())
    given = window(x.ndim - 2, **attributes)
    return (function("max_unpool", x.ndim - 2)(x, indices, output_size=size, compat="onnx", **given),)


RUN = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LpPool": lp_pool,
    "GlobalAveragePool": lambda x, outputs: (function("adaptive_avg_pool", x.ndim - 2)(x, 1),),
    "GlobalMaxPool": lambda x, outputs: (function("adaptive_max_pool", x.ndim - 2)(x, 1),),
    "MaxUnpool": max_unpool,
}


@pytest.mark.parametrize("op_type", NAMES)
def test_these_are_all_cases(op_type):
    assert set(cases(op_type)) == NAMES[op_type]


def test_max_pool_has_19_cases():
    assert len(cases("MaxPool")) == 19


@pytest.mark.parametrize(("op_type", "name"), [(op, name) for op, names in NAMES.items() for name in sorted(names)])
def test_case(op_type, name):
    case = cases(op_type)[name]
    for inputs, expected in case.data_sets:
        results = RUN[op_type](*inputs, outputs=len(expected), **attributes(case))
        for result, right in zip(results, expected, strict=True):
            same(result, right)


def test_global_norm_is_the_norm_of_a_window_of_the_whole_image(rng):
    """GlobalLpPool, which has no case: 'equivalent to LpPool with kernel size equal to the spatial dimension'."""
    x = rng.standard_normal((2, 3, 4, 5))
    y = fastconv.lp_pool2d(x, 3, (4, 5), compat="onnx")
    np.testing.assert_allclose(y[..., 0, 0], (np.abs(x) ** 3).sum((2, 3)) ** (1 / 3), rtol=1e-14)
