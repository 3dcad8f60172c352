"""What the benchmark stands on: cases, reference and arithmetic of the timing. Nothing here looks at a time."""

import ast
from pathlib import Path

import numpy as np

from fastconv.bench import cases, reference, timing


def contestant(log, name, seconds):
    """One that says that each call took ``seconds``, and writes down who ran."""

    def run(calls):
        log.append(name)
        return calls * seconds

    return run


def test_rounds_interleave_and_rotate():
    log = []
    both = {"a": contestant(log, "a", 0.004), "b": contestant(log, "b", 0.002)}
    *_, last = timing.rounds(both, 3, probe=lambda: 100.0)
    assert "".join(log) == "aabb" + "aabb" + "bbaa" + "aabb"  # calibration, then warm-up and timing of each
    assert last == {"a": timing.Series((0.004,) * 3, (100.0,) * 3), "b": timing.Series((0.002,) * 3, (100.0,) * 3)}
    assert timing.paired_ratios(last, "a") == {"a": (1.0, 1.0, 1.0), "b": (2.0, 2.0, 2.0)}


def test_a_slow_contestant_stops_at_its_budget():
    slow, fast = timing.BUDGET_SECONDS, timing.BUDGET_SECONDS / 100
    *_, last = timing.rounds({"slow": contestant([], "slow", slow), "fast": contestant([], "fast", fast)}, 9)
    assert (len(last["slow"].seconds), len(last["fast"].seconds)) == (2, 9)
    assert timing.paired_ratios(last, "slow")["fast"] == (100.0, 100.0, 100.0)


def test_percent_of_peak_pairs_each_round_with_its_own_probe():
    series = timing.Series((1.0, 2.0, 4.0), (10.0, 5.0, 2.5))
    assert series.percent_of_peak(5 * 10**9) == 50
    assert (series.best, series.median, series.quartiles) == (1.0, 2.0, (1.5, 3.0))
    assert timing.Series((1.0,)).percent_of_peak(1) is None


def test_the_reference_is_right_on_the_textbook_example():
    case = cases.Case("textbook", "ih3k2", "test", "d2l.ai, section 7.2", bias=False)
    x, w = np.arange(9.0).reshape(1, 1, 3, 3), np.arange(4.0).reshape(1, 1, 2, 2)
    assert reference.conv(x, w, None, case.spec).tolist() == [[[[19, 25], [37, 43]]]]


def test_cases_have_names_of_their_own_and_arrays_that_stay():
    every = (*cases.CASES, *cases.PROBLEMS)
    assert len({case.name for case in every}) == len(every)
    case = cases.find("tiny-8x16")
    first, again = cases.arrays(case), cases.arrays(case)
    assert np.array_equal(first.x, again.x) and np.array_equal(first.w, again.w)
    assert set(np.unique(cases.arrays(case, whole=True).x)) == set(range(-4, 5))


def test_asv_names_cases_and_backends_that_there_are():
    source = Path(__file__).parent.parent / "bench" / "bench_conv.py"
    named = {}
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id in ("CASES", "BACKENDS"):
            named[node.targets[0].id] = set(ast.literal_eval(node.value))
    assert named["CASES"] <= {case.name for case in cases.CASES}
    assert named["BACKENDS"] | {"naive"} == set(cases.BACKEND_NAMES)
