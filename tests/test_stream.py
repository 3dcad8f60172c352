"""Large results, which are written past the caches: the same bits, in whole lines and beside them."""

import numpy as np
import pytest

import fastconv
from fastconv import tuning

cython_tiled = pytest.importorskip("fastconv.adapters.cython_tiled", reason="the compiled extension is not installed")

LAYERS = {  # x, w, options
    "pixels": ((2, 3, 20, 48), (24, 3, 3, 3), {"padding": 1}),
    "pixels, askew": ((1, 5, 11, 53), (9, 5, 3, 3), {}),
    "channels": ((2, 40, 9, 17), (96, 40, 3, 3), {"padding": 1, "stride": 2}),
    "one tap": ((1, 70, 12, 24), (64, 70, 1, 1), {}),
    "blocks of channels": ((1, 130, 8, 16), (64, 130, 3, 3), {"padding": 1}),
    "windows": ((1, 3, 19, 96), (3, 1, 3, 3), {"padding": 1, "groups": 3}),
    "abreast": ((1, 80, 14, 15), (80, 1, 5, 5), {"padding": 2, "groups": 80}),
    "groups of four": ((1, 32, 16, 16), (32, 4, 3, 3), {"padding": 1, "groups": 8}),
}


@pytest.fixture
def streams(monkeypatch):
    monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    cython_tiled._layer.cache_clear()
    yield
    cython_tiled._layer.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_results_past_the_caches_are_the_same(isa, streams, rng, name, last, dtype):
    x_shape, w_shape, options = LAYERS[name]
    x, w = rng.integers(-4, 5, x_shape).astype(dtype), rng.integers(-4, 5, w_shape).astype(dtype)
    bias = rng.integers(-4, 5, w_shape[0]).astype(dtype)
    residual = rng.integers(-4, 5, fastconv.conv2d(x, w, backend="im2col", **options).shape).astype(dtype)
    for activation, added in [(None, None), ("relu", None), ("relu6", None), (None, residual)]:
        expected = fastconv.conv2d(x, w, bias, backend="im2col", activation=activation, residual=added, **options)
        if last:
            expected = np.moveaxis(expected, 1, -1)
            added = None if added is None else np.ascontiguousarray(np.moveaxis(added, 1, -1))
        given = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
        plan = fastconv.plan(w, given.shape, bias, backend="cython", activation=activation,
                             layout="NHWC" if last else "NCHW", **options)  # fmt: skip
        room = np.empty(expected.size + 64, dtype)
        for start in range(0, 64, 5):  # on a line's first element or another one
            out = room[start : start + expected.size].reshape(expected.shape)
            out[...] = 7
            plan(given, out=out, residual=added, threads=1 + start % 3)
            np.testing.assert_array_equal(out, expected)


def test_large_results_stream_and_small_ones_do_not(monkeypatch):
    seen = []
    layer = fastconv.adapters.compiled._compiled.Layer
    monkeypatch.setattr("fastconv.adapters.compiled._compiled.Layer",
                        lambda *given: seen.append(given[10]) or layer(*given))  # fmt: skip
    for size in (224, 112):
        cython_tiled._layer.cache_clear()
        fastconv.plan(np.ones((64, 3, 3, 3), "float32"), (1, 3, size, size), padding=1, backend="cython")
        assert set(seen) == {size == 224}
        seen.clear()
