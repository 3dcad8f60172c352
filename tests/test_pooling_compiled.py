"""Pools of the compiled kernels: the bits of NumPy's passes, and nothing read beyond x."""

import numpy as np
import pytest

import fastconv
from fastconv import known
from fastconv.pooling import compiled, pieces

pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")

POOLS = {1: (fastconv.max_pool1d, fastconv.avg_pool1d), 2: (fastconv.max_pool2d, fastconv.avg_pool2d),
         3: (fastconv.max_pool3d, fastconv.avg_pool3d)}  # fmt: skip


@pytest.fixture
def by_numpy(monkeypatch):
    """Calls a function with the compiled kernels out of the way."""

    def call(function, *args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "ready", lambda *_: None)
            known.calls.clear()
            result = function(*args, **options)
            known.calls.clear()
            return result

    return call


def _same_bits(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def _left(monkeypatch):
    """A list to which each further call that NumPy does adds an entry."""
    left, run = [], pieces.run
    monkeypatch.setattr(pieces, "run", lambda *args: left.append(run(*args)))
    known.calls.clear()
    return left


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "kernel,stride,dilation", [(1, 1, 1), (2, 2, 1), (3, 1, 1), (3, 2, 1), (2, 1, 3), (5, 3, 2), (7, 7, 1)]
)
def test_the_bits_of_numpy(isa, rng, fenced, by_numpy, monkeypatch, kernel, stride, dilation, dtype):
    for wide in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65, 130]:
        for padding in [(0, 0), (1, 1), (0, 2), (3, 1), (9, 0)]:
            if wide + sum(padding) < (kernel - 1) * dilation + 1:
                continue
            high = int(rng.integers(1, 9)) + (kernel - 1) * dilation
            x = rng.standard_normal((2, int(rng.choice([3, 9])), high, wide)).astype(dtype)
            pads, ceil = ((1, 0), padding), bool(rng.integers(2))
            for pool in POOLS[2]:
                options = {"compat": "onnx", "dilation": dilation, "ceil_mode": ceil}
                expected = by_numpy(pool, x, kernel, stride, pads, **options)
                left = _left(monkeypatch)
                for copy in fenced(x):
                    for threads in (1, 2, 3):
                        _same_bits(pool(copy, kernel, stride, pads, threads=threads, **options), expected)
                assert not left
                monkeypatch.undo()


@pytest.mark.parametrize("ndim", [1, 3])
def test_other_numbers_of_axes(isa, rng, by_numpy, ndim):
    for _ in range(30):
        shape = (2, 2, *rng.integers(4, 12, ndim))
        kernel, stride = tuple(rng.integers(1, 5, ndim).tolist()), tuple(rng.integers(1, 4, ndim).tolist())
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (ndim, 2)))
        x = rng.standard_normal(shape).astype("float32")
        for pool in POOLS[ndim]:
            expected = by_numpy(pool, x, kernel, stride, padding, compat="onnx")
            _same_bits(pool(x, kernel, stride, padding, compat="onnx"), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("wide", [5, 8, 40])
def test_values_that_are_not_finite(isa, rng, by_numpy, value, wide):
    for _ in range(20):
        x = rng.standard_normal((1, int(rng.choice([2, 17])), 9, wide)).astype("float32")
        x.reshape(-1)[rng.integers(0, x.size, 6)] = value
        x.reshape(-1)[rng.integers(0, x.size, 6)] = np.inf
        for pool in POOLS[2]:
            np.testing.assert_array_equal(pool(x, 3, 2, 1), by_numpy(pool, x, 3, 2, 1))


def test_arrays_of_other_strides(isa, rng, by_numpy):
    base = rng.standard_normal((4, 6, 20, 44)).astype("float32")
    views = [base[::-1], base[:, ::2], base[:, :, ::-1], base[:, :, 3::2, 5:37], np.broadcast_to(base[:1], base.shape),
             base.swapaxes(0, 1), base[..., ::2], base[..., ::-1]]  # fmt: skip
    for x in views:
        for pool in POOLS[2]:
            expected = by_numpy(pool, x, 3, 2, 1)
            _same_bits(pool(x, 3, 2, 1), expected)
            room = np.full((*expected.shape[:-1], 2 * expected.shape[-1]), 7, "float32")
            pool(x, 3, 2, 1, out=room[..., ::2])
            np.testing.assert_array_equal(room[..., ::2], expected)
            assert (room[..., 1::2] == 7).all()


@pytest.mark.parametrize("options", [{"count_include_pad": False}, {"divisor_override": 5}, {"divisor_override": -3}])
def test_divisors(isa, rng, by_numpy, options):
    x = rng.standard_normal((2, 3, 13, 22)).astype("float32")
    expected = by_numpy(fastconv.avg_pool2d, x, (3, 4), 2, 1, True, **options)
    _same_bits(fastconv.avg_pool2d(x, (3, 4), 2, 1, True, **options), expected)


def test_minus_zeros_and_empty_arrays(isa, by_numpy):
    x = np.full((1, 1, 6, 20), -0.0, "float32")
    _same_bits(fastconv.avg_pool2d(x, 2), by_numpy(fastconv.avg_pool2d, x, 2))
    for shape in [(0, 3, 6, 6), (2, 0, 6, 6)]:
        assert fastconv.max_pool2d(np.empty(shape, "float32"), 2).shape == (*shape[:2], 3, 3)


@pytest.mark.parametrize("shape", [(30, 14), (3, 9, 14), (2, 20, 9, 14)])
@pytest.mark.parametrize("pool", POOLS[2])
def test_calls_that_come_again(isa, rng, by_numpy, shape, pool):
    for _ in range(4):
        x = rng.standard_normal(shape).astype("float32")
        expected = by_numpy(pool, x, 3, 2, 1)
        _same_bits(pool(x, 3, 2, 1), expected)  # by_numpy forgets: the first
        assert any(known.calls.values())
        _same_bits(pool(x, 3, 2, 1), expected)  # and the one that comes again
        _same_bits(pool(x[..., ::-1], 3, 2, 1), by_numpy(pool, x[..., ::-1], 3, 2, 1))
        out = np.full_like(expected, 7)
        assert pool(x, 3, 2, 1, out=out) is out
        _same_bits(out, expected)
        with pytest.raises(ValueError, match="out has shape"):
            pool(x, 3, 2, 1, out=out[..., 1:])
        with pytest.raises(TypeError, match="out has dtype"):
            pool(x, 3, 2, 1, out=out.astype("float64"))
        with pytest.raises(ValueError, match="out shares memory with x"):
            pool(x, 3, 2, 1, out=x[tuple(slice(n) for n in expected.shape)])
        with pytest.raises(TypeError, match="kernel_size"):
            pool(x, 3.0, 2, 1)


@pytest.mark.parametrize("wanted", [1, (2, 7), (14, 1), (None, 2)])
def test_adaptive_bins_of_one_size(isa, rng, monkeypatch, wanted):
    left = _left(monkeypatch)
    for layout, axes in [("NCHW", (2, 3)), ("NHWC", (1, 2))]:
        x = rng.standard_normal((2, 20, 14, 14)).astype("float32")
        given = x if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
        mean = fastconv.adaptive_avg_pool2d(given, wanted, layout=layout)
        most = fastconv.adaptive_max_pool2d(given, wanted, layout=layout)
        high, wide = (mean.shape[axis] for axis in axes)
        bins = x.astype("float64").reshape(2, 20, high, 14 // high, wide, 14 // wide)
        if layout == "NHWC":
            mean, most = np.moveaxis(mean, -1, 1), np.moveaxis(most, -1, 1)
        np.testing.assert_allclose(mean, bins.mean((3, 5)), rtol=0, atol=1e-6)
        np.testing.assert_array_equal(most, bins.max((3, 5)))
        assert len(left) == (0 if layout == "NCHW" else 2)


def test_integers_stay_with_numpy(rng, monkeypatch):
    left = _left(monkeypatch)
    fastconv.max_pool2d(rng.integers(0, 9, (1, 1, 6, 6)), 2)
    assert len(left) == 1
