"""PyTorch as a second opinion: forward, indices and gradients of every pooling, and what it refuses."""

import math

import numpy as np
import pool_oracle as oracle
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import grad as gradients

torch = pytest.importorskip("torch")
functional = torch.nn.functional
EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60)


def layer_of(data, **options):
    """A layer that PyTorch has too, its input with batch and channels."""
    ndim, x, *layer = data.draw(oracle.layers("torch", **options))
    return ndim, x.reshape((1,) * (ndim + 2 - x.ndim) + x.shape), *layer


def both(name, ndim):
    return getattr(fastconv, f"{name}{ndim}d"), getattr(functional, f"{name}{ndim}d")


def gradient_of(name, ndim):
    return getattr(gradients, f"{name}{ndim}d_input")


def theirs(function, x, given):
    """PyTorch's gradient of ``function`` at ``x``."""
    tensor = torch.tensor(x, requires_grad=True)
    function(tensor).backward(torch.from_numpy(given))
    return tensor.grad.numpy()


def distinct(x, positive=False):
    rng = np.random.default_rng(x.size)
    values = rng.permutation(np.linspace(0.5, 2.5, x.size)).reshape(x.shape)
    return values if positive else values * rng.choice([-1, 1], x.shape)


def random_like(y):
    return np.random.default_rng(y.size).standard_normal(y.shape)


@EXAMPLES
@given(st.data())
def test_maximum(data):
    ndim, x, *options = layer_of(data, nan=True)
    ours, other = both("max_pool", ndim)
    best, where = ours(x, *options, True)
    right, places = (t.numpy() for t in other(torch.from_numpy(x), *options, True))
    np.testing.assert_array_equal(best, right)
    some = where >= 0  # PyTorch names a place outside for a window of padding only
    np.testing.assert_array_equal(where[some], places[some])
    assume(some.all())  # and its gradient writes there
    given = random_like(best)
    np.testing.assert_allclose(
        gradient_of("max_pool", ndim)(x, given, *options),
        theirs(lambda t: other(t, *options), x, given), rtol=1e-13, atol=1e-14,
    )  # fmt: skip


@EXAMPLES
@given(st.data(), st.booleans(), st.sampled_from([None, 5]))
def test_mean(data, include, override):
    ndim, x, kernel, stride, padding, _, ceil_mode = layer_of(data, dilated=False)
    assume(ndim < 3 or all(s >= k for s, k in zip(x.shape[2:], kernel, strict=True)))  # its 3-D mean wants that
    ours, other = both("avg_pool", ndim)
    extra = {"divisor_override": override} if ndim > 1 else {}
    options = (kernel, stride, padding, ceil_mode, include)
    y = ours(x, *options, **extra)
    np.testing.assert_allclose(y, other(torch.from_numpy(x), *options, **extra), rtol=1e-14, atol=1e-15)
    given = random_like(y)
    np.testing.assert_allclose(
        gradient_of("avg_pool", ndim)(x.shape, given, *options, **extra),
        theirs(lambda t: other(t, *options, **extra), x, given), rtol=1e-13, atol=1e-14,
    )  # fmt: skip


@EXAMPLES
@given(st.data(), st.sampled_from([0.5, 1, 1.5, 2, 3, 4, math.inf]))
def test_norm(data, p):
    ndim, x, kernel, stride, _, _, ceil_mode = layer_of(data, dilated=False)
    assume(all(s >= k for s, k in zip(x.shape[2:], kernel, strict=True)))
    ours, other = both("lp_pool", ndim)
    kernel = kernel[0] if ndim == 1 else kernel  # its 1-D norm wants an int
    options = (p, kernel, stride, ceil_mode)
    for image in (x, np.abs(x)):
        right = other(torch.from_numpy(image), *options).numpy()
        np.testing.assert_allclose(ours(image, *options), right, rtol=1e-12, atol=1e-14)
    image = distinct(x, positive=p not in (1, 2, 4, math.inf))
    given = random_like(ours(x, *options))
    np.testing.assert_allclose(
        gradient_of("lp_pool", ndim)(image, given, *options),
        theirs(lambda t: other(t, *options), image, given), rtol=1e-10, atol=1e-12,
    )  # fmt: skip


@pytest.mark.parametrize("p", [1, 2, 3, 1.5])
def test_norm_of_zeros_gives_no_gradient(p):
    x, given = np.zeros((1, 1, 4, 4)), np.ones((1, 1, 2, 2))
    ours = gradients.lp_pool2d_input(x, given, p, 2)
    np.testing.assert_array_equal(ours, theirs(lambda t: functional.lp_pool2d(t, p, 2), x, given))


@EXAMPLES
@given(st.data(), st.sampled_from([0, 0.1]))
def test_adaptive(data, nan):
    ndim = data.draw(st.integers(1, 3))
    size, out = ([data.draw(st.integers(1, 7)) for _ in range(ndim)] for _ in range(2))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.integers(-3, 4, (2, 3, *size)).astype("float64")
    x[rng.random(x.shape) < nan] = np.nan
    given = rng.standard_normal((2, 3, *out))
    ours, other = both("adaptive_max_pool", ndim)
    for mine, right in zip(ours(x, out, True), other(torch.from_numpy(x), out, True), strict=True):
        np.testing.assert_array_equal(mine, right)
    np.testing.assert_allclose(
        gradient_of("adaptive_max_pool", ndim)(x, given), theirs(lambda t: other(t, out), x, given),
        rtol=1e-13, atol=1e-14,
    )  # fmt: skip
    ours, other = both("adaptive_avg_pool", ndim)
    np.testing.assert_allclose(ours(x, out), other(torch.from_numpy(x), out), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(
        gradient_of("adaptive_avg_pool", ndim)(x.shape, given), theirs(lambda t: other(t, out), x, given),
        rtol=1e-13, atol=1e-14,
    )  # fmt: skip


@EXAMPLES
@given(st.data())
def test_unpooling(data):
    ndim, x, kernel, stride, padding, _, _ = layer_of(data, dilated=False)
    stride = tuple(map(max, kernel, stride))  # where windows overlap two elements go to one place
    best, where = both("max_pool", ndim)[0](distinct(x), kernel, stride, padding, return_indices=True)
    ours, other = both("max_unpool", ndim)
    options = (kernel, stride, padding, x.shape[2:])
    default = [(o - 1) * s + k - 2 * p for o, s, k, p in zip(best.shape[2:], stride, kernel, padding, strict=True)]
    assume(all(abs(a - b) < s for a, b, s in zip(x.shape[2:], default, stride, strict=True)))
    y = ours(best, where, *options)
    np.testing.assert_array_equal(y, other(torch.from_numpy(best), torch.from_numpy(where), *options))
    given = random_like(y)
    np.testing.assert_array_equal(
        gradient_of("max_unpool", ndim)(given, where),
        theirs(lambda t: other(t, torch.from_numpy(where), *options), best, given),
    )


X, P, AT = np.ones((1, 2, 6, 6)), np.ones((1, 2, 2, 2)), np.ones((1, 2, 2, 2), "int64")
REFUSED = {  # what PyTorch refuses and so do we
    "padding of more than half of a window": ("max_pool2d", (X, 3, 1, 2), {}),
    "padding of more than half of a window, mean": ("avg_pool2d", (X, 3, 1, 2), {}),
    "padding below 0": ("max_pool2d", (X, 3, 1, -1), {}),
    "window below 1": ("max_pool2d", (X, 0), {}),
    "window beyond the image": ("max_pool2d", (X, 7), {}),
    "window beyond the image, mean": ("avg_pool2d", (X, 7), {}),
    "stride of 0": ("max_pool2d", (X, 2, 0), {}),
    "stride below 0": ("avg_pool2d", (X, 2, -1), {}),
    "dilation of 0": ("max_pool2d", (X, 2, 2, 0, 0), {}),
    "three numbers for two axes": ("max_pool2d", (X, (2, 2, 2)), {}),
    "divisor of 0": ("avg_pool2d", (X, 2), {"divisor_override": 0}),
    "empty image": ("max_pool2d", (np.ones((1, 1, 0, 4)), 2), {"padding": 1}),
    "power of 0": ("lp_pool2d", (X, 0, 2), {}),
    "adaptive size below 0": ("adaptive_avg_pool2d", (X, -1), {}),
    "adaptive size below 0, maximum": ("adaptive_max_pool2d", (X, -1), {}),
    "adaptive mean of integers": ("adaptive_avg_pool2d", (X.astype("int64"), 2), {}),
    "index beyond the plane": ("max_unpool2d", (P, AT + 15, 2), {}),
    "index below -1": ("max_unpool2d", (P, AT - 3, 2), {}),
    "indices of 32 bits": ("max_unpool2d", (P, AT.astype("int32"), 2), {}),
    "indices of another shape": ("max_unpool2d", (P, AT[..., :1], 2), {}),
    "size of unpooling too far from the default": ("max_unpool2d", (P, AT, 3), {"output_size": (6, 9)}),
    "padding that leaves nothing": ("max_unpool2d", (P, AT, 3, 3, 4), {}),
}
EXTENSIONS = {  # what PyTorch refuses and we compute, on purpose
    "plain image": ("max_pool2d", (X[0, 0], 2), {}),
    "no channels": ("max_pool2d", (X[:, :0], 2), {}),
    "no channels, adaptive": ("adaptive_max_pool2d", (X[:, :0], 2), {}),
    "padding by pairs": ("max_pool2d", (X, 2), {"padding": [(0, 1), (1, 0)]}),
    "padding by name": ("avg_pool2d", (X, 2), {"padding": "same"}),
    "padding of half of the dilated window": ("max_pool2d", (X, 3, 1, 2, 2), {}),
    "padding of a norm": ("lp_pool2d", (X, 2, 3), {"padding": 1}),
    "dilated mean": ("avg_pool2d", (X, 2), {"dilation": 2}),
    "divisor in one dimension": ("avg_pool1d", (X[0], 2), {"divisor_override": 3}),
    "3-D mean over the end of a smaller image": ("avg_pool3d", (np.ones((1, 1, 2, 2, 2)), 3), {"ceil_mode": True}),
    "adaptive maximum of integers": ("adaptive_max_pool2d", (X.astype("int64"), 2), {}),
    "unpooling of integers": ("max_unpool2d", (P.astype("int64"), AT, 2), {}),
    "index -1 is no place": ("max_unpool2d", (P, AT - 2, 2), {}),
}
NARROWER = {  # what PyTorch computes and we refuse, on purpose
    "mean of integers, rounded down": ("avg_pool2d", (X.astype("int64"), 2), {}),
    "norm of integers": ("lp_pool2d", (X.astype("int64"), 2, 2), {}),
    "power below 0": ("lp_pool2d", (X, -1, 2), {}),
    "adaptive size of 0": ("adaptive_max_pool2d", (X, 0), {}),
}


def in_torch(name, args, options):
    tensors = [torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in args]
    return getattr(functional, name)(*tensors, **options)


@pytest.mark.parametrize(("name", "args", "options"), REFUSED.values(), ids=REFUSED)
def test_refused_by_both(name, args, options):
    with pytest.raises((RuntimeError, ValueError, TypeError, ZeroDivisionError, NotImplementedError)):
        in_torch(name, args, options)
    with pytest.raises((ValueError, TypeError)):
        getattr(fastconv, name)(*args, **options)


@pytest.mark.parametrize(("name", "args", "options"), EXTENSIONS.values(), ids=EXTENSIONS)
def test_extension(name, args, options):
    with pytest.raises((RuntimeError, ValueError, TypeError, NotImplementedError)):
        in_torch(name, args, options)
    getattr(fastconv, name)(*args, **options)


@pytest.mark.parametrize(("name", "args", "options"), NARROWER.values(), ids=NARROWER)
def test_narrower(name, args, options):
    in_torch(name, args, options)
    with pytest.raises((ValueError, TypeError)):
        getattr(fastconv, name)(*args, **options)
