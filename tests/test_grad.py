"""Gradients of convolutions: every backend x every layer of the table, against the transposed Jacobian.

The Jacobian is dense: the forward oracle applied to each unit vector. Small whole numbers, so that sums of direct
backends are exact; the others stay within the bound that is reported for them.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from oracle import assert_close, convolve, wrap

import fastconv
from fastconv import grad, registry
from fastconv.errors import UnsupportedConv
from fastconv.spec import ACCUMULATOR

TO_INPUT = {1: grad.conv1d_input, 2: grad.conv2d_input, 3: grad.conv3d_input}
TO_WEIGHT = {1: grad.conv1d_weight, 2: grad.conv2d_weight, 3: grad.conv3d_weight}
TO_BIAS = {1: grad.conv1d_bias, 2: grad.conv2d_bias, 3: grad.conv3d_bias}
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
LAYERS = {  # name -> shape of x, shape of w, options
    "1d": ((2, 3, 9), (4, 3, 3), {}),
    "1d-stride-with-remainder": ((1, 2, 10), (3, 2, 3), {"stride": 4, "padding": 1}),
    "1d-dilation": ((1, 2, 12), (3, 2, 3), {"dilation": 4, "padding": ((3, 1),)}),
    "1d-reflect": ((2, 2, 6), (3, 2, 4), {"padding": ((5, 4),), "padding_mode": "reflect"}),
    "1d-replicate": ((1, 2, 3), (3, 2, 5), {"padding": ((7, 9),), "padding_mode": "replicate", "stride": 2}),
    "1d-circular": ((1, 2, 5), (3, 2, 4), {"padding": ((5, 3),), "padding_mode": "circular", "dilation": 2}),
    "1d-one-pixel-replicated": ((1, 1, 1), (1, 1, 3), {"padding": 3, "padding_mode": "replicate"}),
    "2d": ((2, 3, 5, 6), (4, 3, 3, 3), {}),
    "2d-padding": ((1, 3, 5, 6), (4, 3, 3, 3), {"padding": 1}),
    "2d-pairs": ((1, 2, 5, 6), (3, 2, 3, 3), {"padding": ((0, 2), (3, 1))}),
    "2d-padding-beyond-kernel": ((1, 2, 3, 4), (3, 2, 2, 2), {"padding": 3}),
    "2d-stride-with-remainder": ((1, 2, 8, 9), (3, 2, 3, 3), {"stride": (3, 2), "padding": (0, 1)}),
    "2d-stride-beyond-kernel": ((1, 2, 8, 9), (3, 2, 2, 1), {"stride": (3, 4)}),
    "2d-stride-2-kernel-6": ((1, 2, 9, 8), (3, 2, 6, 6), {"stride": 2, "padding": 2}),
    "2d-stride-and-dilation": ((1, 2, 9, 11), (3, 2, 2, 3), {"stride": (2, 4), "dilation": (3, 2), "padding": 1}),
    "2d-groups": ((1, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "2d-depthwise": ((1, 4, 6, 5), (8, 1, 3, 2), {"groups": 4, "stride": 2}),
    "2d-same": ((1, 2, 5, 6), (3, 2, 4, 3), {"stride": 2, "padding": "same"}),
    "2d-same-lower": ((1, 2, 5, 6), (3, 2, 4, 2), {"padding": "same_lower"}),
    "2d-full": ((1, 2, 4, 4), (3, 2, 3, 2), {"padding": "full"}),
    "2d-reflect": ((1, 2, 5, 6), (3, 2, 3, 3), {"padding": ((4, 1), (2, 5)), "padding_mode": "reflect"}),
    "2d-replicate": ((1, 2, 5, 4), (3, 2, 3, 3), {"padding": 2, "padding_mode": "replicate"}),
    "2d-circular": ((1, 2, 5, 4), (3, 2, 3, 3), {"padding": ((5, 0), (1, 4)), "padding_mode": "circular"}),
    "2d-reflect-stride": ((1, 2, 7, 6), (2, 1, 4, 3), {"padding": 2, "padding_mode": "reflect", "stride": 2,
                                                         "groups": 2}),
    "2d-1x1": ((2, 3, 4, 4), (4, 3, 1, 1), {}),
    "2d-exact": ((1, 2, 5, 5), (3, 2, 3, 3), {"accuracy": "exact"}),
    "3d": ((1, 2, 3, 4, 4), (3, 2, 2, 3, 2), {"stride": (1, 2, 1), "padding": (0, 1, 1)}),
    "3d-replicate": ((1, 1, 2, 3, 4), (2, 1, 2, 2, 3), {"padding": 1, "padding_mode": "replicate"}),
    "3d-circular": ((1, 2, 3, 3, 2), (2, 1, 2, 3, 2), {"padding": (1, 2, 1), "padding_mode": "circular", "groups": 2}),
}  # fmt: skip
DIRECT = {b.name for b in registry.BACKENDS if "exact" in b.capabilities.accurate}


def spec_of(layer, op):
    x_shape, w_shape, options = LAYERS[layer]
    return replace(fastconv.explain(x_shape, np.empty(w_shape, "float32"), **options).spec, op=op)


def capable(backend, op):
    return [name for name in LAYERS if registry.why_not(backend.capabilities, spec_of(name, op)) is None]


CAPABLE = {op: {b.name: capable(b, op) for b in registry.BACKENDS} for op in ("grad_input", "grad_weight")}


def pairs(op):
    every = [(name, layer) for name, layers in CAPABLE[op].items() for layer in layers]
    return pytest.mark.parametrize(("name", "layer"), every, ids=["-".join(pair) for pair in every])


@pytest.fixture(autouse=True)
def _skip_missing(request):
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    if name and (missing := registry.find(name).missing()):
        pytest.skip(f"{name}: {missing}")


def forward(x, w, options, spec):
    kept = {k: v for k, v in options.items() if k not in ("padding", "accuracy")}
    return convolve(x, w, padding=spec.padding, **kept)


@cache
def problem(layer, whole=True):
    """x, w, the gradient to the output, and by the Jacobian those to x and w in float64; numbers of float32."""
    x_shape, w_shape, options = LAYERS[layer]
    rng, spec = np.random.default_rng(sum(map(ord, layer))), spec_of(layer, "forward")
    draw = (lambda s: rng.integers(-4, 5, s)) if whole else rng.standard_normal
    x, w, gy = (draw(s).astype("float32").astype("float64") for s in (x_shape, w_shape, spec.out_shape))
    units = np.eye(x[0].size).reshape(-1, *x_shape[1:])
    seen = forward(units, w, options, spec).reshape(len(units), -1)  # row: what one element of x does to the output
    gx = (gy.reshape(len(x), -1) @ seen.T).reshape(x_shape)
    gw = np.empty(w_shape)
    for at in np.ndindex(*w_shape[1:]):  # an output channel depends on its own filter alone
        unit = np.zeros(w_shape)
        unit[(slice(None), *at)] = 1
        gw[(slice(None), *at)] = (forward(x, unit, options, spec) * gy).sum((0, *range(2, x.ndim)))
    return x, w, gy, gx, gw


def like(dtype, *arrays):
    return [a.astype(dtype) for a in arrays]


def bound(name, spec):
    """The error bound that is reported."""
    return next(r for r in fastconv.api.explain_spec(spec, backend=name).rows if r.backend == name).error_bound


def filters(w, spec):
    """The largest sum of weights that meet one element of the input."""
    return np.abs(w).reshape(spec.g, spec.oc // spec.g, spec.ic // spec.g, -1).sum((1, 3)).max()


@pairs("grad_input")
def test_gradient_to_the_input(name, layer):
    _, w, gy, right, _ = problem(layer)
    options, spec = LAYERS[layer][2], spec_of(layer, "grad_input")
    result = TO_INPUT[spec.ndim](right.shape, *like("float32", w, gy), backend=name, **options)
    assert result.dtype == "float32"
    exact = name in DIRECT
    assert_close(result, right, 0 if exact else bound(name, spec) * np.abs(gy).max() * filters(w, spec))
    last = TO_INPUT[spec.ndim](
        np.moveaxis(right, 1, -1).shape, w, np.moveaxis(gy, 1, -1), layout=LAST[spec.ndim], backend=name, **options
    )
    np.testing.assert_allclose(last, np.moveaxis(right, 1, -1), rtol=0, atol=1e-10)


@pairs("grad_weight")
def test_gradient_to_the_weights(name, layer):
    x, _, gy, _, right = problem(layer)
    options, ndim = LAYERS[layer][2], x.ndim - 2
    result = TO_WEIGHT[ndim](like("float32", x)[0], right.shape, *like("float32", gy), backend=name, **options)
    assert result.dtype == "float32"
    assert np.array_equal(result, right)
    last = TO_WEIGHT[ndim](
        np.moveaxis(x, 1, -1), right.shape, np.moveaxis(gy, 1, -1), layout=LAST[ndim], backend=name, **options
    )
    assert np.array_equal(last, right)


@pairs("grad_input")
def test_random_gradient_to_the_input_within_the_bound(name, layer):
    _, w, gy, right, _ = problem(layer, whole=False)
    options, spec = LAYERS[layer][2], spec_of(layer, "grad_input")
    result = TO_INPUT[spec.ndim](right.shape, *like("float32", w, gy), backend=name, **options)
    assert_close(result, right, bound(name, spec) * np.abs(gy).max() * filters(w, spec))
    assert_close(result, right, 1e-5 * np.abs(right).max())


@pairs("grad_weight")
def test_random_gradient_to_the_weights_within_the_bound(name, layer):
    x, _, gy, _, right = problem(layer, whole=False)
    options, spec = LAYERS[layer][2], spec_of(layer, "grad_weight")
    result = TO_WEIGHT[spec.ndim](*like("float32", x), right.shape, *like("float32", gy), backend=name, **options)
    sums = np.abs(gy).sum((0, *range(2, gy.ndim))).max()
    assert_close(result, right, bound(name, spec) * np.abs(x).max() * sums)
    assert_close(result, right, 1e-5 * np.abs(right).max())


@pytest.mark.parametrize("layer", LAYERS)
def test_gradient_to_the_bias(layer):
    gy = problem(layer)[2]
    assert np.array_equal(TO_BIAS[gy.ndim - 2](gy), gy.sum((0, *range(2, gy.ndim))))
    assert np.array_equal(TO_BIAS[gy.ndim - 2](gy[0]), gy[0].sum(tuple(range(1, gy.ndim - 1))))
    turned = np.moveaxis(gy, 1, -1)
    assert np.array_equal(TO_BIAS[gy.ndim - 2](turned, layout=LAST[gy.ndim - 2]), gy.sum((0, *range(2, gy.ndim))))


@pytest.mark.parametrize("layer", LAYERS)
def test_both_gradients_are_adjoints_of_the_convolution(layer):
    x, w, gy, _, _ = problem(layer)
    options, ndim = LAYERS[layer][2], x.ndim - 2
    total = (forward(x, w, options, spec_of(layer, "forward")) * gy).sum()
    assert (TO_INPUT[ndim](x.shape, w, gy, **options) * x).sum() == total
    assert (TO_WEIGHT[ndim](x, w.shape, gy, **options) * w).sum() == total


def test_backends_take_the_gradients_that_they_must():
    exact = {"2d-exact"}
    kernels = {(3, 3), (1, 3), (3, 1), (1, 5), (5, 1), (3,), (5,)}
    winograd = {n for n in LAYERS if spec_of(n, "forward").kernel_size in kernels and "stride" not in LAYERS[n][2]}
    assert {name: set(layers) for name, layers in CAPABLE["grad_input"].items()} == {
        "naive": set(LAYERS), "im2col": set(LAYERS), "cython": set(LAYERS), "numba": set(LAYERS),
        "fft": set(LAYERS) - exact, "winograd": (winograd | {"2d-stride-2-kernel-6"}) - exact,
    }  # fmt: skip
    assert {name for name, layers in CAPABLE["grad_weight"].items() if layers} == {"naive", "im2col"}
    assert all(len(CAPABLE["grad_weight"][name]) == len(LAYERS) for name in ("naive", "im2col"))


@pytest.mark.parametrize("name", [n for n, layers in CAPABLE["grad_weight"].items() if not layers])
def test_fast_backends_refuse_the_gradient_to_the_weights_by_name(name):
    x = np.ones((1, 1, 5, 5), "float32")
    with pytest.raises(
        UnsupportedConv, match=f"'{name}' computes forward and grad_input; got grad_weight.*im2col, naive"
    ):
        grad.conv2d_weight(x, (1, 1, 3, 3), x[:, :, :3, :3], backend=name)


INTEGERS = [d for d in ACCUMULATOR if not d.startswith("float")]


@pytest.mark.parametrize("backend", ["naive", "im2col"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_whole_range_of_each_integer_dtype(backend, dtype, rng):
    limits, options = np.iinfo(dtype), {"stride": 2, "padding": 1, "padding_mode": "reflect"}
    x, w, gy = (
        rng.integers(limits.min, limits.max, s, dtype, endpoint=True)
        for s in ((2, 2, 5, 6), (3, 2, 3, 2), (2, 3, 3, 4))
    )
    gx = grad.conv2d_input(x.shape, w, gy, **options, backend=backend)
    gw = grad.conv2d_weight(x, w.shape, gy, **options, backend=backend)
    assert gx.dtype == gw.dtype == ACCUMULATOR[dtype]
    right = np.zeros(x.shape, object)
    for at in np.ndindex(*x.shape):
        unit = np.zeros(x.shape, dtype)
        unit[at] = 1
        right[at] = (convolve(unit, w, **options) * gy.astype(object)).sum()
    assert np.array_equal(gx, wrap(right, gx.dtype))
    for at in np.ndindex(*w.shape):
        unit = np.zeros(w.shape, dtype)
        unit[at] = 1
        assert gw[at] == wrap(np.array([(convolve(x, unit, **options) * gy.astype(object)).sum()]), gw.dtype)[0]


def test_finite_differences():
    rng, step = np.random.default_rng(7), 1e-6
    x, w = rng.standard_normal((1, 2, 4, 5)), rng.standard_normal((3, 2, 3, 2))
    options = {"stride": (1, 2), "padding": (2, 1), "padding_mode": "circular", "dilation": (2, 1)}

    def loss(a, b):
        return np.sin(fastconv.conv2d(a, b, **options)).sum()

    gy = np.cos(fastconv.conv2d(x, w, **options))
    gx, gw = grad.conv2d_input(x.shape, w, gy, **options), grad.conv2d_weight(x, w.shape, gy, **options)
    for at in [(0, 0, 0, 0), (0, 1, 3, 4), (0, 0, 2, 1)]:
        shift = np.zeros(x.shape)
        shift[at] = step
        assert (loss(x + shift, w) - loss(x - shift, w)) / (2 * step) == pytest.approx(gx[at], abs=1e-7)
    for at in [(0, 0, 0, 0), (2, 1, 2, 1), (1, 0, 1, 1)]:
        shift = np.zeros(w.shape)
        shift[at] = step
        assert (loss(x, w + shift) - loss(x, w - shift)) / (2 * step) == pytest.approx(gw[at], abs=1e-7)
