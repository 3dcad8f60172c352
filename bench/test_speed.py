"""pytest-benchmark over the named cases: ``pytest bench/ --benchmark-only --benchmark-group-by=param:case``.

One table for each case, backends as rows. Not collected by an ordinary run of the tests. asv imports this
file too, in environments without pytest: it is imported inside a function.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import fastconv
from fastconv.bench import machine
from fastconv.bench.cases import BACKEND_NAMES, CASES, arrays, find

SLOW, SLOW_NAIVE = 5e9, 1e8  # operations; beyond, one call takes seconds


def pytest_generate_tests(metafunc: Any) -> None:
    pairs = [
        (case.name, backend)
        for case in CASES
        for backend in BACKEND_NAMES
        if case.spec.flops <= (SLOW_NAIVE if backend == "naive" else SLOW)
    ]
    metafunc.parametrize(("case", "backend"), pairs)


def test_plan(benchmark: Any, case: str, backend: str) -> None:
    problem = find(case)
    data = arrays(problem)
    try:
        plan = fastconv.plan(data.w, data.x.shape, data.bias, backend=backend, **problem.options)
    except (fastconv.UnsupportedConv, fastconv.BackendUnavailable) as error:
        import pytest

        pytest.skip(str(error))
    out = np.empty(plan.out_shape, plan.spec.acc_dtype)
    benchmark(partial(plan, data.x, out=out))
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["gflops"] = plan.spec.flops / benchmark.stats.stats.median / 1e9
    benchmark.extra_info["algorithm"] = plan.algorithm
    benchmark.extra_info["isa"] = machine.instruction_sets()["in_use"]
    benchmark.extra_info["threads"] = fastconv.get_num_threads()
