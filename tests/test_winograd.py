"""Winograd's family: exact matrices, every tile on every kind of layer, non-finite numbers, the same bits."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

import fastconv
from fastconv import tuning
from fastconv.adapters import winograd
from fastconv.kernels import _compiled
from fastconv.kernels.winograd_matrices import POINTS, matrices
from fastconv.spec import parse_layer

KERNELS = {3: [(3, 3), (1, 3), (3, 1), (3,)], 5: [(1, 5), (5, 1), (5,)]}
TILES = [(name, kernel) for name, (_, r) in winograd.TILES.items() for kernel in KERNELS[r]]
OPTIONS = [
    {"padding": 2, "activation": "relu"},
    {"padding": 3, "dilation": 2, "padding_mode": "reflect"},
    {"padding": 1, "dilation": 3, "groups": 2},
]


@pytest.fixture(params=TILES, ids=str)
def tile(request, monkeypatch):
    """The kernel of a layer, computed by the one tile that the backend is left with."""
    name, kernel = request.param
    monkeypatch.setattr(winograd, "TILES", {name: winograd.TILES[name]})
    return kernel


def layer(rng, kernel, groups=1, dtype="float32"):
    size = (13, 17)[-len(kernel) :]
    x = rng.standard_normal((3, 18, *size)).astype(dtype)
    return x, rng.standard_normal((20, 18 // groups, *kernel)).astype(dtype)


def conv(x, w, backend="winograd", **options):
    function = fastconv.conv1d if x.ndim == 3 else fastconv.conv2d
    return function(x, w, backend=backend, accuracy="fast", **options)


@pytest.mark.parametrize("m, r", POINTS)
def test_transforms_are_exact(m, r):
    at, g, bt = matrices(m, r)
    assert len(at) == m and len(g) == len(bt) == len(bt[0]) == m + r - 1
    for i, (k, d) in itertools.product(range(m), itertools.product(range(r), range(m + r - 1))):
        share = sum(at[i][e] * g[e][k] * bt[e][d] for e in range(m + r - 1))
        assert share == Fraction(d == i + k), "y[i] = sum of w[k] d[i + k]"


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_tile_agrees_with_the_definition(tile, dtype, options, rng):
    x, w = layer(rng, tile, options.get("groups", 1), dtype)
    bias = rng.standard_normal(20).astype(dtype)
    expected = conv(x.astype(float), w.astype(float), "im2col", bias=bias.astype(float), **options)
    residual = rng.standard_normal(expected.shape).astype(dtype)
    if "activation" not in options:
        expected = expected + residual
    result = conv(x, w, bias=bias, residual=None if "activation" in options else residual, **options)
    assert _compiled.last_kernel().startswith("winograd_f")
    np.testing.assert_allclose(result, expected, atol=np.abs(expected).max() * (2e-5 if dtype == "float32" else 5e-14))


def test_channels_last(tile, rng):
    x, w = layer(rng, tile)
    last = "NWC" if x.ndim == 3 else "NHWC"
    result = conv(np.ascontiguousarray(np.moveaxis(x, 1, -1)), w, padding=1, dilation=2, layout=last)
    np.testing.assert_array_equal(np.moveaxis(result, -1, 1), conv(x, w, padding=1, dilation=2))


def test_threads_and_batch_change_no_bit(tile, rng):
    x, w = layer(rng, tile)
    for dilation in (1, 2):
        plan = fastconv.plan(w, x.shape, padding=2, dilation=dilation, backend="winograd", accuracy="fast")
        result = plan(x, threads=1)
        np.testing.assert_array_equal(plan(x, threads=2), result)
        one = plan.for_shape((1, *x.shape[1:]))
        np.testing.assert_array_equal(np.concatenate([one(image[None]) for image in x]), result)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_what_is_not_finite_is_where_direct_convolution_has_it(tile, value, rng):
    x, w = layer(rng, tile)
    x[1, 3, ..., 7] = value
    for dilation in (1, 2):
        expected = conv(x, w, "cython", padding=2, dilation=dilation)
        result = conv(x, w, padding=2, dilation=dilation)
        np.testing.assert_array_equal(np.isfinite(result), np.isfinite(expected))
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))


def test_small_images_of_a_batch_share_a_task(rng):
    w = rng.standard_normal((64, 64, 3, 3)).astype("float32")
    plan = fastconv.plan(w, (16, 64, 7, 7), padding=1, backend="winograd")
    task = winograd._choose_tile(
        winograd.lower_winograd(plan.spec, winograd.outputs(plan.spec, plan.algorithm), (0, 0)), 56, 2, 32
    )
    assert task.images > 1 and task.images * task.rows * task.cols <= 56


def test_high_admits_what_loses_little():
    def chosen(text, accuracy):
        return winograd.algorithm(parse_layer(text, accuracy=accuracy))

    assert chosen("ic64ih8oc64k3p1", "high") == "F(4,3)"
    assert chosen("ic64ih12oc64k3p1", "fast") == "F(6,3)"
    assert chosen("ic1ih64oc64k3p1", "high") == "F(2,3)"
    assert chosen("ic2iw600oc64k3", "high") == "F(2,3)" and chosen("ic64iw600oc64k3", "high") == "F(6,3)"
    assert set(tuning.LOSS_WINOGRAD) >= set(tuning.WINOGRAD_HIGH)
