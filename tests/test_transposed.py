"""Transposed convolution: every backend x every layer of the table against an oracle that scatters.

A backend that refuses a layer by `why_not` has no such test at all; the last tests say how many it must have.
"""

from functools import cache

import numpy as np
import pytest
from oracle import activate, assert_close, convolve, transpose

import fastconv
from fastconv import registry
from fastconv.errors import UnsupportedConv

TRANSPOSED = {1: fastconv.conv_transpose1d, 2: fastconv.conv_transpose2d, 3: fastconv.conv_transpose3d}
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
LAYERS = {  # name -> shape of x, shape of w (ic, oc / groups, k...), options
    "1d": ((2, 3, 9), (3, 4, 3), {}),
    "1d-stride": ((2, 3, 9), (3, 4, 5), {"stride": 2, "padding": 1, "output_padding": 1}),
    "1d-dilation": ((1, 2, 8), (2, 3, 4), {"dilation": 3, "padding": ((2, 4),)}),
    "1d-long-kernel": ((1, 2, 30), (2, 3, 41), {"stride": 2}),
    "2d": ((2, 3, 7, 8), (3, 5, 3, 3), {}),
    "2d-padding": ((2, 3, 7, 8), (3, 5, 3, 3), {"padding": 1}),
    "2d-pairs": ((2, 3, 7, 8), (3, 5, 3, 3), {"padding": ((0, 2), (1, 0))}),
    "2d-padding-beyond-kernel": ((1, 2, 9, 9), (2, 3, 2, 3), {"padding": ((3, 0), (2, 4))}),
    "2d-stride-2": ((2, 3, 7, 8), (3, 5, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "2d-stride-2-kernel-4": ((1, 4, 6, 5), (4, 6, 4, 4), {"stride": 2, "padding": 1}),
    "2d-stride-2-kernel-6": ((1, 4, 6, 5), (4, 6, 6, 6), {"stride": 2, "padding": 2}),
    "2d-strides": ((1, 3, 5, 6), (3, 4, 4, 3), {"stride": (3, 2), "padding": (1, 0), "output_padding": (2, 0)}),
    "2d-holes": ((1, 3, 5, 6), (3, 4, 2, 1), {"stride": (3, 2), "output_padding": (1, 1)}),
    "2d-holes-1x1": ((2, 3, 4, 5), (3, 4, 1, 1), {"stride": 3, "output_padding": 2}),
    "2d-dilation": ((1, 3, 6, 7), (3, 4, 3, 2), {"dilation": (2, 3), "padding": (1, 2)}),
    "2d-stride-is-dilation": ((1, 3, 6, 7), (3, 4, 3, 3), {"stride": 2, "dilation": 2, "padding": 1}),
    "2d-stride-and-dilation": ((1, 3, 6, 7), (3, 4, 3, 4), {"stride": (2, 4), "dilation": (3, 6), "padding": (1, 5)}),
    "2d-output-padding-from-dilation": ((1, 3, 5, 5), (3, 4, 3, 3), {"dilation": 3, "output_padding": (2, 1)}),
    "2d-groups": ((2, 6, 5, 6), (6, 4, 3, 3), {"groups": 2, "stride": 2, "padding": 1}),
    "2d-groups-stride-1": ((1, 6, 8, 9), (6, 2, 3, 3), {"groups": 3, "padding": 1}),
    "2d-depthwise": ((1, 5, 6, 6), (5, 1, 4, 4), {"groups": 5, "stride": 2, "padding": 1}),
    "2d-1x1": ((2, 3, 5, 6), (3, 4, 1, 1), {}),
    "2d-one-pixel": ((1, 3, 1, 1), (3, 4, 5, 4), {"stride": 2}),
    "2d-large-kernel": ((1, 2, 20, 21), (2, 3, 9, 11), {"padding": (4, 5)}),
    "2d-channels": ((1, 40, 6, 6), (40, 24, 3, 3), {"padding": 1}),
    "2d-exact": ((1, 4, 6, 6), (4, 6, 3, 3), {"padding": 1, "accuracy": "exact"}),
    "2d-float64": ((2, 3, 7, 8), (3, 5, 3, 3), {"padding": 1, "dtype": "float64"}),
    "2d-float64-stride": ((2, 3, 7, 8), (3, 5, 4, 5), {"stride": (2, 3), "padding": 1, "dtype": "float64"}),
    "3d": ((1, 2, 3, 4, 5), (2, 3, 2, 3, 3), {"padding": (0, 1, 1)}),
    "3d-stride": ((1, 2, 3, 4, 5), (2, 3, 3, 2, 4), {"stride": (2, 1, 2), "padding": 1, "output_padding": (1, 0, 1)}),
    "3d-groups": ((1, 4, 2, 3, 4), (4, 2, 2, 3, 2), {"groups": 2, "stride": 2, "dilation": (1, 2, 1)}),
}
NAMES = [b.name for b in registry.BACKENDS]
DIRECT = [b.name for b in registry.BACKENDS if "exact" in b.capabilities.accurate]
REPRODUCIBLE = [b.name for b in registry.BACKENDS if b.capabilities.reproducible]


def spec_of(layer):
    x_shape, w_shape, options = LAYERS[layer]
    options = {"dtype": "float32"} | options
    w = np.empty(w_shape, options["dtype"])
    return fastconv.plan_transpose(w, x_shape, layout=None, backend="naive", **options).spec


CAPABLE = {
    b.name: [layer for layer in LAYERS if registry.why_not(b.capabilities, spec_of(layer)) is None]
    for b in registry.BACKENDS
}


def pairs(names, layers=tuple(LAYERS)):
    every = [(name, layer) for name in names for layer in CAPABLE[name] if layer in layers]
    return pytest.mark.parametrize(("name", "layer"), every, ids=["-".join(pair) for pair in every])


@pytest.fixture(autouse=True)
def _skip_missing(request):
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    if name and (missing := registry.find(name).missing()):
        pytest.skip(f"{name}: {missing}")


@cache
def problem(layer, whole=False):
    """x, w, bias, options of the call, and the sums without bias."""
    x_shape, w_shape, options = LAYERS[layer]
    options, rng = dict(options), np.random.default_rng(sum(map(ord, layer)))
    dtype, accuracy = options.pop("dtype", "float32"), options.pop("accuracy", "high")
    draw = (lambda s: rng.integers(-4, 5, s)) if whole else rng.standard_normal
    x, w, bias = (draw(s).astype(dtype) for s in (x_shape, w_shape, w_shape[1] * options.get("groups", 1)))
    return x, w, bias, options | {"accuracy": accuracy}, transpose(x, w, **options)


def beside(bias, ndim):
    return bias.astype("float64").reshape(-1, *[1] * ndim)


@pairs(NAMES)
def test_random_data_within_the_bound_of_the_plan(name, layer):
    x, w, bias, options, sums = problem(layer)
    right = sums + beside(bias, x.ndim - 2)
    g = options.get("groups", 1)
    plan = fastconv.plan_transpose(w, x.shape, bias, backend=name, **options)
    filters = np.abs(w.astype("float64")).reshape(g, len(w) // g, w.shape[1], -1).sum((1, 3)).max()
    eps = np.finfo(x.dtype).eps
    allowed = plan.error_bound * np.abs(x).max() * filters * (2 if x.dtype == "float64" else 1)
    for result in (plan(x), TRANSPOSED[x.ndim - 2](x, w, bias, backend=name, **options)):
        assert result.dtype == x.dtype
        assert_close(result, right, allowed + 4 * eps * (np.abs(right).max() + np.abs(bias).max()))
        assert_close(result, right, 1e-5 * np.abs(right).max())


@pairs(DIRECT)
def test_whole_numbers_are_exact_in_both_layouts(name, layer):
    x, w, bias, options, sums = problem(layer, whole=True)
    call, last = TRANSPOSED[x.ndim - 2], LAST[x.ndim - 2]
    right = np.maximum(sums + beside(bias, x.ndim - 2) + 1, 0)
    residual = np.ones(right.shape, x.dtype)
    result = call(x, w, bias, residual=residual, activation="relu", backend=name, threads=2, **options)
    assert np.array_equal(result, right)
    turned = call(
        np.moveaxis(x, 1, -1).copy(), w, bias, residual=np.moveaxis(residual, 1, -1), activation="relu", backend=name,
        layout=last, **options,
    )  # fmt: skip
    assert np.array_equal(turned, np.moveaxis(right, 1, -1))


@pairs(NAMES)
def test_plan_and_judgement_agree_with_explain_spec(name, layer):
    x, w, _, options, _ = problem(layer)
    plan = fastconv.plan_transpose(w, x.shape, backend=name, **options)
    row = next(r for r in fastconv.api.explain_spec(plan.spec, backend=name).rows if r.backend == name)
    assert (row.verdict, row.algorithm, row.error_bound) == ("chosen", plan.algorithm, plan.error_bound)
    assert row.workspace_bytes == plan.workspace_bytes
    assert plan.out_shape == plan(x).shape == plan.spec.result_shape


@pairs(REPRODUCIBLE)
def test_threads_and_batch_do_not_change_a_bit(name, layer):
    x, w, bias, options, _ = problem(layer)
    call = TRANSPOSED[x.ndim - 2]
    one = call(x, w, bias, backend=name, threads=1, **options)
    for threads in (2, 8):
        assert np.array_equal(call(x, w, bias, backend=name, threads=threads, **options), one)
    assert np.array_equal(call(x[-1], w, bias, backend=name, threads=2, **options), one[-1])


@pairs(["im2col"])
def test_im2col_takes_any_number_of_threads(name, layer):
    x, w, bias, options, sums = problem(layer)
    result = TRANSPOSED[x.ndim - 2](x, w, bias, backend=name, threads=8, **options)
    assert_close(result, sums + beside(bias, x.ndim - 2), 1e-5 * np.abs(sums).max() + 1e-6)


@pytest.mark.parametrize("layer", [name for name in LAYERS if not name.startswith("2d-exact")])
def test_it_is_the_adjoint_of_the_convolution(layer):
    x, w, _, options, sums = problem(layer, whole=True)
    y = np.random.default_rng(1).integers(-4, 5, sums.shape).astype("float64")
    spare = options.pop("output_padding", 0)
    forward = {k: v for k, v in options.items() if k != "accuracy"}
    options["output_padding"] = spare
    spare = (spare,) * (x.ndim - 2) if isinstance(spare, int) else spare
    seen = convolve(y, w.astype("float64"), **forward)[(..., *map(slice, x.shape[2:]))]
    assert (seen * x).sum() == (y * TRANSPOSED[x.ndim - 2](x, w, **options)).sum()


@pytest.mark.parametrize("activation", ["relu", "relu6", "silu", "gelu", "gelu_tanh", "hardswish", ("leaky_relu", 0.2)])
@pairs(NAMES, ("2d-padding", "2d-holes", "2d-stride-2-kernel-6", "3d-stride"))
def test_activation_of_bias_and_residual(name, layer, activation):
    x, w, bias, options, sums = problem(layer)
    residual = np.random.default_rng(2).standard_normal(sums.shape).astype("float32")
    right = activate(sums + beside(bias, x.ndim - 2) + residual, activation)
    result = TRANSPOSED[x.ndim - 2](x, w, bias, residual=residual, activation=activation, backend=name, **options)
    assert_close(result, right, 2e-5 * np.abs(right).max())


@pytest.mark.parametrize("name", NAMES)
def test_backends_take_the_layers_that_they_must(name):
    winograd = {"2d", "2d-padding", "2d-pairs", "2d-stride-2-kernel-6", "2d-stride-is-dilation", "2d-groups-stride-1",
                "2d-channels", "2d-float64", "2d-output-padding-from-dilation", "1d"}  # fmt: skip
    least = {"winograd": winograd, "fft": set(LAYERS) - {"2d-exact"}}.get(name, set(LAYERS))
    assert set(CAPABLE[name]) == least


def test_worked_example(backend):
    x = np.array([[0.0, 1.0], [2.0, 3.0]])
    if backend == "winograd":
        with pytest.raises(UnsupportedConv, match="5x1; got 2x2 in a phase"):
            fastconv.conv_transpose2d(x, x, backend=backend)
        return
    result = fastconv.conv_transpose2d(x, x, backend=backend)
    np.testing.assert_allclose(result, [[0, 0, 1], [0, 4, 6], [4, 12, 9]], atol=1e-14)


def test_oracle_knows_the_worked_example():
    x = np.array([[[[0.0, 1.0], [2.0, 3.0]]]])
    assert transpose(x, x)[0, 0].tolist() == [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
