"""Integers: exact in the accumulator that the promotion table names, or modulo 2**64, or refused."""

import numpy as np
import pytest
from oracle import convolve as exact
from oracle import wrap

import fastconv
from fastconv import registry
from fastconv.errors import UnsupportedConv
from fastconv.kernels.naive_loops import naive_any_loops
from fastconv.lowering import lower
from fastconv.spec import ACCUMULATOR, parse_layer

INTEGERS = [d for d in ACCUMULATOR if not d.startswith("float")]
TAKES_INTEGERS = [b.name for b in registry.BACKENDS if "int8" in b.capabilities.dtypes]
FLOATS_ONLY = [b.name for b in registry.BACKENDS if "int8" not in b.capabilities.dtypes]
integer_backend = pytest.mark.parametrize("backend", TAKES_INTEGERS)
LAYER = {"stride": 2, "padding": [(1, 0), (2, 1)], "dilation": (1, 2), "groups": 2}


def whole_range(rng, shape, dtype):
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    values.flat[:2] = limits.min, limits.max
    return values


def test_naive_and_im2col_take_integers():
    assert {"naive", "im2col"} <= set(TAKES_INTEGERS)


@integer_backend
@pytest.mark.parametrize("dtype", INTEGERS)
def test_whole_range_of_each_dtype(backend, dtype, rng):
    x, w = whole_range(rng, (2, 4, 7, 8), dtype), whole_range(rng, (6, 2, 3, 2), dtype)
    y = fastconv.conv2d(x, w, **LAYER, backend=backend)
    assert y.dtype == ACCUMULATOR[dtype]
    assert np.array_equal(y, wrap(exact(x, w, **LAYER), y.dtype))


@integer_backend
@pytest.mark.parametrize(("x_dtype", "w_dtype"), [("uint8", "int8"), ("int8", "uint8")])
def test_signed_and_unsigned_8_bits_mix(backend, x_dtype, w_dtype, rng):
    x, w = whole_range(rng, (1, 4, 7, 8), x_dtype), whole_range(rng, (6, 2, 3, 2), w_dtype)
    y = fastconv.conv2d(x, w, **LAYER, backend=backend)
    assert y.dtype == "int32"
    assert y.tolist() == exact(x, w, **LAYER).tolist()


@integer_backend
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("extreme", ["min", "max"])
def test_small_integers_are_exact_at_the_extremes(backend, dtype, extreme):
    x = np.full((1, 64, 3), getattr(np.iinfo(dtype), extreme), dtype)
    y = fastconv.conv1d(x, x, backend=backend)
    assert y.item() == 64 * 3 * int(x.flat[0]) ** 2


@integer_backend
@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_32_bits_are_exact_while_the_sum_fits_int64(backend, dtype):
    x = np.full((1, 2, 3), 2**29 + 1, dtype)
    assert fastconv.conv1d(x, x, backend=backend).item() == 6 * (2**29 + 1) ** 2


@integer_backend
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_64_bits_wrap_like_numpy(backend, dtype):
    x, w = np.full((1, 1, 4), 2**40 + 3, dtype), np.full((1, 1, 4), 2**41 - 5, dtype)
    assert fastconv.conv1d(x, w, backend=backend).item() == (x[0, 0] * w[0, 0]).sum().item()


@integer_backend
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
def test_bias_residual_and_activation_are_exact(backend, activation, rng):
    x, w = whole_range(rng, (1, 2, 5, 5), "uint8"), whole_range(rng, (3, 2, 2, 2), "int8")
    bias, residual = rng.integers(-9999, 9999, 3, "int32"), rng.integers(-9999, 9999, (1, 3, 4, 4), "int32")
    y = fastconv.conv2d(x, w, bias, residual=residual, activation=activation, backend=backend)
    total = exact(x, w) + bias[:, None, None].astype(object) + residual.astype(object)
    low, high = {None: (-(2**40), 2**40), "relu": (0, 2**40), "relu6": (0, 6)}[activation]
    assert y.tolist() == np.minimum(np.maximum(total, low), high).tolist()


@integer_backend
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes(backend, mode, rng):
    x, w = whole_range(rng, (1, 1, 5, 6), "int16"), whole_range(rng, (2, 1, 3, 3), "int16")
    y = fastconv.conv2d(x, w, padding=2, padding_mode=mode, backend=backend)
    assert y.tolist() == exact(x, w, padding=2, padding_mode=mode).tolist()


@integer_backend
def test_integer_plans_do_what_the_call_does(backend, rng):
    x, w = whole_range(rng, (2, 4, 7, 8), "int8"), whole_range(rng, (6, 2, 3, 2), "uint8")
    plan = fastconv.plan(w, x.shape, **LAYER, backend=backend, dtype="int8")
    assert np.array_equal(plan(x), fastconv.conv2d(x, w, **LAYER, backend=backend))
    assert plan.error_bound == 0


def test_auto_finds_an_integer_backend(rng):
    x, w = whole_range(rng, (1, 1, 6, 6), "uint8"), whole_range(rng, (1, 1, 3, 3), "uint8")
    assert fastconv.conv2d(x, w).tolist() == exact(x, w).tolist()


@pytest.mark.parametrize("backend", FLOATS_ONLY)
def test_float_backends_refuse_integers_by_name(backend):
    x = np.zeros((1, 1, 6, 6), "int16")
    with pytest.raises(UnsupportedConv, match=rf"'{backend}' computes float32, float64; got int16.*im2col, naive"):
        fastconv.conv2d(x, np.zeros((1, 1, 3, 3), "int16"), backend=backend)


@pytest.mark.parametrize(("x", "w"), [("int8", "int16"), ("uint8", "uint16"), ("int32", "int64"), ("int16", "uint16")])
def test_other_mixtures_are_refused(x, w):
    with pytest.raises(TypeError, match=f"x has dtype {x} and w has {w}; convert"):
        fastconv.conv2d(np.zeros((1, 1, 4, 4), x), np.zeros((1, 1, 2, 2), w))


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", "hardswish", "leaky_relu"])
def test_real_valued_activations_are_refused(activation):
    x = np.zeros((1, 1, 4, 4), "int8")
    with pytest.raises(TypeError, match=f"{activation}.*int32.*float32"):
        fastconv.conv2d(x, x, activation=activation)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_uncompiled_naive_loops_give_the_same(dtype, rng):
    x, w = whole_range(rng, (1, 2, 1, 4, 5), dtype), whole_range(rng, (1, 2, 1, 2, 2), dtype)
    out = np.empty((1, 1, 1, 3, 4), ACCUMULATOR[dtype])
    low = lower(parse_layer("ic2ih4iw5k2"))
    with np.errstate(over="ignore"):
        zero = out.dtype.type(0)
        naive_any_loops(x, w, out, *(a.positions(0, a.out) for a in low.axes), zero, zero)
    assert np.array_equal(out[:, :, 0], wrap(exact(x[:, :, 0], w[:, :, 0]), out.dtype))
