"""Strips of packed input, channels in the lanes: broken vectors of channels and of pixels, strides, padding."""

import numpy as np
import pytest
from oracle import reference, with_gaps

import fastconv
from fastconv.spec import parse_layer

pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")

LAYERS = [
    "ic16ih25oc24k3p1",
    "ic13ih24iw31oc17k3p1",  # the last channels are no whole vector
    "ic70ih23oc33k3p1",  # nor the last block of channels a whole one
    "ic9ih40iw3oc16k3p1",  # rows shorter than a vector
    "ic20ih26oc40k3s2p1",  # both phases of the columns side by side
    "ic20ih26oc40k2s2",
    "ic24ih31oc32s2",  # one phase: every second pixel
    "ic10ih29oc16k3s3p2",  # every third
    "ic8ih30iw50oc24kh3kw5sh2sw1pt2pl1pr4d2",
    "ic130ih23oc16k3p9d9",  # a wide halo
    "ic34ih24oc60k3p1g2",
    "n2ic7iw90oc30k5p2",
    "ic6id4ih24oc16k3p1",
]


def views(x):
    """The same values with other strides."""
    yield with_gaps(x)
    yield x[..., ::-1].copy()[..., ::-1]
    yield x[..., ::-1, :].copy()[..., ::-1, :]
    yield np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
@pytest.mark.parametrize("text", LAYERS)
def test_strips_hold_what_the_taps_read(isa, rng, fenced, text, mode):
    spec = parse_layer(text)
    options = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g}
    options |= {"padding_mode": mode, "activation": "relu"}
    w = rng.integers(-3, 4, spec.w_shape).astype("float32")
    x = rng.integers(-4, 5, spec.x_shape).astype("float32")
    expected = reference(x.astype(float), w.astype(float), **options)
    plan = fastconv.plan(w, x.shape, backend="cython", **options)
    for same in (*fenced(x), *views(x)):
        for threads in (1, 3):
            np.testing.assert_array_equal(plan(same, threads=threads), expected)

    layout = "N" + "DHW"[-spec.ndim :] + "C"
    last = fastconv.plan(w, np.moveaxis(x, 1, -1).shape, backend="cython", layout=layout, **options)
    for same in (*fenced(np.ascontiguousarray(np.moveaxis(x, 1, -1))), np.moveaxis(x, 1, -1)):
        np.testing.assert_array_equal(last(same), np.moveaxis(expected, 1, -1))


@pytest.mark.parametrize("text", ["ic16ih24oc24k3p1", "ic20ih26oc40k3s2p1", "ic40ih24oc24k3p1d2"])
def test_float64_and_numbers_that_are_none(isa, rng, text):
    spec = parse_layer(text)
    options = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation}
    w, x = rng.integers(-3, 4, spec.w_shape).astype(float), rng.integers(-4, 5, spec.x_shape).astype(float)
    x[:, 3, 0, 0], x[:, 5, 11, 7], x[:, -1, -1, -1] = np.nan, np.inf, -np.inf
    expected = reference(x, w, **options)
    np.testing.assert_array_equal(fastconv.conv2d(x, w, backend="cython", **options), expected)
