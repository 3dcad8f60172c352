"""Pools on several threads: the same bits, errors that come out, memory that stays bounded."""

import tracemalloc

import numpy as np
import pytest

import fastconv
from fastconv import grad as gradients
from fastconv import known, tuning
from fastconv.kernels.sharing import share
from fastconv.pooling import compiled, pieces

CALLS = {
    "max": lambda x, **o: fastconv.max_pool2d(x, 3, 2, 1, **o),
    "max with indices": lambda x, **o: fastconv.max_pool2d(x, 3, 2, 1, return_indices=True, **o)[1],
    "avg": lambda x, **o: fastconv.avg_pool2d(x, 3, 2, 1, **o),
    "lp": lambda x, **o: fastconv.lp_pool2d(x, 3, 3, 2, compat="onnx", **o),
    "adaptive avg": lambda x, **o: fastconv.adaptive_avg_pool2d(x, 7, **o),
    "adaptive max": lambda x, **o: fastconv.adaptive_max_pool2d(x, 7, True, **o)[1],
    "max gradient": lambda x, **o: gradients.max_pool2d_input(x, x[:, :, ::2, ::2].copy(), 3, 2, 1, **o),
    "avg gradient": lambda x, **o: gradients.avg_pool2d_input(x.shape, x[:, :, ::2, ::2].copy(), 3, 2, 1, **o),
    "lp gradient": lambda x, **o: gradients.lp_pool2d_input(
        x, x[:, :, ::2, ::2].copy(), 3, 3, 2, padding=1, compat="onnx", **o
    ),
    "adaptive avg gradient": lambda x, **o: gradients.adaptive_avg_pool2d_input((*x.shape[:2], 9, 8), x, **o),
    "adaptive max gradient": lambda x, **o: gradients.adaptive_max_pool2d_input(x, x[:, :, ::2, ::2].copy(), **o),
}


@pytest.fixture(params=["compiled", "numpy"])
def way(request, monkeypatch):
    """Pools by the compiled kernels, where these are installed, and by NumPy's passes."""
    if request.param == "numpy":
        monkeypatch.setattr(compiled, "ready", lambda *_: None)
        known.calls.clear()


@pytest.mark.parametrize("name", CALLS)
def test_threads_change_no_bit(rng, way, name):
    x = rng.standard_normal((3, 5, 30, 26)).astype("float32")
    one = CALLS[name](x, threads=1)
    for threads in (2, 3, 8):
        assert CALLS[name](x, threads=threads).tobytes() == one.tobytes()


@pytest.mark.parametrize("name", [name for name in CALLS if "adaptive avg" not in name])
@pytest.mark.parametrize("nbytes", [1, 700, 10_000, 10**9])
def test_the_cut_changes_no_number(rng, way, monkeypatch, name, nbytes):
    x = rng.standard_normal((3, 5, 30, 26))
    expected = CALLS[name](x)
    monkeypatch.setattr(tuning, "POOL_PIECE_BYTES", nbytes)
    np.testing.assert_array_equal(CALLS[name](x), expected)


@pytest.mark.parametrize("whole_planes", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("nbytes", [1, 100, 700, 3000, 10**6])
def test_pieces_cover_everything_once(monkeypatch, whole_planes, last, nbytes):
    monkeypatch.setattr(tuning, "POOL_PIECE_BYTES", nbytes)
    source = np.moveaxis(np.zeros((4, 6, 8, 5)), -1, 1) if last else np.zeros((4, 5, 6, 8))
    seen = np.zeros((4, 5, 3), int)
    for piece in pieces.cut(source, 3, whole_planes):
        seen[piece] += 1
        assert not whole_planes or piece.rows == slice(0, 3)
    assert (seen == 1).all()


def test_small_work_stays_on_one_thread(monkeypatch):
    monkeypatch.setattr(tuning, "POOL_PARALLEL_BYTES", 10**6)
    used = []
    monkeypatch.setattr(pieces, "share", lambda call, parts, threads: used.append(threads))
    x = np.zeros((4, 5, 60, 60), "int64")  # integers are NumPy's
    fastconv.max_pool2d(x, 2, threads=2)
    fastconv.max_pool2d(np.tile(x, (2, 1, 1, 1)), 2, threads=2)
    assert used == [1, 2]


def test_num_threads_counts(monkeypatch):
    used = []
    monkeypatch.setattr(pieces, "share", lambda call, parts, threads: used.append(threads))
    with fastconv.num_threads(3):
        fastconv.max_pool2d(np.zeros((4, 5, 60, 60), "int64"), 2)
    assert used == [3]


def test_an_error_on_a_thread_comes_out(rng):
    where = np.zeros((3, 5, 30, 26), "int64")
    where[2, 4, 29, 25] = 780
    with pytest.raises(ValueError, match="indices holds 780"):
        gradients.max_pool2d_input(rng.standard_normal(where.shape), np.ones(where.shape), 1, indices=where, threads=4)


def test_sharing_inside_a_shared_part():
    done = []
    share(lambda part: share(done.append, [part, part], 2), [1, 2, 3], 2)
    assert sorted(done) == [1, 1, 2, 2, 3, 3]


BOUNDED = [(name, (8, 16, 64, 64)) for name in CALLS if "adaptive" not in name]
BOUNDED += [
    (name, (1, 1, 700, 700)) for name in ("max", "max with indices", "avg", "lp")
]  # gradients: a plane at least


@pytest.mark.parametrize(("name", "shape"), BOUNDED)
def test_temporaries_are_bounded_by_pieces(rng, way, monkeypatch, name, shape):
    monkeypatch.setattr(tuning, "POOL_PIECE_BYTES", 64 * 1024)
    x = rng.standard_normal(shape)
    CALLS[name](x, threads=1)
    tracemalloc.start()
    result = CALLS[name](x, threads=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    copies = {"max with indices": result.nbytes}.get(name, x.nbytes // 4 if "gradient" in name else 0)
    assert peak - result.nbytes - copies < 14 * 64 * 1024 < x.nbytes / 2
