"""Every backend x every problem of the shared table x numbers of threads, against the oracle.

What a backend refuses by `why_not` is left out, and counted: the last tests compare what ran with
what the table promises. Exclusions live in `fastconv.bench.cases.EXCLUSIONS` alone.
"""

import os
from collections import Counter
from functools import cache

import numpy as np
import pytest
from oracle import assert_close, reference, wrap

import fastconv
from fastconv import registry
from fastconv.bench.cases import BACKEND_NAMES, EXCLUSIONS, PROBLEMS, arrays

THREADS = range(1, 9)
DIRECT = [b.name for b in registry.BACKENDS if "exact" in b.capabilities.accurate]
CAPABLE = {b.name: [p for p in PROBLEMS if registry.why_not(b.capabilities, p.spec) is None] for b in registry.BACKENDS}
RAN = Counter()


def pairs(names, problems=PROBLEMS):
    """Parameters (backend, problem) for everything that the named backends do not refuse."""
    return pytest.mark.parametrize(
        ("name", "problem"),
        [
            pytest.param(name, problem, id=f"{name}-{problem.name}")
            for name in names
            for problem in CAPABLE[name]
            if problem in problems and (name, problem.name) not in EXCLUSIONS
        ],
    )


@pytest.fixture(autouse=True)
def _skip_missing(request):
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    if name and (missing := registry.find(name).missing()):
        pytest.skip(f"{name}: {missing}")


@cache
def expected(problem, whole):
    """The arrays of a problem and their reference."""
    spec, data = problem.spec, arrays(problem, whole=whole)
    options = {name: problem.options[name] for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
    result = reference(
        data.x, data.w, data.bias, residual=data.residual, activation=problem.options["activation"],
        channels_last=spec.layout.endswith("C"), **options,
    )  # fmt: skip
    return data, wrap(result, spec.acc_dtype) if spec.acc_dtype.startswith(("int", "uint")) else result


def planned(name, problem, data):
    spec = problem.spec
    return fastconv.plan(data.w, data.x.shape, data.bias, dtype=spec.dtype, backend=name, **problem.options)


def called(name, problem, data, **how):
    function = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}[problem.spec.ndim]
    return function(data.x, data.w, data.bias, residual=data.residual, backend=name, **problem.options, **how)


def allowance(plan, data, right):
    """The plan's bound in absolute terms, and the roundings of epilogue and (in float64) oracle."""
    if right.dtype.kind != "f":
        return 0
    eps = np.finfo(plan.spec.acc_dtype).eps
    filters = np.abs(data.w.astype(np.float64)).reshape(len(data.w), -1).sum(1).max()
    sums = plan.error_bound * np.abs(data.x).max() * filters * (2 if plan.spec.dtype == "float64" else 1)
    added = sum(np.abs(a).max() for a in (data.bias, data.residual) if a is not None)
    return 1.13 * sums + 8 * eps * (np.abs(right).max() + added)  # 1.13: the steepest activation, gelu


@pairs(CAPABLE)
def test_random_data_within_the_bound_of_the_plan(name, problem):
    data, right = expected(problem, whole=False)
    plan = planned(name, problem, data)
    result = plan(data.x, residual=data.residual)
    assert result.dtype == problem.spec.acc_dtype
    assert_close(result, right, allowance(plan, data, right))
    RAN[name] += 1


@pairs(CAPABLE, [p for p in PROBLEMS if p.spec.dtype == "float32"])
def test_float32_within_1e_5_of_the_largest_value(name, problem):
    data, right = expected(problem, whole=False)
    assert_close(called(name, problem, data), right, 1e-5 * np.abs(right).max())


@pairs(DIRECT)
def test_direct_sums_of_whole_numbers_are_exact(name, problem):
    data, right = expected(problem, whole=True)
    linear = problem.options["activation"] in (None, "relu", "relu6") or problem.spec.dtype[0] != "f"
    result = called(name, problem, data, threads=2)
    if linear:
        assert np.array_equal(result, right)
    else:
        assert_close(result, right, 8 * np.finfo(problem.spec.acc_dtype).eps * np.abs(right).max())


@pairs(CAPABLE)
def test_threads_do_not_change_the_result(name, problem):
    data, right = expected(problem, whole=False)
    plan = planned(name, problem, data)
    alone = plan(data.x, residual=data.residual, threads=1)
    for threads in THREADS:
        result = plan(data.x, residual=data.residual, threads=threads)
        if registry.find(name).capabilities.reproducible:
            assert np.array_equal(result, alone), f"{threads} threads"
        assert_close(result, right, allowance(plan, data, right))


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("name", list(CAPABLE))
def test_every_thread_count_from_1_to_8(name, threads):
    problem = next(p for p in CAPABLE[name] if p.name == "plain-3x3")
    data, right = expected(problem, whole=False)
    assert_close(called(name, problem, data, threads=threads), right, 1e-5 * np.abs(right).max())


@pairs([b.name for b in registry.BACKENDS if b.capabilities.reproducible])
def test_one_shot_call_gives_the_bits_of_the_plan(name, problem):
    data, _ = expected(problem, whole=False)
    by_plan = planned(name, problem, data)(data.x, residual=data.residual, threads=1)
    assert np.array_equal(called(name, problem, data, threads=2), by_plan)


@pairs([b.name for b in registry.BACKENDS if b.capabilities.reproducible], [p for p in PROBLEMS if p.spec.n > 1])
def test_image_alone_gives_the_bits_that_it_has_in_a_batch(name, problem):
    data, _ = expected(problem, whole=False)
    plan = planned(name, problem, data)
    batch = plan(data.x, residual=data.residual, threads=2)
    single = plan.for_shape((1, *data.x.shape[1:]))
    for i in range(problem.spec.n):
        residual = None if data.residual is None else data.residual[i : i + 1]
        assert np.array_equal(single(data.x[i : i + 1], residual=residual)[0], batch[i])


def test_cases_name_every_backend_of_the_registry():
    assert set(BACKEND_NAMES) == {b.name for b in registry.BACKENDS}


def test_exclusions_name_real_pairs_and_say_why():
    names = {p.name for p in PROBLEMS}
    for (name, problem), why in EXCLUSIONS.items():
        assert name in BACKEND_NAMES and problem in names and why


def test_problem_names_are_unique():
    assert [name for name, times in Counter(p.name for p in PROBLEMS).items() if times > 1] == []


@pytest.mark.parametrize("name", list(CAPABLE))
def test_backends_take_the_problems_that_they_must(name):
    floats = [p for p in PROBLEMS if p.spec.dtype.startswith("float")]
    least = {
        "naive": PROBLEMS,
        "im2col": PROBLEMS,
        "cython": floats,
        "numba": floats,
        "winograd": [p for p in floats if p.spec.kernel_size == (3, 3) and p.spec.stride == p.spec.dilation == (1, 1)
                     and p.accuracy != "exact"],
        "fft": [p for p in floats if p.accuracy != "exact" and set(p.spec.stride) == {1}],
    }  # fmt: skip
    assert {p.name for p in least.get(name, ())} <= {p.name for p in CAPABLE[name]}


@pytest.mark.parametrize("name", list(CAPABLE))
def test_everything_that_was_asked_for_really_ran(name, request):
    if os.environ.get("PYTEST_XDIST_WORKER"):
        pytest.skip("the count is of one process; xdist splits the tests over several")
    first = test_random_data_within_the_bound_of_the_plan
    asked = [item for item in request.session.items if getattr(item, "function", None) is first]
    if len(asked) < sum(map(len, CAPABLE.values())) - len(EXCLUSIONS):
        pytest.skip("only a part of the tests was selected")
    allowed = sum(1 for p in CAPABLE[name] if (name, p.name) in EXCLUSIONS)
    assert RAN[name] == len(CAPABLE[name]) - allowed
