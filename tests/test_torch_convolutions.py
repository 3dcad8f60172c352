"""PyTorch as a second opinion: random convolutions, transposed ones, gradients by autograd, fold and unfold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import grad, registry
from fastconv.errors import UnsupportedConv

torch = pytest.importorskip("torch", reason="run 'pip install torch'")
F = torch.nn.functional

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=80)
NAMES = [b.name for b in registry.BACKENDS if b.missing() is None]
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
PAD = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def per_axis(ndim, low, high):
    return st.tuples(*[st.integers(low, high)] * ndim)


@st.composite
def layers(draw, transposed=False):
    """Sizes of a layer and its options; kernels of 3 with stride 1 often enough for every backend."""
    ndim, g = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    ic, oc = g * draw(st.integers(1, 3)), g * draw(st.integers(1, 3))
    simple = draw(st.booleans())
    kernel = (3,) * ndim if simple else draw(per_axis(ndim, 1, 5))
    stride = (1,) * ndim if simple else draw(per_axis(ndim, 1, 4))
    dilation = (1,) * ndim if simple else draw(per_axis(ndim, 1, 3))
    padding = draw(per_axis(ndim, 0, 3))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    n, dtype = draw(st.integers(1, 2)), draw(st.sampled_from(["float32", "float64"]))
    if transposed:
        least = [max(-(-(2 * p + 1 - e) // s) + 1, 1) for p, e, s in zip(padding, extent, stride, strict=True)]
        size = tuple(draw(st.integers(low, low + 5)) for low in least)
        spare = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        options = {"stride": stride, "padding": padding, "output_padding": spare, "groups": g, "dilation": dilation}
        return (n, ic, *size), (ic, oc // g, *kernel), options, dtype
    size = tuple(draw(st.integers(max(e - 2 * p, 1), e + 6)) for e, p in zip(extent, padding, strict=True))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": g}
    return (n, ic, *size), (oc, ic // g, *kernel), options, dtype


def normal(seed, dtype, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def agree(ours, theirs):
    theirs = theirs.detach().numpy()
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    tolerance = {"float32": 2e-5, "float64": 1e-11}[ours.dtype.name]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(initial=1))


def willing(call, name):
    """The result of a backend; of 'naive' where it refuses the layer."""
    try:
        return call(name)
    except UnsupportedConv:
        return call("naive")


@EXAMPLES
@given(layers(), st.sampled_from(NAMES), st.booleans(), st.integers(0, 9))
def test_convolution(layer, name, channels_last, seed):
    x_shape, w_shape, options, dtype = layer
    ndim = len(x_shape) - 2
    x, w, bias = normal(seed, dtype, x_shape, w_shape, w_shape[:1])
    theirs = getattr(F, f"conv{ndim}d")(*map(torch.from_numpy, (x, w, bias)), **options)
    call = getattr(fastconv, f"conv{ndim}d")
    agree(willing(lambda b: call(x, w, bias, backend=b, **options), name), theirs)
    if channels_last:
        x = np.moveaxis(x, 1, -1)
        ours = willing(lambda b: call(x, w, bias, backend=b, layout=LAST[ndim], **options), name)
        agree(np.moveaxis(ours, -1, 1), theirs)


@EXAMPLES
@given(layers(transposed=True), st.sampled_from(NAMES), st.booleans(), st.integers(0, 9))
def test_transposed_convolution(layer, name, channels_last, seed):
    x_shape, w_shape, options, dtype = layer
    ndim = len(x_shape) - 2
    x, w, bias = normal(seed, dtype, x_shape, w_shape, (w_shape[1] * options["groups"],))
    theirs = getattr(F, f"conv_transpose{ndim}d")(*map(torch.from_numpy, (x, w, bias)), **options)
    call = getattr(fastconv, f"conv_transpose{ndim}d")
    agree(willing(lambda b: call(x, w, bias, backend=b, **options), name), theirs)
    if channels_last:
        x = np.moveaxis(x, 1, -1)
        ours = willing(lambda b: call(x, w, bias, backend=b, layout=LAST[ndim], **options), name)
        agree(np.moveaxis(ours, -1, 1), theirs)


@EXAMPLES
@given(layers(), st.sampled_from(NAMES), st.sampled_from(list(PAD)), st.booleans(), st.integers(0, 9))
def test_gradients(layer, name, mode, flip, seed):
    x_shape, w_shape, options, dtype = layer
    ndim = len(x_shape) - 2
    if mode in ("reflect", "circular"):
        most = [size - (mode == "reflect") for size in x_shape[2:]]
        if any(p > m for p, m in zip(options["padding"], most, strict=True)):
            mode = "zeros"
    x, w, bias = (torch.from_numpy(a).requires_grad_() for a in normal(seed, dtype, x_shape, w_shape, w_shape[:1]))
    sides = [side for p in reversed(options["padding"]) for side in (p, p)]
    big = F.pad(x, sides, mode=PAD[mode])
    turned = torch.flip(w, tuple(range(2, ndim + 2))) if flip else w
    y = getattr(F, f"conv{ndim}d")(big, turned, bias, **options | {"padding": 0})
    (gy,) = normal(seed + 1, dtype, y.shape)
    y.backward(torch.from_numpy(gy))
    options = options | {"padding_mode": mode, "flip_kernel": flip}
    a, b = x.detach().numpy(), w.detach().numpy()
    to_input, to_weight = getattr(grad, f"conv{ndim}d_input"), getattr(grad, f"conv{ndim}d_weight")
    agree(willing(lambda by: to_input(a.shape, b, gy, backend=by, **options), name), x.grad)
    agree(willing(lambda by: to_weight(a, b.shape, gy, backend=by, **options), name), w.grad)
    agree(getattr(grad, f"conv{ndim}d_bias")(gy), bias.grad)


@EXAMPLES
@given(layers(), st.integers(0, 9))
def test_unfold_and_fold(layer, seed):
    x_shape, w_shape, options, dtype = layer
    if len(x_shape) != 4:  # PyTorch folds images only: other ranks as images of one row
        x_shape = (*x_shape[:2], *x_shape[-1:])
        (x,) = normal(seed, dtype, x_shape)
        kernel, stride, dilation, padding = (
            v[-1] for v in (w_shape, *(options[k] for k in ("stride", "dilation", "padding")))
        )
        theirs = F.unfold(torch.from_numpy(x[:, :, None]), (1, kernel), (1, dilation), (0, padding), (1, stride))
        ours = fastconv.unfold(x, kernel, dilation, padding, stride, layout="NCW")
        agree(ours, theirs)
        back = F.fold(theirs, (1, x_shape[-1]), (1, kernel), (1, dilation), (0, padding), (1, stride))[:, :, 0]
        agree(fastconv.fold(ours, x_shape[-1], kernel, dilation, padding, stride, layout="NCW"), back)
        return
    (x,) = normal(seed, dtype, x_shape)
    args = w_shape[2:], options["dilation"], options["padding"], options["stride"]
    theirs = F.unfold(torch.from_numpy(x), *args)
    ours = fastconv.unfold(x, *args)
    agree(ours, theirs)
    agree(fastconv.fold(ours, x_shape[2:], *args), F.fold(theirs, x_shape[2:], *args))
