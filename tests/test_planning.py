"""Plans and explanations: frozen decisions, one source of refusals, never a silent fallback."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from oracle import assert_close, reference

import fastconv
from fastconv import registry
from fastconv.errors import BackendUnavailable, UnsupportedConv
from fastconv.spec import parse_layer

NAMES = [b.name for b in registry.BACKENDS]
REFUSED = {  # each capability once: a layer, and what its refusal says
    "ic2ih9oc2k5": "needs a kernel of 3x3, 1x3, 3x1, 1x5 or 5x1; got 5x5",
    "ic2iw9oc2k4": "needs a kernel of 3 or 5; got 4",
    "ic2ih9oc2k3s2": "needs stride 1; got 2x2",
    "ic2id9oc2k3": "needs 1 or 2 spatial axes; got 3",
}


@pytest.fixture
def arrays(rng):
    x, w = rng.standard_normal((2, 4, 9, 10)).astype("float32"), rng.standard_normal((6, 4, 3, 3)).astype("float32")
    return x, w, rng.standard_normal(6).astype("float32")


@pytest.fixture
def missing(monkeypatch):
    """A registry whose numba needs a module that nobody has."""
    rows = [
        replace(b, requires="no_such_module", remedy="run 'pip install it'") if b.name == "numba" else b
        for b in registry.BACKENDS
    ]
    monkeypatch.setattr(registry, "BACKENDS", rows)


@pytest.mark.parametrize("field", ["backend", "problem", "state", "x_shape", "bias", "anything"])
def test_plan_is_frozen(arrays, field):
    plan = fastconv.plan(arrays[1], arrays[0].shape)
    with pytest.raises((FrozenInstanceError, TypeError)):
        setattr(plan, field, None)


def test_bias_of_a_plan_is_read_only(arrays):
    x, w, bias = arrays
    plan = fastconv.plan(w, x.shape, bias)
    with pytest.raises(ValueError, match="read-only"):
        plan.bias[0] = 5


def test_plan_does_not_see_later_changes_to_weights_and_bias(backend, arrays):
    x, w, bias = arrays
    plan = fastconv.plan(w, x.shape, bias, backend=backend)
    before = plan(x)
    w[...], bias[...] = 0, 0
    np.testing.assert_allclose(plan(x), before, rtol=1e-6, atol=1e-6)


def test_one_shot_call_sees_weights_changed_in_place(backend, arrays):
    x, w, bias = arrays
    fastconv.conv2d(x, w, bias, backend=backend)
    w[...], bias[...] = 0, 3
    np.testing.assert_allclose(fastconv.conv2d(x, w, bias, backend=backend), 3, atol=1e-6)


def test_inputs_are_left_alone(backend, arrays):
    copies = [a.copy() for a in arrays]
    fastconv.conv2d(*arrays, padding=1, activation="relu", backend=backend)
    fastconv.plan(arrays[1], arrays[0].shape, arrays[2], backend=backend)(arrays[0])
    assert all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))


def test_for_shape_shares_the_weights(arrays):
    x, w, _ = arrays
    plan = fastconv.plan(w, x.shape)
    assert plan.for_shape((1, 4, 20, 30)).state is plan.state


def test_for_shape_computes_the_same_layer(backend, arrays, rng):
    x, w, bias = arrays
    plan = fastconv.plan(w, x.shape, bias, padding=1, backend=backend)
    for shape in [(1, 4, 5, 6), (3, 4, 9, 10), (1, 4, 17, 33)]:
        other = rng.standard_normal(shape).astype("float32")
        assert_close(plan.for_shape(shape)(other), reference(other, w, bias, padding=1), 1e-4)


def test_for_shape_leaves_the_plan_as_it_was(arrays):
    x, w, _ = arrays
    plan = fastconv.plan(w, x.shape)
    plan.for_shape((1, 4, 5, 5))
    assert plan.x_shape == x.shape and plan.out_shape == (2, 6, 7, 8)


def test_plan_called_from_8_python_threads_at_once(backend, arrays):
    x, w, bias = arrays
    plan = fastconv.plan(w, x.shape, bias, padding=1, backend=backend)
    inputs = [x * (i + 1) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda a: [plan(a, threads=2) for _ in range(5)], inputs))
    for image, several in zip(inputs, results, strict=True):
        right = reference(image, w, bias, padding=1)
        for result in several:
            assert_close(result, right, 1e-5 * np.abs(right).max())


def test_one_shot_calls_from_8_python_threads_at_once(backend, arrays):
    x, w, _ = arrays
    right = reference(x, w, padding=1)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(fastconv.conv2d, x, w, padding=1, backend=backend, threads=2) for _ in range(24)]
    for call in calls:
        assert_close(call.result(), right, 1e-5 * np.abs(right).max())


def test_plan_prints_what_it_is(arrays):
    text = repr(fastconv.plan(arrays[1], arrays[0].shape, backend="im2col"))
    assert all(word in text for word in ("ic4", "'im2col'", "'columns'", "GFLOP", "bytes"))


def test_explain_has_a_row_for_every_backend(arrays):
    explanation = fastconv.explain(*arrays)
    assert sorted(row.backend for row in explanation.rows) == sorted(NAMES)
    assert all(name in str(explanation) for name in NAMES)
    assert all(row.because for row in explanation.rows)


def test_explain_marks_one_backend_chosen_and_it_runs(arrays):
    explanation = fastconv.explain(*arrays)
    assert [row.backend for row in explanation.rows if row.verdict == "chosen"] == [explanation.chosen]
    assert fastconv.plan(arrays[1], arrays[0].shape).backend == explanation.chosen


def test_explain_takes_a_shape_or_an_array(arrays):
    x, w, bias = arrays
    assert fastconv.explain(x, w, bias).to_dict() == fastconv.explain(x.shape, w, bias).to_dict()


def test_explain_as_plain_data(arrays):
    data = json.loads(json.dumps(fastconv.explain(*arrays).to_dict(), allow_nan=False))
    assert data["layer"] == "n2ic4ih9iw10oc6k3"
    assert data["output_shape"] == [2, 6, 7, 8]
    assert {row["backend"] for row in data["backends"]} == set(NAMES)


@pytest.mark.parametrize(("layer", "reason"), REFUSED.items())
def test_refusals_come_from_why_not(layer, reason):
    winograd = registry.find("winograd")
    assert registry.why_not(winograd.capabilities, parse_layer(layer)) == reason
    row = next(r for r in fastconv.api.explain_spec(parse_layer(layer)).rows if r.backend == "winograd")
    assert (row.verdict, row.because) == ("refused", reason)


def test_refused_layer_raises_with_reason_and_those_that_can(arrays):
    x, w, _ = arrays
    with pytest.raises(UnsupportedConv) as caught:
        fastconv.conv2d(x, w, stride=2, backend="winograd")
    assert str(caught.value).startswith("backend 'winograd' needs stride 1; got 2x2. Backends that can: ")
    assert "naive" in caught.value.able and "winograd" not in caught.value.able


@pytest.mark.parametrize("name", [b.name for b in registry.BACKENDS if "exact" not in b.capabilities.accurate])
def test_exact_leaves_out_what_is_not_a_direct_sum(arrays, name):
    x, w, _ = arrays
    with pytest.raises(UnsupportedConv, match="offers accuracy high or fast; got exact"):
        fastconv.conv2d(x, w, accuracy="exact", backend=name)
    assert fastconv.plan(w, x.shape, accuracy="exact").backend != name


def test_missing_backend_raises_with_the_command_that_brings_it(arrays, missing):
    with pytest.raises(BackendUnavailable) as caught:
        fastconv.conv2d(arrays[0], arrays[1], backend="numba")
    assert "no_such_module is not installed; run 'pip install it'" in str(caught.value)
    assert "naive" in caught.value.able and "numba" not in caught.value.able


def test_missing_backend_is_passed_over_by_auto(arrays, missing):
    explanation = fastconv.explain(*arrays)
    row = next(r for r in explanation.rows if r.backend == "numba")
    assert row.verdict == "missing" and "pip install it" in row.because
    assert explanation.chosen != "numba"
    assert fastconv.conv2d(*arrays).shape == (2, 6, 7, 8)


def test_missing_backend_is_named_where_another_is_unknown(arrays, missing):
    with pytest.raises(ValueError, match=r"numba \(not available: no_such_module is not installed"):
        fastconv.conv2d(*arrays, backend="mkl")


def test_backend_whose_module_does_not_load_is_unavailable(arrays, monkeypatch):
    broken = registry.Backend("broken", "fastconv.backends.no_such_file", "", registry.Capabilities())
    monkeypatch.setattr(registry, "BACKENDS", [broken, *registry.BACKENDS])
    with pytest.raises(BackendUnavailable, match="no_such_file does not load"):
        fastconv.conv2d(*arrays, backend="broken")
    assert fastconv.explain(*arrays).chosen != "broken"


def test_max_workspace_is_respected_and_chunks_give_the_same_result(arrays):
    x, w, bias = arrays
    right = reference(*arrays, padding=1)
    whole = fastconv.plan(w, x.shape, bias, padding=1, backend="im2col")
    small = fastconv.plan(w, x.shape, bias, padding=1, backend="im2col", max_workspace=whole.workspace_bytes // 7)
    assert small.workspace_bytes <= whole.workspace_bytes // 7
    assert_close(small(x), right, 1e-4)


def test_max_workspace_that_no_column_fits_is_refused_by_name(arrays):
    with pytest.raises(UnsupportedConv, match=r"'im2col' needs \d+ bytes of workspace; got max_workspace=10"):
        fastconv.conv2d(*arrays, backend="im2col", max_workspace=10)


def test_auto_keeps_to_max_workspace(arrays):
    explanation = fastconv.explain(*arrays, max_workspace=0)
    assert next(r for r in explanation.rows if r.verdict == "chosen").workspace_bytes == 0
    assert_close(fastconv.conv2d(*arrays, max_workspace=0), reference(*arrays), 1e-4)


@pytest.mark.parametrize("kind", [UnsupportedConv, BackendUnavailable])
def test_errors_survive_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("fft", "is away", ("naive",))))
    assert type(error) is kind
    assert (error.backend, error.reason, error.able) == ("fft", "is away", ("naive",))
    assert "naive" in str(error)
