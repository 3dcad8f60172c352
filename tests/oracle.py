"""The reference: a convolution by its definition in float64, and the checker that compares with it.

Shares no code with fastconv: padding is `numpy.pad`, a tap is a strided slice. Integers are exact
Python ints. Arrays are whole (n, ic, ...) batches, padding a (before, after) pair per axis.
"""

from __future__ import annotations

import math

import numpy as np

_PAD = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def every(value, ndim):
    """One number per axis."""
    return (value,) * ndim if isinstance(value, int) else tuple(value)


def pad(x, pairs, mode="zeros"):
    """``x`` (n, c, ...) padded by a pair per spatial axis."""
    return np.pad(x, [(0, 0), (0, 0), *pairs], mode=_PAD[mode])


def convolve(x, w, *, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", channels_last=False):
    """Cross-correlation of x (n, ic, ...) with w (oc, ic / groups, k...); float64, or exact ints."""
    ndim = w.ndim - 2
    number = np.float64 if x.dtype.kind == "f" else object
    stride, dilation = every(stride, ndim), every(dilation, ndim)
    pairs = [(p, p) if isinstance(p, int) else p for p in every(padding, ndim)]
    x = np.moveaxis(x, -1, 1) if channels_last else x
    big, w = pad(x, pairs, padding_mode).astype(number), w.astype(number)
    size = [
        (full - (k - 1) * d - 1) // s + 1
        for full, k, s, d in zip(big.shape[2:], w.shape[2:], stride, dilation, strict=True)
    ]
    result = np.zeros((x.shape[0], w.shape[0], *size), number)
    each = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    for tap in np.ndindex(*w.shape[2:]):
        steps = zip(tap, size, stride, dilation, strict=True)
        seen = big[:, :, *(slice(r * d, r * d + (out - 1) * s + 1, s) for r, out, s, d in steps)]
        seen = seen.reshape(len(x), groups, w.shape[1], math.prod(size))
        with np.errstate(invalid="ignore"):
            result += np.matmul(each[:, :, :, *tap], seen).reshape(result.shape)
    return np.moveaxis(result, 1, -1) if channels_last else result


def transpose(x, w, *, stride=1, padding=0, output_padding=0, dilation=1, groups=1, channels_last=False):
    """Transposed convolution of x (n, ic, ...) with w (ic, oc / groups, k...): each element scatters its kernel."""
    ndim = w.ndim - 2
    number = np.float64 if x.dtype.kind == "f" else object
    stride, dilation, spare = every(stride, ndim), every(dilation, ndim), every(output_padding, ndim)
    pairs = [(p, p) if isinstance(p, int) else p for p in every(padding, ndim)]
    x = (np.moveaxis(x, -1, 1) if channels_last else x).astype(number)
    w = w.astype(number)
    axes = zip(x.shape[2:], w.shape[2:], stride, dilation, spare, strict=True)
    whole = np.zeros(
        (len(x), w.shape[1] * groups, *((i - 1) * s + (k - 1) * d + 1 + e for i, k, s, d, e in axes)), number
    )
    ic, oc = x.shape[1] // groups, w.shape[1]
    for n, c, *at in np.ndindex(*x.shape):
        reach = zip(at, w.shape[2:], stride, dilation, strict=True)
        where = tuple(slice(i * s, i * s + (k - 1) * d + 1, d) for i, k, s, d in reach)
        first = c // ic * oc
        with np.errstate(invalid="ignore"):
            whole[(n, slice(first, first + oc), *where)] += x[(n, c, *at)] * w[c]
    sides = zip(whole.shape[2:], pairs, strict=True)
    result = whole[(..., *(slice(before, size - after) for size, (before, after) in sides))]
    return np.moveaxis(result, 1, -1) if channels_last else result


def activate(v, activation):
    """The activations in float64, by their published formulas."""
    name, parameter = activation if isinstance(activation, tuple) else (activation, 0.01)
    with np.errstate(over="ignore", invalid="ignore"):
        match name:
            case None:
                return v
            case "relu":
                return np.maximum(v, 0)
            case "relu6":
                return np.minimum(np.maximum(v, 0), 6)
            case "leaky_relu":
                return np.where(v > 0, v, v * parameter)
            case "silu":
                return v / (1 + np.exp(-v))
            case "hardswish":
                return v * np.minimum(np.maximum(v + 3, 0), 6) / 6
            case "gelu":
                return v * np.vectorize(lambda t: (1 + math.erf(t / math.sqrt(2))) / 2, otypes=[float])(v)
            case "gelu_tanh":
                return v / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
    raise ValueError(name)


def reference(x, w, bias=None, *, residual=None, activation=None, channels_last=False, **layer):
    """``act(conv + bias + residual)`` as a whole layer."""
    total = convolve(x, w, channels_last=channels_last, **layer)
    if bias is not None:
        total = total + bias.astype(total.dtype).reshape(-1, *[1] * (0 if channels_last else w.ndim - 2))
    if residual is not None:
        total = total + residual.astype(total.dtype)
    return activate(total, activation)


def wrap(exact, dtype):
    """Python ints folded into an integer dtype modulo 2**bits, as NumPy's arithmetic does."""
    bits, low = np.iinfo(dtype).bits, int(np.iinfo(dtype).min)
    return np.array([(int(v) - low) % 2**bits + low for v in exact.ravel()], dtype).reshape(exact.shape)


def assert_close(result, expected, bound):
    """Every finite element within ``bound``; NaN and the infinities exactly where they belong."""
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.shape == expected.shape, f"shape {result.shape}, expected {expected.shape}"
    result, expected = result.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(result[~finite], expected[~finite])
    assert np.isfinite(result[finite]).all(), "NaN or Inf where the reference is finite"
    error = np.where(finite, np.abs(np.where(finite, result, 0) - np.where(finite, expected, 0)), 0)
    if error.size and error.max() > bound:
        where = np.unravel_index(error.argmax(), error.shape)
        raise AssertionError(
            f"{(error > bound).sum()} of {error.size} elements off by more than {bound:.3g}; worst at "
            f"{tuple(map(int, where))}: {result[where]!r}, expected {expected[where]!r}"
        )


def with_gaps(x):
    """The same values with a gap after each, which no kernel reads in place."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]
