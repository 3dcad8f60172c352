"""Compiled kernels on disk: whatever becomes of the files, results are right, and a user is told."""

import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastconv

pytest.importorskip("numba", reason="numba is not installed")

import numba
from numba.core.caching import NullCache

from fastconv.kernels import numba_cache, numba_launch
from fastconv.kernels.numba_cache import DIGEST, KernelFiles

PACKAGE = Path(fastconv.__file__).parents[1]
WHOLE = """
import warnings, numpy, fastconv
rng = numpy.random.default_rng(0)
x, w = (rng.integers(-4, 5, shape).astype("float32") for shape in ((1, 20, 12, 12), (24, 20, 3, 3)))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for threads in (1, 2):
        y = fastconv.conv2d(x, w, padding=1, backend="numba", threads=threads)
assert (y == fastconv.conv2d(x, w, padding=1, backend="im2col")).all()
print(len(said), *(str(s.message) for s in said), sep="\\n")
"""
SHORT = """
from fastconv.kernels import numba_launch
shape = numba_launch.Shape(4, 2, 2, 4, 8, 4, False)
tile, panel = numba_launch.tile(shape, (1, 2, 1, 0), 1), numba_launch.panel(shape, 2)
assert tile.address and panel.address
print(0)
"""


@pytest.fixture
def files(tmp_path):
    return KernelFiles(str(tmp_path), "module.kernel-1.py3")


def start(cache, code=WHOLE):
    path = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "NUMBA_CACHE_DIR": str(cache), "NUMBA_NUM_THREADS": "2"}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment)  # fmt: skip


def finish(process):
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    count, *said = printed.splitlines()
    assert int(count) == len(said)
    return said


def test_a_kernel_comes_back_without_a_word(files):
    files.save(("sig", 1), {"code": b"abc"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert files.load(("sig", 1)) == {"code": b"abc"}
        assert files.load(("sig", 2)) is None


@pytest.mark.parametrize("length", [0, 1, DIGEST, 2 * DIGEST, 2 * DIGEST + 3, -1])
def test_a_file_that_was_cut_short_is_not_used(files, length):
    files.save("key", "code" * 100)
    path = files.path("key")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(RuntimeWarning, match=f"{path.name} is not used: it is damaged, .* compiled again"):
        assert files.load("key") is None


@pytest.mark.parametrize("place", [DIGEST, 2 * DIGEST - 1, 2 * DIGEST, -1])
def test_one_changed_byte_is_seen(files, place):
    files.save("key", "code" * 100)
    found = bytearray(files.path("key").read_bytes())
    found[place] ^= 1
    files.path("key").write_bytes(found)
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert files.load("key") is None


def test_another_kernels_file_is_seen(files):
    files.save("key", "code")
    files.save("other", "other code")
    shutil.copy(files.path("other"), files.path("key"))
    with pytest.warns(RuntimeWarning, match="another kernel's"):
        assert files.load("key") is None
    assert files.load("other") == "other code"


def test_a_file_that_cannot_be_read_or_unpickled_is_said(files):
    files.path("key").mkdir()
    with pytest.warns(RuntimeWarning, match="is not used: Is a directory"):
        assert files.load("key") is None
    payload = pickle.dumps("code")[:-1]
    files.path("next").write_bytes(numba_cache.sources() + numba_cache._digest("next", payload) + payload)
    with pytest.warns(RuntimeWarning, match="is not used: pickle data was truncated"):
        assert files.load("next") is None


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    with pytest.warns(RuntimeWarning, match="cannot be kept in .*: No such file"):
        KernelFiles(str(tmp_path / "gone"), "name").save("key", "code")
    scope = {}
    exec("def kernel(): pass", scope)  # without a file, Numba knows no folder
    with pytest.warns(RuntimeWarning, match="no folder to keep the compiled kernel in.*NUMBA_CACHE_DIR"):
        kernel = numba_cache.kept(numba.njit(scope["kernel"]))
    assert isinstance(kernel._cache, NullCache) and kernel() is None


def test_flush_removes_the_kernels_of_one_function(files, tmp_path):
    other = KernelFiles(str(tmp_path), "module.other-1.py3")
    files.save("key", 1)
    other.save("key", 2)
    files.flush()
    assert files.load("key") is None and other.load("key") == 2


def test_a_change_in_any_module_makes_kernels_old(files, tmp_path, monkeypatch):
    files.save("key", "code")
    copy = tmp_path / "kernels"
    shutil.copytree(Path(numba_cache.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    monkeypatch.setattr(numba_cache, "__file__", str(copy / "numba_cache.py"))
    same = numba_cache.sources.__wrapped__()
    assert same == numba_cache.sources()
    with (copy / "vector_ir.py").open("a") as module:
        module.write("#")
    changed = numba_cache.sources.__wrapped__()
    assert changed != same
    monkeypatch.setattr(numba_cache, "sources", lambda: changed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is wrong, so nothing is said
        assert files.load("key") is None
    files.save("key", "new code")
    assert files.load("key") == "new code"


def test_damaged_kernels_are_compiled_again(tmp_path):
    assert finish(start(tmp_path)) == []
    kernels = sorted(tmp_path.rglob("*.fastconv"))
    whole = {path: path.read_bytes() for path in kernels}
    assert len(kernels) >= 5
    kernels[0].write_bytes(whole[kernels[0]][:1000])
    kernels[1].write_bytes(whole[kernels[2]])
    kernels[2].write_bytes(whole[kernels[1]])
    kernels[3].write_bytes(b"")
    kernels[4].unlink()
    said = finish(start(tmp_path))
    assert len(said) == 4 and all("compiled again" in line for line in said)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == kernels  # nothing else is left behind
    assert finish(start(tmp_path)) == []


def test_eight_processes_fill_one_folder(tmp_path):
    assert [finish(process) for process in [start(tmp_path, SHORT) for _ in range(8)]] == [[]] * 8
    kernels = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kernels) == 2 and {path.suffix for path in kernels} == {".fastconv"}
    hits = "print(tile.cache_hits, panel.cache_hits)\n"
    (line,) = finish(start(tmp_path, SHORT.replace("print(0)\n", "print(1)\n" + hits)))
    assert line == "1 1"


def test_image_sizes_share_a_handful_of_kernels():
    rng = np.random.default_rng(0)
    w = rng.integers(-4, 5, (40, 20, 3, 3)).astype("float32")
    kinds = numba_launch.loops, numba_launch.panel, numba_launch.tile
    for kind in kinds:
        kind.cache_clear()
    for size in range(3, 123):  # narrow ones have channels in the lanes, wide ones pixels
        x = rng.integers(-4, 5, (1 + size % 3, 20, size, 3 + size * 7 % 200)).astype("float32")
        fastconv.plan(w, x.shape, padding=size // 2 % 2, backend="numba")(x, threads=1 + size % 2)
    compiled = sum(kind.cache_info().currsize for kind in kinds)
    assert 0 < compiled <= 34, "of 120 image sizes"
    before = compiled
    for size in range(123, 163):
        x = np.zeros((1, 20, size, size + 31), "float32")
        fastconv.plan(w, x.shape, padding=1, backend="numba")(x)
    assert sum(kind.cache_info().currsize for kind in kinds) == before
