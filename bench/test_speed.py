"""pytest-benchmark over the named cases: ``pytest bench/ --benchmark-only --benchmark-group-by=param:case``.

One table for each case, backends as rows; poolings have the one row "auto". Not collected by an ordinary run of the
tests. asv imports this file too, at old commits and without pytest: whatever it needs is imported inside functions.
"""

from __future__ import annotations

from typing import Any

SLOW, SLOW_NAIVE = 5e9, 1e8
"""Operations beyond which one call takes seconds, and the same for naive's loops."""


def pytest_generate_tests(metafunc: Any) -> None:
    from fastconv.bench.cases import BACKEND_NAMES, CASES, STANDARD
    from fastconv.bench.contestants import AUTO

    names = {case.name for case in CASES} if metafunc.config.getoption("--cases") == "all" else STANDARD
    pairs = [
        (case.name, backend)
        for case in CASES
        if case.name in names
        for backend in ((AUTO, *BACKEND_NAMES) if case.op == "conv" else (AUTO,))
        if case.flops <= (SLOW_NAIVE if backend == "naive" else SLOW)
    ]
    metafunc.parametrize(("case", "backend"), pairs)


def test_call(benchmark: Any, case: str, backend: str) -> None:
    import pytest

    import fastconv
    from fastconv.bench import contestants, machine
    from fastconv.bench.cases import arrays, find

    problem, threads = find(case), fastconv.get_num_threads()
    if reason := contestants.missing(backend):
        pytest.skip(reason)
    try:
        ready = contestants.ready(backend, problem, arrays(problem), threads)
    except contestants.Refused as error:
        pytest.skip(str(error))
    benchmark(ready.call)
    if benchmark.stats is not None:  # None with --benchmark-disable
        benchmark.extra_info["gflops"] = problem.flops / benchmark.stats.stats.median / 1e9
    benchmark.extra_info["algorithm"] = ready.algorithm
    benchmark.extra_info["isa"] = machine.instruction_sets()["in_use"]
    benchmark.extra_info["threads"] = threads
