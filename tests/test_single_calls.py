"""A single call that comes again: quick, with the arrays of that call, and as strict as the first."""

import gc
import weakref

import numpy as np
import pytest
from oracle import assert_close, reference

import fastconv
from fastconv import known, registry


@pytest.fixture(autouse=True)
def nothing_known():
    known.calls.clear()


@pytest.fixture(params=["cython", "numba"])
def backend(request):
    if missing := registry.find(request.param).missing():
        pytest.skip(f"{request.param}: {missing}")
    return request.param


@pytest.mark.parametrize(
    "x_shape,w_shape,options",
    [
        ((2, 6, 9, 11), (8, 3, 3, 3), {"padding": 1, "groups": 2}),
        ((6, 9, 11), (8, 6, 3, 2), {"stride": (2, 1), "padding": ((0, 1), (2, 0)), "activation": "relu"}),
        ((9, 11), (3, 3), {"padding": "same", "activation": ("leaky_relu", 0.2)}),
        ((2, 9, 11, 6), (40, 6, 3, 3), {"layout": "NHWC", "dilation": 2, "padding_mode": "reflect", "padding": 1}),
        ((1, 40, 9, 11), (70, 40, 1, 1), {"threads": 2}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_call_computes_with_its_own_arrays(isa, backend, rng, x_shape, w_shape, options, dtype):
    plain = {k: v for k, v in options.items() if k not in ("activation", "threads", "layout")}
    for turn in range(3):
        x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
        bias = rng.standard_normal(w_shape[0] if len(w_shape) > 2 else 1).astype(dtype)
        found = fastconv.conv2d(x, w, bias, backend=backend, **options)
        assert (turn == 0) or any(known.calls.values()), "the second call should know the first"
        out = np.empty_like(found)
        assert fastconv.conv2d(x, w, bias, backend=backend, out=out, **options) is out
        plan_options = {k: v for k, v in options.items() if k != "threads"}
        plan = fastconv.plan(w, x_shape, bias, backend=backend, **plan_options)
        np.testing.assert_array_equal(found, plan(x))
        np.testing.assert_array_equal(found, out)
        if "activation" not in options and "layout" not in options:
            assert_close(found, reference(x, w, bias, **plain), 1e-4 if dtype == "float32" else 1e-12)


def test_no_weights_are_kept(backend, rng):
    x = rng.standard_normal((1, 4, 8, 8))
    for _ in range(2):
        w = rng.standard_normal((4, 4, 3, 3))
        fastconv.conv2d(x, w, backend=backend)
        seen = weakref.ref(w)
        del w
        gc.collect()
        assert seen() is None


def test_a_call_that_is_wrong_is_refused_though_a_right_one_came_before(backend, rng):
    x, w, bias = rng.standard_normal((1, 4, 8, 8)), rng.standard_normal((4, 4, 3, 3)), rng.standard_normal(4)
    for _ in range(2):
        fastconv.conv2d(x, w, bias, 1, 1, backend=backend)
    for options, error in [
        ({"stride": True}, TypeError),
        ({"stride": 1.0}, TypeError),
        ({"padding": "1"}, ValueError),
        ({"threads": 0}, ValueError),
        ({"threads": 1.0}, TypeError),
        ({"out": x}, ValueError),
        ({"out": np.empty((1, 4, 8, 7))}, ValueError),
        ({"out": np.empty((1, 4, 8, 8), "float32")}, TypeError),
        ({"bias": bias[:3]}, ValueError),
        ({"bias": bias.astype("float32")}, TypeError),
        ({"bias": list(bias)}, TypeError),
    ]:
        given = {"bias": bias, "stride": 1, "padding": 1} | options
        with pytest.raises(error):
            fastconv.conv2d(x, w, backend=backend, **given)
    with pytest.raises(TypeError):
        fastconv.conv2d(x, w.astype("float32"), bias, 1, 1, backend=backend)
    for target in (w, bias):
        room = np.zeros(256 + 144)
        inside = room[:256].reshape(1, 4, 8, 8)
        shared = room[250 : 250 + target.size].reshape(target.shape)
        with pytest.raises(ValueError, match="out"):
            fastconv.conv2d(x, *((shared, bias) if target is w else (w, shared)), 1, 1, backend=backend, out=inside)


def test_options_are_told_apart_by_what_they_are(backend, rng):
    class Liar(int):
        def __repr__(self):
            return "1"

    class Slope:
        def __init__(self, value):
            self.value = value

        def __float__(self):
            return self.value

        def __repr__(self):
            return "slope"

    x, w = rng.standard_normal((1, 4, 8, 8)), rng.standard_normal((4, 4, 3, 3))
    for _ in range(2):
        fastconv.conv2d(x, w, backend=backend, threads=1)
    assert fastconv.conv2d(x, w, None, Liar(2), backend=backend, threads=1).shape == (1, 4, 3, 3)
    with pytest.raises(ValueError, match="threads"):
        fastconv.conv2d(x, w, backend=backend, threads=Liar(0))
    stride = [1, 1]
    for step in (1, 2):
        stride[1] = step
        assert fastconv.conv2d(x, w, None, stride, backend=backend).shape[3] == 6 // step
    plain = fastconv.conv2d(x, w, backend=backend)
    for kind in (Slope, np.array):
        for number in (0.123456781, 0.123456784, 0.5):
            leaky = fastconv.conv2d(x, w, backend=backend, activation=("leaky_relu", kind(number)))
            np.testing.assert_array_equal(leaky, np.where(plain < 0, plain * number, plain))


def test_arrays_that_are_not_plain_give_the_same_result(backend, rng):
    x, w, bias = rng.standard_normal((1, 4, 8, 8)), rng.standard_normal((4, 4, 3, 3)), rng.standard_normal(4)
    expected = [fastconv.conv2d(x, w, bias, 1, 1, backend=backend) for _ in range(2)][1]
    for strange in (
        (x[:, :, ::-1].copy()[:, :, ::-1], w, bias),
        (x, w[::-1].copy()[::-1], bias),
        (x, np.asfortranarray(w), bias),
        (x, w, np.repeat(bias, 2)[::2]),
        (np.asfortranarray(x), w, bias),
    ):
        np.testing.assert_array_equal(fastconv.conv2d(*strange, 1, 1, backend=backend), expected)
    flipped = fastconv.conv2d(x, w, bias, 1, 1, backend=backend, flip_kernel=True)
    again = fastconv.conv2d(x, w, bias, 1, 1, backend=backend, flip_kernel=True)
    np.testing.assert_array_equal(flipped, again)
    assert_close(again, reference(x, w[:, :, ::-1, ::-1], bias, padding=1), 1e-12)


def test_what_is_known_is_bounded(backend, rng, monkeypatch):
    monkeypatch.setattr(fastconv.tuning, "KNOWN_CALLS", 3)
    w = rng.standard_normal((1, 1, 2, 2))
    for size in range(3, 12):
        fastconv.conv2d(rng.standard_normal((1, 1, size, size)), w, backend=backend)
        assert len(known.calls) <= 3
