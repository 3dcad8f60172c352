"""Specs: layers as text, output sizes, operation counts, the promotion table."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv.arguments import LAYOUTS
from fastconv.spec import ACCUMULATOR, ConvSpec, PoolSpec, parse_layer

small = st.integers(1, 4)


@st.composite
def layers(draw):
    """Any well-formed layer, sizes up to a few dozen."""
    ndim = draw(st.integers(1, 3))
    per_axis = st.tuples(*[small] * ndim)
    kernel, stride, dilation = draw(per_axis), draw(per_axis), draw(per_axis)
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * ndim))
    extra = draw(st.tuples(*[st.integers(0, 9)] * ndim))
    size = tuple(
        max((k - 1) * d + 1 - sum(p), 0) + e for k, d, p, e in zip(kernel, dilation, padding, extra, strict=True)
    )
    g = draw(small)
    return ConvSpec(
        draw(st.integers(0, 3)), g * draw(small), g * draw(small), size, kernel, stride, padding, dilation, g,
        layout=LAYOUTS[ndim][0],
    )  # fmt: skip


@settings(deadline=None)
@given(layers())
def test_text_reads_back_to_the_same_layer(spec):
    assert parse_layer(spec.text) == spec


@settings(deadline=None)
@given(layers())
def test_output_size_counts_the_places_where_the_kernel_fits(spec):
    for out, size, (before, after), k, s, d in zip(
        spec.output_size, spec.input_size, spec.padding, spec.kernel_size, spec.stride, spec.dilation, strict=True
    ):
        starts = [p for p in range(0, size + before + after, s) if p + (k - 1) * d < size + before + after]
        assert out == len(starts)


@settings(deadline=None)
@given(layers())
def test_flops_are_two_per_term(spec):
    assert spec.flops == 2 * math.prod(spec.out_shape) * spec.ic // spec.g * math.prod(spec.kernel_size)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("total", [0, 1, 2, 3])
def test_output_size_formula_with_total_padding(stride, total):
    spec = parse_layer(f"ih10iw11kh4kw3s{stride}pt{total // 2}pb{total - total // 2}pl{total}")
    expected = ((10 - 4 + total + stride) // stride, (11 - 3 + total + stride) // stride)
    assert spec.output_size == expected


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("ic64ih56oc64k3p1", {"input_size": (56, 56), "kernel_size": (3, 3), "padding": ((1, 1), (1, 1))}),
        (" n2 ic3 ih8 iw9 kh3 kw1 ", {"n": 2, "input_size": (8, 9), "kernel_size": (3, 1)}),
        ("ih8s2kh3", {"stride": (2, 2), "kernel_size": (3, 1)}),
        ("iw100k9d4pl32", {"input_size": (100,), "dilation": (4,), "padding": ((32, 0),), "layout": "NCW"}),
        ("id4ih5iw6k3pf1pk2", {"input_size": (4, 5, 6), "padding": ((1, 2), (0, 0), (0, 0)), "layout": "NCDHW"}),
        ("ic8oc8g8ih4", {"g": 8}),
    ],
)
def test_layer_text_is_read(text, fields):
    spec = parse_layer(text)
    assert {name: getattr(spec, name) for name in fields} == fields


@pytest.mark.parametrize(
    "text", ["", "hello", "ih5ih6", "ih5q3", "ih5k", "ih5k-1", "5ih", "ih5k9", "ih5s0", "ic3g2ih5", "ih5,k3"]
)
def test_malformed_layer_text_is_refused(text):
    with pytest.raises(ValueError, match=r"layer|kernel|stride|groups"):
        parse_layer(text)


@pytest.mark.parametrize(
    ("dtype", "sums"),
    [
        ("float32", "float32"), ("float64", "float64"), ("int8", "int32"), ("uint8", "int32"), ("int16", "int64"),
        ("uint16", "int64"), ("int32", "int64"), ("uint32", "int64"), ("int64", "int64"), ("uint64", "uint64"),
    ],
)  # fmt: skip
def test_promotion_table(dtype, sums):
    assert parse_layer("ih5k3", dtype=dtype).acc_dtype == sums


def test_promotion_table_has_no_other_row():
    assert len(ACCUMULATOR) == 10


@pytest.mark.parametrize(
    ("x", "w", "largest"), [("int8", "int8", 128 * 128), ("uint8", "int8", 255 * 128), ("uint8", "uint8", 255 * 255)]
)
def test_8_bit_layers_are_refused_from_the_size_where_int32_can_overflow(x, w, largest):
    most = (2**31 - 1) // largest
    ConvSpec(1, most, 1, (1,), (1,), (1,), ((0, 0),), (1,), layout="NCW", dtype=x, w_dtype=w)
    with pytest.raises(ValueError, match=r"int32 sums; convert x and w to int16"):
        ConvSpec(1, most + 1, 1, (1,), (1,), (1,), ((0, 0),), (1,), layout="NCW", dtype=x, w_dtype=w)


def test_int32_overflow_is_refused_by_the_public_call():
    x, w = np.zeros((1, 40000, 2, 2), "uint8"), np.zeros((1, 40000, 1, 1), "uint8")
    with pytest.raises(ValueError, match="40000 products"):
        fastconv.conv2d(x, w)


def test_bytes_count_input_weights_and_output_once():
    spec = parse_layer("ic2ih4oc3k3p1")
    assert spec.bytes == 4 * (2 * 16 + 3 * 2 * 9 + 3 * 16)


def test_bytes_of_8_bit_layers_count_32_bit_results():
    spec = parse_layer("ih4", dtype="uint8")
    assert spec.bytes == 16 + 1 + 4 * 16


@pytest.mark.parametrize(("ndim", "layout"), [(1, "NWC"), (2, "NHWC"), (3, "NDHWC")])
def test_channels_last_shapes(ndim, layout):
    ones = (1,) * ndim
    spec = ConvSpec(2, 3, 5, (4,) * ndim, ones, ones, ((0, 0),) * ndim, ones, layout=layout)
    assert spec.x_shape == (2, *(4,) * ndim, 3)
    assert spec.out_shape == (2, *(4,) * ndim, 5)


def test_spec_is_frozen():
    with pytest.raises(FrozenInstanceError):
        parse_layer("ih5").n = 2


@pytest.mark.parametrize("size", [{"n": -1}, {"ic": -1}, {"oc": -1}, {"input_size": (-1, 5)}])
def test_negative_sizes_are_refused(size):
    fields = {"n": 1, "ic": 1, "oc": 1, "input_size": (5, 5)} | size
    with pytest.raises(ValueError, match="-1"):
        ConvSpec(kernel_size=(1, 1), stride=(1, 1), padding=((2, 2), (2, 2)), dilation=(1, 1), **fields)


@pytest.mark.parametrize(
    ("size", "k", "s", "p", "ceil", "out"),
    [
        (5, 2, 2, 0, False, 2),
        (5, 2, 2, 0, True, 3),
        (4, 2, 3, 1, True, 2),
        (6, 3, 2, 1, False, 3),
        (3, 2, 1, 0, True, 2),
    ],
)
def test_pool_output_size(size, k, s, p, ceil, out):
    assert PoolSpec(1, 1, (size,), (k,), (s,), (p,), (1,), ceil).output_size == (out,)


def test_pool_padding_is_a_number_or_a_pair_per_axis():
    pool = PoolSpec(1, 1, (5, 5), (3, 3), (1, 1), (1, (0, 1)), (1, 1))
    assert pool.pads == ((1, 1), (0, 1))
    assert pool.output_size == (5, 4)
