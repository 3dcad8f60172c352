"""What the benchmark stands on: ratios, probes, processes, documents. Nothing here looks at a time."""

import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastconv.bench import cases, contest, contestants, probes, processes, ratios, reference, report, tables
from fastconv.bench.case import arrays
from fastconv.bench.problems import PROBLEMS
from fastconv.caches import caches

QUIET = [(100.0, 100.0)] * 8


def test_an_interval_holds_the_median_and_tightens_with_agreement():
    rng = np.random.default_rng(1)
    wide, tight = (ratios.interval(list(1.5 + width * rng.standard_normal(30))) for width in (0.3, 0.01))
    assert wide.low <= wide.median <= wide.high and tight.low <= tight.median <= tight.high
    assert tight.high - tight.low < 0.1 * (wide.high - wide.low)
    assert tight.verdict(1.4) == "ahead" and tight.verdict(1.6) == "behind" and wide.verdict(wide.median) == "undecided"


def test_the_interval_covers_the_true_median_as_often_as_it_says():
    rng = np.random.default_rng(2)
    found = [ratios.interval(list(rng.lognormal(0.0, 0.2, 30))) for _ in range(200)]
    assert 0.88 <= sum(r.low <= 1.0 <= r.high for r in found) / 200 <= 0.99


def test_a_few_rounds_have_no_interval():
    assert ratios.interval([2.0] * 5).verdict() == "undecided"
    assert ratios.interval([2.0] * 6).verdict() == "ahead"


def test_the_best_rival_is_not_scored_on_the_rounds_it_was_picked_by():
    lucky = [0.5, 2.0] * 10  # fast whenever it counts for being picked
    steady = [1.0, 1.0] * 10
    name, ratio = ratios.against_best([1.0] * 20, {"lucky": lucky, "steady": steady})
    assert (name, ratio.median) == ("lucky", 2.0)


def test_a_rival_that_sat_out_rounds_is_paired_on_those_it_ran():
    slow = [4.0, None, None, 5.0, None, None]
    assert ratios.paired([2.0] * 6, slow) == [2.0, 2.5]
    assert ratios.against_best([2.0] * 6, {"absent": [None] * 6}) is None


@pytest.mark.parametrize("spoil, kept", [({}, 8), ({3: (100.0, 85.0)}, 7), ({0: (89.0, 100.0), 5: (80.0, 80.0)}, 6)])
def test_rounds_are_dropped_by_the_probe(spoil, kept):
    around = [spoil.get(i, both) for i, both in enumerate(QUIET)]
    marks = ratios.undisturbed(around, [0.0] * 8)
    assert sum(marks) == kept and not any(marks[i] for i in spoil)


def test_rounds_are_dropped_by_stolen_time_and_never_without_a_reason():
    assert ratios.undisturbed(QUIET, [0.0] * 7 + [0.01]) == [True] * 7 + [False]
    assert ratios.undisturbed([()] * 3, [0.0] * 3) == [True] * 3  # no extension, no probe


def sample(seconds, probe=100.0, stolen=0.0, bandwidth=50.0):
    return contest.Sample(seconds, (probe, probe), bandwidth, stolen)


def test_when_hardly_a_round_is_quiet_all_count_and_the_entry_says_so():
    noisy = [sample(1.0, 100.0 if i < 3 else 50.0) for i in range(12)]
    assert contest._marks({"a": noisy})["a"] == ([True] * 12, True)
    mostly = [sample(1.0, 50.0 if i < 3 else 100.0) for i in range(12)]
    assert contest._marks({"a": mostly})["a"] == ([False] * 3 + [True] * 9, False)
    assert contest._marks({"a": [None, sample(1.0)]})["a"] == ([False, True], False)


def test_an_entry_counts_only_the_rounds_that_are_kept():
    case = cases.find("tiny-8x16")
    entry = contest.Entry(case.name, 1, "hot", "cython", "x", 0, 0.0, 1e-6)
    rounds = [sample(1e-3), sample(9e-3), None, sample(3e-3, 200.0)]
    timed = contest._timed(entry, case, 5, rounds, [True, False, False, True], False)
    assert timed.median_seconds == 2e-3 and timed.seconds == (1e-3, 9e-3, None, 3e-3)
    assert timed.gflops == case.flops / 2e-3 / 1e9
    each = [100 * case.flops / seconds / 1e9 / peak for seconds, peak in ((1e-3, 100.0), (3e-3, 200.0))]
    assert timed.percent_of_peak == pytest.approx(sum(each) / 2)  # each round against its own probe


def test_the_smallest_level_that_holds_a_case_is_its_own():
    found = probes.levels({"L1": "32K", "L2": "1M", "L3": "16M"}, 2)
    assert [probes.level_of(found, size).name for size in (65536, 65537, 2 << 20, 16 << 20, 17 << 20)] == [
        "L1", "L2", "L2", "L3", "memory"]  # fmt: skip


def test_probes_say_what_each_level_gives():
    found = probes.Probes(1).facts()
    if found["fma_gflops"] is None:
        pytest.skip("the compiled extension is missing")
    assert list(found["bandwidth"]) == [*caches(), "memory"]
    assert all(level["gbs"] > 0 for level in found["bandwidth"].values()) and found["fma_gflops"] > 0


def test_without_the_extension_there_are_no_probes(monkeypatch):
    monkeypatch.setattr(probes, "engine", lambda: None)
    found = probes.Probes(1)
    assert found.fma() is None and found.bandwidth(found.levels[0]) is None
    assert found.facts() == {"fma_gflops": None, "bandwidth": {}}
    found.evict()


@pytest.fixture
def expected(tmp_path):
    """The file of a case's reference, as a contest hands it to its processes."""
    from fastconv.bench import reference

    def save(name, change=0.0):
        case = cases.find(name)
        values = reference.expected(case, cases.arrays(case))
        values.flat[-1] += change
        np.save(tmp_path / "expected.npy", values)
        return str(tmp_path / "expected.npy")

    return save


def test_a_process_prepares_checks_and_times(expected):
    process = processes.Process("im2col", 1)
    try:
        assert process.ask("describe")["title"] == "fastconv im2col"
        answer = process.ask("prepare", case="tiny-8x16", expected=expected("tiny-8x16"))
        assert answer["error"] <= answer["error_allowed"] and answer["algorithm"] and answer["seconds"] > 0
        assert process.ask("time", calls=3, warm=0.0)["seconds"] > 0
        wrong = process.ask("prepare", case="tiny-8x16", expected=expected("tiny-8x16", change=0.1))
        assert wrong["error"] > wrong["error_allowed"]
        assert "refused" in process.ask("prepare", case="int8-relu", expected="") or True
    finally:
        process.close()


def test_a_process_that_raises_goes_on_and_one_that_dies_says_how(expected):
    process = processes.Process("im2col", 1)
    try:
        assert "nowhere" in process.ask("prepare", case="tiny-8x16", expected="nowhere.npy")["failed"]
        assert process.ask("describe")["name"] == "im2col"
        process._process.kill()
        with pytest.raises(processes.Gone, match="SIGKILL"):
            process.ask("describe")
    finally:
        process.close()


def test_a_process_that_does_not_answer_is_given_up(monkeypatch):
    process = processes.Process("im2col", 1)
    try:
        process.ask("describe")
        monkeypatch.setattr(processes, "PATIENCE_SECONDS", 0.2)
        monkeypatch.setattr(processes.signal, "SIGCONT", 0)  # it stays stopped
        with pytest.raises(processes.Gone, match="no answer to 'describe'"):
            process.ask("describe")
    finally:
        process.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_stopped_process_does_not_outlive_its_parent():
    code = (
        "import os, signal; from fastconv.bench.processes import Process; p = Process('im2col', 1); p.ask('describe');"
        "print(p._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    status = Path(f"/proc/{int(done.stdout)}/status")
    for _ in range(200):
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.02)
    pytest.fail("the worker is still there")


def test_slow_contestants_sit_out_the_same_rounds():
    previous = set(range(60))
    for seconds in (1e-5, 0.04, 0.12, 0.3, 0.9, 30.0):
        pace = contest.pace(seconds, 60, "hot")
        turns = {number for number in range(60) if pace.turn(number)}
        assert 0 in turns <= previous and len(turns) * seconds <= contest.BUDGET_SECONDS + seconds
        previous = turns


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins nothing")
def test_contestants_get_as_many_cores_as_threads():
    before = os.sched_getaffinity(0)
    with processes.pinned(1):
        assert len(os.sched_getaffinity(0)) == 1 and os.sched_getaffinity(0) <= before
    assert os.sched_getaffinity(0) == before
    assert len(processes.one_core_each(10**6)) == len(before)


def test_a_contest_runs_checks_pairs_and_reports():
    case, pool = cases.find("tiny-8x16"), cases.find("resnet-512x14-3x3s2")
    ticks = []
    with contest.Contest(["auto", "im2col", "winograd"], 1, 4, ["hot", "cold"]) as running:
        entries = [entry for one in (case, pool) for entry in running.run(one, lambda: ticks.append(1))]
        described = list(running.described.values())
        document = report.document([case, pool], entries, running.absences, described, {}, threads=[1], rounds=4,
                                   caches=["hot", "cold"])  # fmt: skip
    assert [a.contestant for a in running.absences] == ["winograd"] and "stride" in running.absences[0].because
    assert len(entries) == 10 and all(e.right and e.median_seconds and len(e.seconds) >= 4 for e in entries)
    assert len(ticks) >= 6 + 2 * 2 * 4
    assert all(entry.peak_memory_bytes is not None for entry in entries) or not os.path.exists("/proc/self/clear_refs")
    again = report.check(json.loads(json.dumps(document, allow_nan=False)), "test")
    assert again == document and document["duels"] == document["groups"] == []


@pytest.mark.parametrize("name", ["plain-3x3", "batch-3-stride-2", "groups-2", "1-D-plain", "3-D-strides"])
def test_a_backend_may_have_its_channels_last(name):
    case = next(c for c in PROBLEMS if c.name == name)
    data = arrays(case)
    right = reference.expected(case, data)
    ready = contestants.ready("cython-nhwc", case, data, 1)
    result = ready.call()
    assert result.shape == right.shape and result.strides[1] == result.itemsize
    assert np.abs(result - right).max() <= ready.allowed(data, right)
    assert contestants.describe("auto-nhwc").setting.endswith("channels last")


def test_what_is_channels_last_as_it_is_is_refused():
    case = next(c for c in PROBLEMS if c.name == "NHWC-3x3")
    with pytest.raises(contestants.Refused, match="last as it is"):
        contestants.ready("cython-nhwc", case, arrays(case), 1)
    assert not contestants.concerns("auto-nhwc", cases.find("resnet-max-3x3s2"))


def made_up(ratio=2.0, rounds=12, seconds=1e-3, bandwidth=10.0):
    """A document of two contestants on one case, the rival taking ``ratio`` times as long."""
    case = cases.find("tiny-8x16")
    blank = contest.Entry(case.name, 1, "hot", "auto", "shifted", 0, 0.0, 1e-6)
    ours = contest._timed(blank, case, 1, [sample(seconds, bandwidth=bandwidth)] * rounds, [True] * rounds, False)
    rival = contest.replace(blank, contestant="rival", algorithm=None, workspace_bytes=None)
    rival = contest._timed(
        rival, case, 1, [sample(seconds * ratio, bandwidth=bandwidth)] * rounds, [True] * rounds, False
    )
    who = [contestants.Contestant("auto", "backend", "fastconv auto", "1", "").to_dict(),
           contestants.Contestant("rival", "peer", "The Rival", "2.0", "flat out").to_dict()]  # fmt: skip
    return report.document([case], [ours, rival], [], who, {}, threads=[1], rounds=rounds, caches=["hot"])


@pytest.mark.parametrize("ratio, verdict", [(2.0, "ahead"), (0.5, "behind"), (1.0, "ahead")])
def test_duels_and_groups_say_who_is_ahead(ratio, verdict):
    document = made_up(ratio)
    (duel,), (group, everything) = document["duels"], document["groups"]
    assert (duel["contestant"], duel["rival"], duel["ratio"], duel["verdict"]) == ("auto", "rival", ratio, verdict)
    assert (group["geometric_mean"], group["worst"], group[verdict]) == (pytest.approx(ratio), ratio, 1)
    assert everything == group | {"group": report.ALL}


def test_two_runs_agree_but_for_the_outliers_that_are_named():
    first, second, far = made_up(2.0), made_up(2.1), made_up(2.5)
    steady = {"steady_pairs": 1, "steady_agree": 1}
    assert report.agreement(first, second) == {"pairs": 1, "agree": 1, "outliers": []} | steady
    busy = report.agreement(first, made_up(2.5, bandwidth=7.0))  # somebody else took a third of the bandwidth
    assert (busy["pairs"], busy["agree"], busy["steady_pairs"]) == (1, 0, 0)
    (outlier,) = report.agreement(first, far)["outliers"]
    assert (outlier["case"], outlier["rival"], outlier["first"], outlier["second"]) == ("tiny-8x16", "rival", 2.0, 2.5)
    assert report.agreement(made_up(2.0, seconds=1e-4), made_up(9.0, seconds=1e-4))["pairs"] == 0  # too short to tell
    lines = tables.agreement_lines(report.agreement(first, far))
    assert lines[0] == "0 of 1 ratios agree within 10 % (0.0 %)" and "rival / auto 2.000 then 2.500" in lines[2]
    assert lines[1] == "where both runs' probes do, 0 of 1 ratios agree within 10 % (0.0 %)"


def test_a_document_of_another_kind_is_refused():
    document = made_up()
    for spoil, message in (({"schema": 1}, "schema 2"), ({"duels": None}, "duels")):
        other = copy.deepcopy(document) | spoil
        if spoil.get("duels", 0) is None:
            del other["duels"]
        with pytest.raises(ValueError, match=message):
            report.check(other, "old.json")


def test_a_run_can_be_restricted_to_some_cases():
    document = made_up()
    assert report.restrict(document, ["tiny-8x16"]) == document
    nothing = report.restrict(document, [])
    assert nothing["entries"] == nothing["duels"] == nothing["cases"] == [] and nothing["groups"] == document["groups"]


def test_the_readme_has_losses_like_wins():
    for ratio in (0.5, 2.0):
        text = tables.markdown(made_up(ratio))
        assert f"| {ratio:.2f} [{ratio:.2f}, {ratio:.2f}] |" in text and "The Rival 2.0" in text
        assert f"In all 1 cases of the run: geometric mean {ratio:.2f}, worst {ratio:.2f} (tiny-8x16)" in text
