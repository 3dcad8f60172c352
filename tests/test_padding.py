"""Padding in every form, and every padding mode against `numpy.pad`; PyTorch as a second opinion."""

import math

import numpy as np
import pytest
from oracle import convolve as reference

import fastconv
from fastconv.spec import parse_layer

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "zeros": "constant"}


def arrays(rng, size, kernel):
    return rng.standard_normal((1, 2, *size)).astype("float32"), rng.standard_normal((3, 2, *kernel)).astype("float32")


def pads(padding, size, kernel, **options):
    """The (before, after) pairs that a padding means for a layer."""
    shape = (1, 1, *size)
    return fastconv.explain(shape, np.zeros((1, 1, *kernel), "float32"), padding=padding, **options).spec.padding


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_one_int_pads_every_side(ndim):
    assert pads(2, (9,) * ndim, (3,) * ndim) == ((2, 2),) * ndim


@pytest.mark.parametrize("kind", [tuple, list])
def test_one_int_per_axis(kind):
    assert pads(kind((0, 1, 2)), (5, 5, 5), (3, 3, 3)) == ((0, 0), (1, 1), (2, 2))


@pytest.mark.parametrize("kind", [tuple, list])
def test_one_pair_per_axis(kind):
    assert pads(kind((kind((0, 1)), kind((2, 3)))), (5, 5), (3, 3)) == ((0, 1), (2, 3))


def test_numpy_integers_are_ints():
    assert pads(np.int64(1), (5, 5), (3, 3), stride=np.uint8(2)) == ((1, 1), (1, 1))


def test_valid_pads_nothing():
    assert pads("valid", (5, 6), (3, 2)) == ((0, 0), (0, 0))


def test_full_pads_the_whole_reach():
    assert pads("full", (5, 6), (3, 2), dilation=(2, 3)) == ((4, 4), (3, 3))


def test_causal_pads_in_front_only():
    assert pads("causal", (9,), (3,), dilation=2) == ((4, 0),)


def test_same_puts_the_odd_extra_at_the_end():
    assert pads("same", (6, 6), (2, 4)) == ((0, 1), (1, 2))


def test_same_lower_puts_the_odd_extra_at_the_start():
    assert pads("same_lower", (6, 6), (2, 4)) == ((1, 0), (2, 1))


def test_same_pads_nothing_where_the_kernel_is_below_the_stride():
    assert pads("same", (8,), (1,), stride=2) == ((0, 0),)


@pytest.mark.parametrize("name", ["same", "same_lower"])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 5, 6, 7])
def test_same_gives_input_over_stride_rounded_up(name, size, kernel, stride, dilation):
    w = np.ones((1, 1, kernel), "float32")
    spec = fastconv.explain((1, 1, size), w, stride=stride, dilation=dilation, padding=name).spec
    assert spec.output_size == (math.ceil(size / stride),)
    assert abs(spec.padding[0][0] - spec.padding[0][1]) <= 1


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [8, 9, 10])
def test_plan_for_another_shape_pads_same_anew(size, stride, rng):
    x, w = arrays(rng, (size, size + 1), (3, 2))
    plan = fastconv.plan(w, (1, 2, 8, 8), stride=stride, padding="same", backend="naive")
    expected = fastconv.conv2d(x, w, stride=stride, padding="same", backend="naive")
    assert np.array_equal(plan.for_shape(x.shape)(x), expected)


@pytest.mark.parametrize("padding", [0, 1, (1, 2), ((0, 1), (2, 0)), "same", "same_lower", "valid", "full"])
def test_every_form_in_two_axes(convolve, padding, rng):
    x, w = arrays(rng, (7, 8), (3, 2))
    pairs = {
        0: [(0, 0), (0, 0)], 1: [(1, 1), (1, 1)], (1, 2): [(1, 1), (2, 2)], "same": [(1, 1), (0, 1)],
        "same_lower": [(1, 1), (1, 0)], "valid": [(0, 0), (0, 0)], "full": [(2, 2), (1, 1)],
    }.get(padding, padding)  # fmt: skip
    np.testing.assert_allclose(convolve(2, x, w, padding=padding), reference(x, w, padding=pairs), **TOLERANCE)


def test_causal_output_sees_no_future(convolve, rng):
    x, w = arrays(rng, (20,), (4,))
    before = convolve(1, x, w, padding="causal", dilation=2)
    x[..., 10:] += 1
    after = convolve(1, x, w, padding="causal", dilation=2)
    assert before.shape[-1] == 20
    np.testing.assert_allclose(before[..., :10], after[..., :10], atol=1e-5)
    assert (np.abs(before[..., 10] - after[..., 10]) > 1e-3).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_padding_mode_is_numpy_pad(convolve, mode, stride, ndim, rng):
    pairs = ((2, 1), (0, 3), (1, 1))[:ndim]
    x, w = arrays(rng, (6, 7, 5)[:ndim], (3,) * ndim)
    big = np.pad(x, [(0, 0), (0, 0), *pairs], mode=MODES[mode])
    result = convolve(ndim, x, w, stride=stride, padding=pairs, padding_mode=mode)
    np.testing.assert_allclose(result, reference(big, w, stride=stride), **TOLERANCE)


@pytest.mark.parametrize(("mode", "padding"), [("reflect", 4), ("circular", 5), ("replicate", 11)])
def test_largest_padding_that_a_mode_allows(convolve, mode, padding, rng):
    x, w = arrays(rng, (5, 6), (3, 3))
    big = np.pad(x, [(0, 0), (0, 0), (padding, padding), (0, 0)], mode=MODES[mode])
    result = convolve(2, x, w, padding=((padding, padding), (0, 0)), padding_mode=mode)
    np.testing.assert_allclose(result, reference(big, w), **TOLERANCE)


@pytest.mark.parametrize(("mode", "padding"), [("reflect", 5), ("circular", 6)])
def test_one_more_is_refused(mode, padding):
    with pytest.raises(ValueError, match=f"{mode}.*at most {padding - 1}"):
        fastconv.conv2d(np.ones((5, 6)), np.ones((3, 3)), padding=((padding, 0), (0, 0)), padding_mode=mode)


def test_flip_kernel_is_the_convolution_of_signal_processing(convolve, rng):
    x, w = rng.standard_normal(12).astype("float32"), rng.standard_normal(5).astype("float32")
    result = convolve(1, x, w, padding="full", flip_kernel=True)
    np.testing.assert_allclose(result, np.convolve(x, w, "full"), **TOLERANCE)


def test_flip_kernel_turns_every_axis(convolve, rng):
    x, w = arrays(rng, (6, 6), (3, 3))
    np.testing.assert_allclose(convolve(2, x, w, flip_kernel=True), reference(x, w[:, :, ::-1, ::-1]), **TOLERANCE)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_pytorch_agrees_on_stride_padding_dilation_groups(convolve, ndim, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 4, *(9, 8, 7)[:ndim])).astype("float32")
    w, bias = rng.standard_normal((6, 2, *(3, 2, 3)[:ndim])).astype("float32"), np.arange(6, dtype="float32")
    options = {"stride": (2, 1, 3)[:ndim], "padding": (1, 2, 0)[:ndim], "dilation": (1, 2, 2)[:ndim], "groups": 2}
    theirs = getattr(torch.nn.functional, f"conv{ndim}d")(*map(torch.from_numpy, (x, w, bias)), **options)
    np.testing.assert_allclose(convolve(ndim, x, w, bias, **options), theirs.numpy(), **TOLERANCE)


@pytest.mark.parametrize(("kernel", "dilation"), [((4, 4), 1), ((2, 3), 1), ((2, 4), 3)])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_pytorch_agrees_on_same_with_even_kernels(convolve, kernel, dilation, rng):
    torch = pytest.importorskip("torch")
    x, w = arrays(rng, (9, 10), kernel)
    theirs = torch.nn.functional.conv2d(*map(torch.from_numpy, (x, w)), padding="same", dilation=dilation)
    np.testing.assert_allclose(convolve(2, x, w, padding="same", dilation=dilation), theirs.numpy(), **TOLERANCE)


@pytest.mark.parametrize("mode", MODES)
def test_pytorch_agrees_on_padding_modes(convolve, mode, rng):
    torch = pytest.importorskip("torch")
    x, w = arrays(rng, (7, 8), (3, 3))
    layer = torch.nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode=mode, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        theirs = layer(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(convolve(2, x, w, padding=(2, 1), padding_mode=mode), theirs, **TOLERANCE)


def test_layer_text_and_call_agree_on_padding():
    assert pads(((1, 2), (3, 4)), (9, 9), (3, 3)) == parse_layer("ih9k3pt1pb2pl3pr4").padding
