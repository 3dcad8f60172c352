"""The number of threads: who has the last word, bad values, and life after a fork."""

import os
import subprocess
import sys

import pytest

import fastconv
from fastconv import registry, threads


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """No number set by environment or process; whatever a test sets is undone."""
    monkeypatch.delenv("FASTCONV_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_process", [])


def test_default_is_the_cores_that_this_process_may_use():
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert fastconv.get_num_threads() == expected


@pytest.mark.parametrize(("value", "number"), [("3", 3), (" 5 ", 5), ("4,2", 4)])
def test_omp_num_threads(monkeypatch, value, number):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert fastconv.get_num_threads() == number


@pytest.mark.parametrize("value", ["", "many", "0", "-2", "1.5"])
def test_bad_omp_num_threads_is_not_ours_to_judge(monkeypatch, value):
    default = fastconv.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert fastconv.get_num_threads() == default


def test_own_variable_beats_openmp(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "5")
    assert fastconv.get_num_threads() == 5


def test_empty_own_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("FASTCONV_NUM_THREADS", " ")
    assert fastconv.get_num_threads() == 3


@pytest.mark.parametrize("value", ["many", "0", "-2", "1.5", "2,2"])
def test_bad_own_variable_is_an_error_that_names_it(monkeypatch, value):
    monkeypatch.setenv("FASTCONV_NUM_THREADS", value)
    with pytest.raises(ValueError, match=f"FASTCONV_NUM_THREADS='{value}' must be a whole number of at least 1"):
        fastconv.get_num_threads()


def test_set_num_threads_beats_the_environment(monkeypatch):
    monkeypatch.setenv("FASTCONV_NUM_THREADS", "5")
    fastconv.set_num_threads(7)
    assert fastconv.get_num_threads() == 7


def test_context_beats_set_num_threads_and_ends():
    fastconv.set_num_threads(7)
    with fastconv.num_threads(2):
        with fastconv.num_threads(3):
            assert fastconv.get_num_threads() == 3
        assert fastconv.get_num_threads() == 2
    assert fastconv.get_num_threads() == 7


def test_context_ends_with_an_exception_too():
    before = fastconv.get_num_threads()
    with pytest.raises(KeyError), fastconv.num_threads(before + 1):
        raise KeyError
    assert fastconv.get_num_threads() == before


def test_context_holds_in_this_python_thread_only():
    from threading import Thread

    seen = []
    with fastconv.num_threads(6):
        thread = Thread(target=lambda: seen.append(fastconv.get_num_threads()))
        thread.start()
        thread.join()
    assert seen == [fastconv.get_num_threads()]


def test_argument_of_the_call_beats_everything(monkeypatch):
    import numpy as np
    import toy_backend

    toy = registry.Backend("toy", "toy_backend", "", registry.Capabilities())
    monkeypatch.setattr(registry, "BACKENDS", [toy, *registry.BACKENDS])
    x = np.ones((1, 1, 4, 4))
    toy_backend.CALLS.clear()
    with fastconv.num_threads(2):
        fastconv.conv2d(x, x, backend="toy")
        fastconv.conv2d(x, x, backend="toy", threads=5)
    assert toy_backend.CALLS == [2, 5]


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
@pytest.mark.parametrize("setter", ["set_num_threads", "num_threads"])
def test_bad_numbers_are_refused_and_change_nothing(setter, value, error):
    before = fastconv.get_num_threads()
    with pytest.raises(error, match=f"n={value}"):
        fastconv.set_num_threads(value) if setter == "set_num_threads" else fastconv.num_threads(value).__enter__()
    assert fastconv.get_num_threads() == before


FORK = """
import os, signal, sys, time
import numpy as np
import fastconv

x, w = np.ones((1, 32, 40, 40), "float32"), np.ones((32, 32, 3, 3), "float32")
def right():
    y = fastconv.conv2d(x, w, backend=sys.argv[1], threads=2)
    return y.shape == (1, 32, 38, 38) and np.allclose(y, 288)

assert right() and right()
for nested in (False, True):
    child = os.fork()
    if not child:
        signal.alarm(60)
        good = right() and right()
        if nested:
            inner = os.fork()
            if not inner:
                signal.alarm(60)
                os._exit(0 if right() else 1)
            good = good and os.waitpid(inner, 0)[1] == 0
        os._exit(0 if good else 1)
    assert right()
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"the child ended with {status}"
assert right()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_child_computes(backend, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, backend],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


EXIT = """
import sys, threading
import numpy as np
import fastconv
x, w = np.ones((1, 8, 40, 40), "float32"), np.ones((8, 8, 3, 3), "float32")
def work():
    fastconv.conv2d(x, w, backend=sys.argv[1], threads=3)
several = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in several], [t.join() for t in several]
work()
"""


def test_process_ends_after_parallel_calls(backend, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EXIT, backend], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
