"""Receptive fields against the elements that have an influence: matrices by definition, gradients, one-hot images."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import Branches, grad, receptive_field
from fastconv.spec import ConvSpec, PoolSpec, parse_layer
from fastconv.windows import Adaptive


def conv(k, s=1, p=(0, 0), d=1, mode="zeros"):
    return ConvSpec(1, 1, 1, (4096,), (k,), (s,), (p,), (d,), padding_mode=mode, layout="NCW")


def transposed(k, s=1, p=0, d=1, spare=0):
    return ConvSpec(1, 1, 1, ((4096 - 1) * s + (k - 1) * d + 1 - 2 * p + spare,), (k,), (s,), ((p, p),), (d,),
                    layout="NCW", op="grad_input", spare=(spare,))  # fmt: skip


def pool(k, s, p, d=1, ceil_mode=False):
    return PoolSpec(1, 1, (4096,), (k,), (s,), (p,), (d,), ceil_mode)


def influence(layer, size):
    """Which inputs (columns) each output (row) of a 1-D layer sees, by the layer's definition; None: no output."""
    if isinstance(layer, list):
        total = np.eye(size, dtype=bool)
        for part in layer:
            matrix = influence(part, total.shape[0])
            if matrix is None:
                return None
            total = matrix @ total
        return total
    if isinstance(layer, Branches):
        return np.logical_or.reduce([influence(path, size) for path in layer.paths])
    if isinstance(layer, Adaptive):
        out = layer.output_size
        rows = [[i for i in range(size) if math.floor(o * size / out) <= i < math.ceil((o + 1) * size / out)]
                for o in range(out)]  # fmt: skip
    else:
        (k,), (s,), (d,) = layer.kernel_size, layer.stride, layer.dilation
        (p,) = layer.padding
        before, after = p if isinstance(p, tuple) else (p, p)
        if isinstance(layer, ConvSpec) and layer.op == "grad_input":
            full = np.zeros(((size - 1) * s + (k - 1) * d + 1 + layer.spare[0], size), bool)
            for i in range(size):
                for t in range(k):
                    full[i * s + t * d, i] = True
            return full[before : len(full) - after] if len(full) > before + after else None
        mode = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[
            getattr(layer, "padding_mode", "zeros")
        ]
        fill = {"constant_values": -1} if mode == "constant" else {}
        if mode != "constant" and max(before, after) > size - (mode == "reflect"):
            return None
        source = np.pad(np.arange(size), (before, after), mode=mode, **fill)
        if len(source) < (k - 1) * d + 1:
            return None
        steps = range(0, len(source) - (k - 1) * d, s)
        starts = list(steps)
        if getattr(layer, "ceil_mode", False) and starts[-1] + (k - 1) * d + 1 < len(source):
            extra = starts[-1] + s
            starts += [extra] if extra < size + before else []
        rows = [[source[a + t * d] for t in range(k) if a + t * d < len(source)] for a in starts]
    matrix = np.zeros((len(rows), size), bool)
    for o, seen in enumerate(rows):
        matrix[o, [i for i in seen if i >= 0]] = True
    return matrix


@st.composite
def layers(draw, kinds=("conv", "pool", "transposed", "adaptive", "branches")):
    k, s, d = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    match draw(st.sampled_from(kinds)):
        case "conv":
            mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
            return conv(k, s, (draw(st.integers(0, 4)), draw(st.integers(0, 4))), d, mode)
        case "pool":
            return pool(k, s, draw(st.integers(0, ((k - 1) * d + 1) // 2)), d, draw(st.booleans()))
        case "transposed":
            return transposed(k, s, draw(st.integers(0, (k - 1) * d)), d, draw(st.integers(0, max(s, d) - 1)))
        case "adaptive":
            return Adaptive(draw(st.integers(1, 9)))
    half = [draw(st.integers(0, 3)) for _ in range(draw(st.integers(1, 3)))]
    strides = draw(st.sampled_from([1, 1, 2]))
    return Branches(*([conv(2 * h + 1, strides, (h, h))] if h else [conv(1, strides)] for h in half))


@settings(deadline=None, max_examples=200)
@given(st.lists(layers(), min_size=1, max_size=5), st.integers(1, 24))
def test_region_is_the_hull_of_what_has_an_influence(chain, size):
    truth = influence(chain, size)
    assume(truth is not None and truth.size)
    last = receptive_field(chain, size)[-1]
    assert last.output_size == (len(truth),)
    for o, row in enumerate(truth):
        (region,) = last.region(o)
        seen = np.flatnonzero(row)
        assert (region.start, region.stop) == ((seen[0], seen[-1] + 1) if seen.size else (0, 0)), o


@settings(deadline=None, max_examples=100)
@given(
    st.lists(layers(("conv", "pool", "transposed", "adaptive", "branches")), min_size=1, max_size=4), st.integers(1, 24)
)
def test_bounds_contain_what_has_an_influence(chain, size):
    chain = [conv(part.kernel_size[0], part.stride[0], part.padding[0], part.dilation[0])
             if isinstance(part, ConvSpec) and part.op == "forward" else part for part in chain]  # fmt: skip
    truth = influence(chain, size)
    assume(truth is not None and truth.size)
    last = receptive_field(chain, size)[-1]
    for o, row in enumerate(truth):
        start = last.offset[0] + o * last.stride[0]
        assert all(start <= i <= start + last.size[0] - 1 for i in np.flatnonzero(row))


@settings(deadline=None, max_examples=60)
@given(st.lists(layers(("conv", "pool")), min_size=1, max_size=4))
def test_bounds_are_reached_in_the_middle_of_a_large_image(chain):
    chain = [conv(part.kernel_size[0], part.stride[0], (0, 0), part.dilation[0]) if isinstance(part, ConvSpec) else part
             for part in chain]  # fmt: skip
    last = receptive_field(chain)[-1]
    o = 2 - last.offset[0] // last.stride[0]
    start = last.offset[0] + o * last.stride[0]
    size = start + 3 * last.size[0] + 3 * last.stride[0] + 50
    seen = np.flatnonzero(influence(chain, size)[o])
    assert (seen[0], seen[-1]) == (start, start + last.size[0] - 1)
    assert last.region(o) == (slice(seen[0], seen[-1] + 1),)


# Gradients: one output element's influence on the image, by fastconv.grad

CHAINS = [  # kernel, stride, padding, dilation; or 'pool', kernel, stride, padding
    [((3, 3), 1, 0, 1), ((3, 3), 1, 0, 1)],
    [((7, 7), 2, 3, 1), ("pool", 3, 2, 1), ((3, 3), 1, 1, 1)],
    [((3, 1), 1, (1, 0), 1), ((1, 5), (1, 2), (0, 2), 1), ((2, 2), 1, 0, (1, 2))],
    [((3, 3), 1, 1, 1), ((3, 3), 1, 2, 2), ((3, 3), 1, 4, 4)],
    [((2, 3), (3, 2), 1, 1), ("pool", 2, 2, 0), ((3, 3), 1, 1, 1)],
]


def every(value):
    return (value, value) if isinstance(value, int) else value


def spec_of(layer):
    if layer[0] == "pool":
        return PoolSpec(1, 1, (64, 64), *map(every, layer[1:]), (1, 1))
    k, s, p, d = map(every, layer)
    return ConvSpec(1, 1, 1, (64, 64), k, s, tuple((v, v) for v in p), d)


def forward(layer, x):
    if layer[0] == "pool":
        return fastconv.avg_pool2d(x, *layer[1:])
    k, s, p, d = layer
    return fastconv.conv2d(x, np.ones(k), None, s, p, d, backend="naive")


def backward(layer, x_shape, gradient):
    if layer[0] == "pool":
        return grad.avg_pool2d_input(x_shape, gradient, *layer[1:])
    k, s, p, d = layer
    return grad.conv2d_input(x_shape, np.ones(k), gradient, s, p, d, backend="naive")


def hull(image):
    rows, cols = np.nonzero(image)
    return slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1)


@pytest.mark.parametrize("chain", CHAINS)
def test_region_is_where_the_gradient_is_not_zero(chain):
    arrays = [np.zeros((21, 22))]
    for layer in chain:
        arrays.append(forward(layer, arrays[-1]))
    last = receptive_field([spec_of(layer) for layer in chain], (21, 22))[-1]
    assert last.output_size == arrays[-1].shape
    for place in np.ndindex(*arrays[-1].shape):
        gradient = np.zeros(arrays[-1].shape)
        gradient[place] = 1
        for layer, x in zip(reversed(chain), reversed(arrays[:-1]), strict=True):
            gradient = backward(layer, x.shape, gradient)
        assert last.region(place) == hull(gradient)


def test_region_of_branches_is_where_the_sum_of_gradients_is_not_zero():
    paths = [[((3, 3), 2, 1, 1)], [((1, 1), 2, 0, 1), ((1, 3), 1, (0, 1), 1)]]
    size = (9, 11)
    last = receptive_field([Branches(*([spec_of(layer) for layer in path] for path in paths))], size)[-1]
    for place in np.ndindex(*last.output_size):
        total = np.zeros(size)
        for path in paths:
            arrays = [np.zeros(size)]
            for layer in path:
                arrays.append(forward(layer, arrays[-1]))
            gradient = np.zeros(arrays[-1].shape)
            gradient[place] = 1
            for layer, x in zip(reversed(path), reversed(arrays[:-1]), strict=True):
                gradient = backward(layer, x.shape, gradient)
            total += gradient
        assert last.region(place) == hull(total)


def test_region_of_a_transposed_convolution_is_where_its_gradient_is_not_zero():
    spec = parse_layer("ih14iw14k4s3p1")
    layer = ConvSpec(1, 1, 1, (14, 14), (4, 4), (3, 3), ((1, 1), (1, 1)), (1, 1), op="grad_input")
    out = fastconv.conv_transpose2d(np.zeros((5, 5)), np.ones((4, 4)), stride=3, padding=1)
    assert out.shape == spec.input_size
    field = receptive_field([layer], (5, 5))[0]
    assert field.stride == (Fraction(1, 3),) * 2
    for place in np.ndindex(*out.shape):
        gradient = np.zeros(out.shape)
        gradient[place] = 1
        assert field.region(place) == hull(fastconv.conv2d(gradient, np.ones((4, 4)), stride=3, padding=1))


# The numbers of textbooks


def test_two_3x3_layers_see_5x5():
    field = receptive_field(["kh3kw3", "kh3kw3"])[-1]
    assert (field.size, field.stride, field.offset) == ((5, 5), (1, 1), (0, 0))


def test_resnet_stem():
    fields = receptive_field(["k7s2p3", "k3s2p1", "k3p1"], (224, 224))
    assert [f.size[0] for f in fields] == [7, 11, 19]
    assert [f.stride[0] for f in fields] == [2, 4, 4]
    assert [f.offset[0] for f in fields] == [-3, -5, -9]
    assert [f.output_size for f in fields] == [(112, 112), (56, 56), (56, 56)]


def test_vgg16_before_its_classifier_sees_212():
    blocks = [["k3p1"] * n + ["k2s2"] for n in (2, 2, 3, 3, 3)]
    last = receptive_field(blocks)[-1]
    assert (last.size, last.stride) == ((212,), (32,))


def test_alexnet_before_its_classifier_sees_195():
    last = receptive_field(["k11s4p2", "k3s2", "k5p2", "k3s2", "k3p1", "k3p1", "k3p1", "k3s2"])[-1]
    assert (last.size, last.stride) == ((195,), (32,))


def test_dilation_spreads_the_field():
    assert receptive_field(["k3", "k3d2", "k3d4"])[-1].size == (15,)


def test_branches_take_the_maximum():
    field = receptive_field([Branches("k1", "k3p1", ["k3p1", "k3p1"], ())])[0]
    assert (field.size, field.offset) == ((5,), (-2,))


def test_branches_that_lie_apart_take_the_box_around_both():
    field = receptive_field([Branches("pl3k1pr0", "pr2k1")])[0]
    assert (field.size, field.offset) == ((4,), (-3,))


def test_nested_sequences_are_laid_out_flat():
    flat = receptive_field(["k3", "k2s2", "k3", "k1"])
    assert list(receptive_field(["k3", ["k2s2", ["k3"]], "k1"])) == list(flat)
    assert len(flat) == 4 and list(flat[1:]) == list(flat)[1:]


def test_one_layer_needs_no_list():
    assert receptive_field("k5s2")[0].size == (5,)


def test_same_number_of_axes_as_the_others():
    assert receptive_field(["k3", "kd3kh1kw5"])[-1].size == (5, 3, 7)


def test_adaptive_pool_is_exact_where_the_size_divides():
    field = receptive_field(["k3p1", Adaptive(4)], 32)[-1]
    assert (field.size, field.stride, field.offset, field.output_size) == ((10,), (8,), (-1,), (4,))


def test_adaptive_pool_to_one_sees_everything():
    field = receptive_field(["k3p1s2", Adaptive((1, 1))], (15, 16))[-1]
    assert field.region((0, 0)) == (slice(0, 15), slice(0, 16))


def test_transposed_convolution_has_fractions():
    field = receptive_field([transposed(2, 2), conv(3)])[-1]
    assert (field.size, field.stride, field.offset) == ((Fraction(5, 2),), (Fraction(1, 2),), (Fraction(-1, 2),))


def test_stride_and_its_transposed_come_back_to_whole_numbers():
    field = receptive_field([conv(2, 2), transposed(2, 2)])[-1]
    assert field.stride == (1,) and type(field.stride[0]) is int


def test_region_without_a_size_starts_at_0():
    field = receptive_field(["k5p2"])[0]
    assert field.region(0) == (slice(0, 3),)
    assert field.region(9) == (slice(7, 12),)


def test_region_in_the_padding_only_is_empty():
    assert receptive_field([conv(1, 1, (3, 0))], 5)[0].region(0) == (slice(0, 0),)
    assert receptive_field([conv(1, 1, (3, 0))])[0].region(0) == (slice(0, 0),)


def test_region_takes_a_size_of_its_own():
    field = receptive_field(["k3p1", "k3p1"], (50, 50))[-1]
    assert field.region((6, 0), (7, 8)) == (slice(4, 7), slice(0, 3))


def test_region_leaves_out_what_a_stride_in_between_never_reads():
    # outputs of the first layer: 0 and 1, of elements 0 to 4; element 5 is read by none
    field = receptive_field(["k3s2", "k3p1"], 6)[-1]
    assert field.region(1) == (slice(0, 5),)


def test_prints_as_a_table():
    text = str(receptive_field(["k7s2p3", Branches("k3p1", ())], (14, 20)))
    assert text.splitlines() == [
        "layer                       size  stride  offset  output",
        "k7s2p3                       7x7     2x2  -3, -3    7x10",
        "Branches(k3p1 | identity)  11x11     2x2  -5, -5    7x10",
    ]


def test_table_is_aligned():
    lines = str(receptive_field(["k7s2p3", "k3s1", "k11"], (64, 64))).splitlines()
    assert len({len(line) for line in lines}) == 1


BAD = [
    (["q3"], None, ValueError, "unknown name 'q'"),
    ([], None, ValueError, "holds no layer"),
    ([3], None, TypeError, "expected texts such as 'k3s2p1'"),
    (["k3", None], None, TypeError, "layers holds None of type NoneType"),
    (["kh3", "kd3"], None, ValueError, "layer kd3: it has 3 spatial axes; the image and the layers before have 2"),
    (["k5"], 3, ValueError, "layer k5: the kernel spans 5 elements along w but the padded input has 3"),
    (["k3"], 0, ValueError, "input_size=0: every axis needs at least one element"),
    (["k3"], 2.5, TypeError, "input_size=2.5 must be an int"),
    ([Adaptive(1)], None, ValueError, "depend on the size of the image; pass input_size"),
    ([Adaptive(0)], 4, ValueError, "output_size=0 must be at least 1"),
    ([Branches("k3s2p1", "k1")], None, ValueError, "the paths of Branches(k3s2p1 | k1) have the strides 2 and 1"),
    ([Branches("k3", "k1")], 9, ValueError, "have the output sizes 7 and 9; they must agree"),
    ([parse_layer("ih9k3", op="grad_weight")], None, ValueError, "no layer; pass the spec of the layer itself"),
]


@pytest.mark.parametrize(("chain", "size", "kind", "message"), BAD)
def test_bad_layers_are_named(chain, size, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        receptive_field(chain, size)


def test_branches_without_a_path():
    with pytest.raises(ValueError, match="has no path"):
        Branches()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (-1, "index=-1 is negative"),
        (8, "index=8 is outside the output, whose size is (8,)"),
        ((1, 2), "index=(1, 2) has 2 entries"),
    ],
)
def test_bad_index_is_named(index, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        receptive_field(["k3p1"], 8)[0].region(index)


@pytest.mark.parametrize("size", [(), (1, 2, 3, 4)])
def test_an_image_has_one_to_three_axes(size):
    with pytest.raises(ValueError, match="axes; images have 1, 2 or 3"):
        receptive_field("k3", size)
