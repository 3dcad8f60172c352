"""Channels that follow each other are read where they lie, and written there: the bits of the other layout."""

import numpy as np
import pytest
from lane_layers import LAYERS
from oracle import assert_close, reference

import fastconv
from fastconv.spec import parse_layer

pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")

LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
MORE = [
    "n2ic3ih23oc33k3p1",  # rows of taps are one step
    "n2ic3ih40oc40k7s2p3",
    "ic64ih13oc48k3p1",
    "ic65ih13oc48k3p1",  # two blocks of input channels
    "ic300ih9oc33k1",
    "ic40ih11oc24k1s2",
    "g2ic66ih9oc64k3p1",
    "ic20ih1iw37oc32kw5pl4pr0kh1",
    "ic33ih25oc17k3s2p1d2",
    "ic17ih3oc32k5p4",
    "g8ic32ih13iw29oc32k3p1",  # groups of half a vector of channels and more
    "g3ic18ih12iw21oc12k3s2p1",
    "g2ic26ih11oc10k3p1",
    "n2g5ic20ih9iw17oc40k1",
]


def last(array):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", MORE + LAYERS)
def test_plans_for_both_layouts_give_the_same_bits(isa, rng, text, dtype):
    spec = parse_layer(text)
    x, w = rng.standard_normal(spec.x_shape).astype(dtype), rng.standard_normal(spec.w_shape).astype(dtype)
    bias = rng.standard_normal(spec.oc).astype(dtype)
    options = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g}
    options |= {"activation": "relu", "backend": "cython"}
    expected = fastconv.plan(w, x.shape, bias, **options)(x)
    assert_close(expected, reference(x, w, bias, **{k: options[k] for k in options if k != "backend"}), 1e-3)
    plan = fastconv.plan(w, last(x).shape, bias, layout=LAST[spec.ndim], **options)
    for threads in (1, 3):
        np.testing.assert_array_equal(plan(last(x), threads=threads), last(expected))
    single = plan.for_shape((1, *last(x).shape[1:]))
    np.testing.assert_array_equal(single(last(x)[-1:]), last(expected)[-1:])


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
def test_results_go_into_some_channels_of_a_larger_array(isa, rng, activation, with_bias, with_residual):
    for oc in (32, 40, 7):
        x, w = rng.standard_normal((2, 9, 12, 70)), rng.standard_normal((oc, 70, 3, 3))
        bias = rng.standard_normal(oc) if with_bias else None
        residual = rng.standard_normal((2, 9, 12, oc)) if with_residual else None
        options = {"padding": 1, "activation": activation}
        moved = None if residual is None else np.moveaxis(residual, -1, 1)
        expected = reference(np.moveaxis(x, -1, 1), w, bias, residual=moved, **options)
        room = np.full((2, 9, 12, oc + 5), 7.0)
        plan = fastconv.plan(w, x.shape, bias, layout="NHWC", backend="cython", **options)
        plan(x, out=room[..., 3 : oc + 3], residual=residual)
        assert_close(np.moveaxis(room[..., 3 : oc + 3], -1, 1), expected, 1e-10)
        assert (room[..., :3] == 7).all() and (room[..., oc + 3 :] == 7).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_padding_meets_weights_that_are_not_finite(isa, rng, value):
    x, w = rng.standard_normal((1, 7, 8, 20)), rng.standard_normal((32, 20, 3, 3))
    w[5, 3, 0, 0] = value
    with np.errstate(invalid="ignore"):
        expected = np.moveaxis(reference(np.moveaxis(x, -1, 1), w, padding=1), 1, -1)
    results = [
        fastconv.plan(w, x.shape, padding=1, layout="NHWC", backend="cython")(x),
        fastconv.conv2d(x, w, padding=1, layout="NHWC", backend="cython"),
    ]
    for result in results:
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
        assert_close(result[np.isfinite(expected)], expected[np.isfinite(expected)], 1e-10)


def test_arrays_of_the_other_layout_whose_memory_has_channels_last(isa, rng):
    x, w = rng.standard_normal((2, 11, 13, 24)), rng.standard_normal((32, 24, 3, 3))
    view, out = np.moveaxis(x, -1, 1), np.moveaxis(np.empty((2, 11, 13, 32)), -1, 1)
    plan = fastconv.plan(w, view.shape, padding=1, backend="cython")
    np.testing.assert_array_equal(plan(view, out=out), plan(np.ascontiguousarray(view)))
