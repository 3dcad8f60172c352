"""A single call packs its weights in parts: the bits of a plan, whatever the parts, and nothing kept."""

import numpy as np
import pytest
from lane_layers import LAYERS

import fastconv
from fastconv import known, tuning
from fastconv.spec import Epilogue, Problem, parse_layer

pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")

from fastconv.adapters import cython_tiled  # noqa: E402


@pytest.fixture
def parts(monkeypatch):
    """Pack at most so many bytes a thread at a time."""

    def use(nbytes):
        monkeypatch.setattr(tuning, "PACK_BYTES", nbytes)
        cython_tiled._layer.cache_clear()
        known.calls.clear()

    yield use
    cython_tiled._layer.cache_clear()
    known.calls.clear()


@pytest.mark.parametrize("text", LAYERS + ["g4ic24ih9oc80k3p1", "g3ic9ih5oc9k3", "ic20ih9oc200k3p1", "n3ic9ih2oc70k1"])
def test_calls_in_parts_give_the_bits_of_a_plan(isa, parts, rng, text):
    spec = parse_layer(text)
    x, w = rng.standard_normal(spec.x_shape), rng.standard_normal(spec.w_shape)
    options = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g}
    options |= {"activation": "relu", "backend": "cython"}
    bias, conv = rng.standard_normal(spec.oc), (fastconv.conv1d, fastconv.conv2d, fastconv.conv3d)[spec.ndim - 1]
    plan = fastconv.plan(w, x.shape, bias, **options)
    residual = rng.standard_normal(plan.out_shape)
    for nbytes in (1, 5000, 40_000):
        parts(nbytes)
        for threads in (1, 3):
            np.testing.assert_array_equal(conv(x, w, bias, threads=threads, **options), plan(x))
            result = conv(x, w, bias, threads=threads, residual=residual, **options)
            np.testing.assert_array_equal(result, plan(x, residual=residual))


def test_weights_may_lie_in_any_way(isa, rng):
    x, w = rng.standard_normal((2, 12, 9, 10)), rng.standard_normal((40, 12, 3, 3))
    expected = fastconv.plan(w, x.shape, padding=1, backend="cython")(x)
    wide = np.zeros((80, 12, 3, 6))
    wide[1::2, :, :, ::2] = w
    for same in (np.asfortranarray(w), w[::-1, :, ::-1].copy()[::-1, :, ::-1], wide[1::2, :, :, ::2],
                 np.ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)):  # fmt: skip
        np.testing.assert_array_equal(fastconv.conv2d(x, same, padding=1, backend="cython"), expected)
    same = np.broadcast_to(w[:1], (40, 12, 3, 3))
    expected = fastconv.plan(same.copy(), x.shape, backend="cython")(x)
    np.testing.assert_array_equal(fastconv.conv2d(x, same, backend="cython"), expected)


def test_weights_that_are_not_finite_are_seen_in_their_call_only(isa, parts, rng):
    x, w = rng.standard_normal((1, 20, 7, 7)), rng.standard_normal((70, 20, 3, 3))
    for nbytes in (1, 10**9):
        parts(nbytes)
        clean = fastconv.conv2d(x, w, padding=1, backend="cython")
        for place in ((0, 0, 0, 0), (69, 19, 2, 2), (33, 7, 1, 0)):
            bad = w.copy()
            bad[place] = np.inf
            result = fastconv.conv2d(x, bad, padding=1, backend="cython")
            edge = np.zeros((7, 7), bool)  # where the tap lies in the padding: infinity times zero
            rows, cols = ({0: [0], 1: [], 2: [6]}[tap] for tap in place[2:])
            edge[rows, :] = edge[:, cols] = True
            np.testing.assert_array_equal(np.isnan(result[0, place[0]]), edge)
            others = np.arange(70) != place[0]
            np.testing.assert_array_equal(result[0, others], clean[0, others])
            np.testing.assert_array_equal(fastconv.conv2d(x, w, padding=1, backend="cython"), clean)


def test_what_a_call_packs_is_part_of_its_workspace():
    spec = parse_layer("ic512ih7oc512k3p1")
    problem = Problem(spec, Epilogue(), cython_tiled.algorithm(spec), None)
    for threads in (1, 2):
        assert threads * tuning.PACK_BYTES < cython_tiled.workspace_bytes(problem, threads) <= threads * 2**21
