"""One line in the registry is all that a new backend needs."""

import pytest
import toy_backend
from oracle import assert_close, reference

import fastconv
from fastconv import registry
from fastconv.errors import UnsupportedConv

LINE = registry.Backend("toy", "toy_backend", "slices", registry.Capabilities(ndim=(1, 2), dilation=1))


@pytest.fixture
def toy(monkeypatch):
    """The registry with one line more, in front."""
    monkeypatch.setattr(registry, "BACKENDS", [LINE, *registry.BACKENDS])


@pytest.fixture
def arrays(rng):
    x, w = rng.standard_normal((2, 3, 7, 8)), rng.standard_normal((4, 3, 3, 2))
    return x, w, rng.standard_normal(4)


def test_runs_through_conv2d(toy, arrays):
    result = fastconv.conv2d(*arrays, padding=1, stride=2, activation="relu", backend="toy")
    assert_close(result, reference(*arrays, padding=1, stride=2, activation="relu"), 1e-12)


def test_runs_through_plan(toy, arrays):
    x, w, bias = arrays
    plan = fastconv.plan(w, x.shape, bias, layout="NCHW", backend="toy")
    with fastconv.num_threads(3):
        assert (plan.backend, plan.algorithm, plan.workspace_bytes, plan.error_bound) == ("toy", "toy", 3000, 1e-3)
    assert_close(plan(x), reference(*arrays), 1e-12)


def test_auto_takes_it_first(toy, arrays):
    toy_backend.CALLS.clear()
    fastconv.conv2d(*arrays, threads=3)
    assert toy_backend.CALLS == [3]


def test_shows_in_explain(toy, arrays):
    explanation = fastconv.explain(*arrays)
    row = explanation.rows[0]
    assert (row.backend, row.verdict, row.because, row.algorithm) == ("toy", "chosen", "slices", "toy")
    assert "toy" in str(explanation)


def test_its_refusal_is_worded_from_its_capabilities(toy, arrays):
    x, w, _ = arrays
    with pytest.raises(UnsupportedConv, match="backend 'toy' needs dilation 1; got 2x2. Backends that can: .*naive"):
        fastconv.conv2d(x, w, dilation=2, backend="toy")


def test_auto_passes_it_over_where_it_refuses(toy, arrays):
    x, w, _ = arrays
    toy_backend.CALLS.clear()
    assert_close(fastconv.conv2d(x, w, dilation=2), reference(x, w, dilation=2), 1e-9)
    assert toy_backend.CALLS == []


def test_call_on_more_threads_than_max_workspace_allows_is_refused(toy, arrays):
    x, w, _ = arrays
    with fastconv.num_threads(1):
        plan = fastconv.plan(w, x.shape, backend="toy", max_workspace=2000)
    assert_close(plan(x, threads=2), reference(x, w), 1e-12)
    with pytest.raises(
        UnsupportedConv, match="'toy' needs 3,000 bytes of workspace on 3 threads; got max_workspace=2,000"
    ):
        plan(x, threads=3)


@pytest.mark.parametrize(("threads", "calls"), [(1, [1]), (3, [])])
def test_auto_judges_the_workspace_by_the_threads_of_the_call(toy, arrays, threads, calls):
    x, w, _ = arrays
    toy_backend.CALLS.clear()
    with fastconv.num_threads(2):
        result = fastconv.conv2d(x, w, max_workspace=1000, threads=threads)
    assert_close(result, reference(x, w), 1e-9)
    assert calls == toy_backend.CALLS


def test_unknown_backend_lists_it(toy, arrays):
    with pytest.raises(ValueError, match="choose 'auto' or one of: toy, "):
        fastconv.conv2d(*arrays, backend="none")


def test_is_gone_without_the_line(arrays):
    with pytest.raises(ValueError, match="backend='toy' is unknown"):
        fastconv.conv2d(*arrays, backend="toy")
