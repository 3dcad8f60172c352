"""asv and pytest-benchmark files: any commit loads them, they say what they measure, and no test looks at a clock."""

import ast
import importlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fastconv import registry
from fastconv.bench import cases
from fastconv.spec import parse_layer

ROOT = Path(__file__).parent.parent
MODULES = sorted(path.stem for path in (ROOT / "bench").glob("bench_*.py"))
MEASURED = ("time_", "track_", "peakmem_")

AT_AN_EMPTY_COMMIT = """
import importlib, inspect, itertools, os, pathlib, sys, types
root = sys.argv[1]
sys.modules["fastconv"] = types.ModuleType("fastconv")  # nothing in it yet
sys.modules["pytest"] = sys.modules["pytest_benchmark"] = None
sys.path.insert(0, root)
files = sorted(path.stem for path in pathlib.Path(root, "bench").glob("*.py") if path.stem != "__init__")
modules = [importlib.import_module(f"bench.{file}") for file in files]
assert "numpy" not in sys.modules, "its BLAS would have its threads before a benchmark can say how many"
for module in modules:
    if module.__name__ in ("bench.bench_conv", "bench.bench_around"):
        for name, one in inspect.getmembers(module, inspect.isclass):
            if name.startswith("_") or one.__module__ != module.__name__:
                continue
            for values in itertools.product(*one.params):
                try:
                    one().setup(*values)
                except NotImplementedError:
                    continue
                raise AssertionError(f"{name}{values} is not skipped")
print(*files)
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The benchmark files may set it; put back after each test."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", os.environ.get("OPENBLAS_NUM_THREADS", "1"))


@pytest.fixture
def load(monkeypatch):
    """Import a file of ``bench/`` as asv does: the folder is the package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


def classes(module):
    """The benchmark classes of a file."""
    for name, one in inspect.getmembers(module, inspect.isclass):
        if one.__module__ == module.__name__ and not name.startswith("_"):
            assert any(attribute.startswith(MEASURED) for attribute in dir(one)), f"{name} measures nothing"
            yield one


def test_files_load_and_skip_at_a_commit_that_has_nothing(tmp_path):
    command = [sys.executable, "-c", AT_AN_EMPTY_COMMIT, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"layers", "compare", "conftest", "numerics", "test_speed", *MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_benchmarks_say_their_version_and_what_their_parameters_are(load, name):
    for one in classes(load(name)):
        assert "version" in vars(one), f"{one.__name__}: without one, asv drops its history at every edit"
        assert len(getattr(one, "params", ())) == len(getattr(one, "param_names", ()))


@pytest.mark.parametrize("name", MODULES)
def test_parameters_are_written_out(name):
    tree = ast.parse((ROOT / "bench" / f"{name}.py").read_text("utf-8"))
    lists = {"LAYERS", "CASES", "RATED", "BACKENDS", "THREADS", "WHAT"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in lists:
            assert ast.literal_eval(node.value)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "params":
            assert {leaf.id for leaf in ast.walk(node.value) if isinstance(leaf, ast.Name)} <= lists


def test_layers_are_those_of_the_named_cases(load):
    layers = load("layers")
    assert {name: cases.find(name).layer for name in layers.LAYERS} == layers.LAYERS
    assert {*layers.BACKENDS} <= {*cases.BACKEND_NAMES, "auto"}
    for name in MODULES:
        module = load(name)
        assert {*getattr(module, "CASES", ()), *getattr(module, "RATED", ())} <= set(layers.LAYERS)


def refusal(backend, layer):
    """Why a backend does not take a layer here; None if it does."""
    if backend == "auto":
        return None
    row = registry.find(backend)
    return row.missing() or registry.why_not(row.capabilities, parse_layer(layer))


@pytest.mark.slow
def test_only_what_a_backend_refuses_is_skipped_today(load):
    layers = load("layers")
    for name, layer in layers.LAYERS.items():
        for backend in layers.BACKENDS:
            skipped = layers.planned(name, backend, 1) is None
            assert skipped == (refusal(backend, layer) is not None), f"{backend}, {name}"
    layers.planned.cache_clear()


def test_a_call_of_every_backend_can_be_followed_today(load):
    layers = load("layers")
    for backend in layers.BACKENDS:
        if refusal(backend, layers.LAYERS["tiny-8x16"]) is None:
            assert layers.needed("tiny-8x16", backend, 1).call().shape == (1, 8, 16, 16)


def test_what_is_around_convolutions_can_be_followed_today(load):
    around = load("bench_around")
    assert [what for what in around.WHAT if around.prepared(what, 1) is None] == []
    around.prepared.cache_clear()


def test_more_threads_than_cores_are_skipped(load):
    with pytest.raises(NotImplementedError, match="auto does not run tiny-8x16 on 200 threads here"):
        load("layers").needed("tiny-8x16", "auto", 200)


class Clock:
    """A machine on which a call takes a millisecond and half of the probes find half of the peak."""

    def __init__(self):
        self.now, self.probes = 0.0, 0

    def perf_counter(self):
        return self.now

    def call(self):
        self.now += 1e-3

    def probe(self):
        self.probes += 1
        return 50.0 if self.probes % 2 else 25.0


def test_a_rate_counts_the_direct_operations(load, monkeypatch):
    layers, clock = load("layers"), Clock()
    monkeypatch.setattr(layers, "time", clock)
    assert layers.rate(layers.Planned(clock.call, 10**7, clock.probe)) == pytest.approx(10)
    assert clock.probes == layers.ROUNDS
    assert layers.rate(layers.Planned(clock.call, 10**7, None)) == pytest.approx(10)


def test_percent_of_peak_pairs_each_round_with_its_own_probe(load, monkeypatch):
    layers, clock = load("layers"), Clock()
    monkeypatch.setattr(layers, "time", clock)
    monkeypatch.setattr(layers, "ROUNDS", 3)  # 20, 40 and 20 percent
    assert layers.rate(layers.Planned(clock.call, 10**7, clock.probe), of_peak=True) == pytest.approx(20)


@pytest.mark.parametrize("numpy", ["included", "loaded before"])
def test_an_import_is_timed_in_a_fresh_process(load, numpy):
    start = load("bench_start")
    assert start.printed(start.IMPORT, numpy) > 0


def test_a_first_call_fills_the_cache_that_it_is_given(load, tmp_path):
    if missing := registry.find("numba").missing():
        pytest.skip(missing)
    start = load("bench_start")
    start.printed(start.FIRST_CALL, "numba", cache=str(tmp_path))
    assert any(tmp_path.rglob("*.fastconv"))


def test_a_first_call_that_cannot_be_is_skipped_with_its_reason(load):
    one = load("bench_start").FirstCall()
    with pytest.raises(NotImplementedError, match="unheard-of: .*Traceback"):
        one.setup("unheard-of", "filled")
    one.teardown("unheard-of", "filled")
    assert not one.folder.exists()


def test_asv_is_pinned_and_reads_more_operations_as_better():
    lines = (ROOT / "asv.conf.json").read_text("utf-8").splitlines()
    conf = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    (pin,) = conf["matrix"]["req"]["pip+asv_runner"]
    assert re.fullmatch(r"[\d.]+", pin)
    for name in ("bench_conv.Rate.track_gflops", "bench_conv.Peak.track_percent_of_peak"):
        assert any(re.fullmatch(pattern, name) for pattern in conf["regressions_first_commits"])


def test_an_ordinary_run_of_the_tests_leaves_benchmarks_out():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    assert options["testpaths"] == ["tests"]


def test_pytest_benchmark_writes_what_a_time_depends_on(tmp_path):
    pytest.importorskip("pytest_benchmark")
    command = [sys.executable, "-P", "-m", "pytest", "bench", "-k", "tiny-8x16 and im2col", "-p", "no:cacheprovider",
               "--benchmark-max-time=0.01", f"--benchmark-json={tmp_path / 'b.json'}"]  # fmt: skip
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "b.json").read_text("utf-8"))["benchmarks"]
    assert row["params"] == {"case": "tiny-8x16", "backend": "im2col"}
    assert set(row["extra_info"]) == {"gflops", "algorithm", "isa", "threads"} and row["extra_info"]["gflops"] > 0


def test_two_commits_take_turns_and_who_goes_first_too(load):
    compare, log = load("compare"), []

    def side(name, seconds):
        return lambda entry, calls: log.append((name, calls)) or seconds

    entry = compare.Entry("tiny-8x16", "cython", 1)
    assert compare.pairs(entry, (side("a", 0.004), side("b", 0.005)), 3) == [(0.004, 0.005)] * 3
    assert log == [("a", 1), ("b", 1), ("a", 4), ("b", 4), ("b", 4), ("a", 4), ("a", 4), ("b", 4)]
    assert compare.pairs(entry, (side("a", None), side("b", 0.005)), 3) == []


def test_a_change_is_called_one_when_all_of_its_interval_is_beyond_the_limit(load):
    compare = load("compare")
    entries = [compare.Entry(name, "cython", 1) for name in ("gain", "loss", "little", "noise", "absent")]
    times = ([(1.2, 1.0)] * 9, [(1.0, 1.2)] * 9, [(1.0, 1.02)] * 9, [(1.0, 1.2), (1.2, 1.0)] * 9, [])
    lines, slower = compare.report(dict(zip(entries, times, strict=True)), 1.05)
    assert [line.split("]")[1].strip() for line in lines[1:-1]] == ["faster", "slower", "", ""]
    assert (slower, lines[-1]) == (1, "4 compared: 1 slower and 1 faster by more than 5 %")


@pytest.fixture
def side(load, tmp_path):
    """A process of `compare` with the fastconv that it is given."""
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("this system cannot stop a process")
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    (tmp_path / "a").mkdir()
    started = []

    def start(package):
        (tmp_path / "a" / "fastconv").symlink_to(package)
        started.append(load("compare").Side(tmp_path / "a", 1))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize("what, backend", [("tiny-8x16", "im2col"), ("global-avg-2048x7", "around")])
def test_a_side_answers_for_its_commit(load, side, what, backend):
    assert side(ROOT).ask(load("compare").Entry(what, backend, 1), 3) > 0


def test_a_side_without_the_function_says_so(load, side, tmp_path):
    (tmp_path / "empty" / "fastconv").mkdir(parents=True)
    (tmp_path / "empty" / "fastconv" / "__init__.py").touch()
    one = side(tmp_path / "empty")
    for what, backend in (("tiny-8x16", "im2col"), ("global-avg-2048x7", "around")):
        assert one.ask(load("compare").Entry(what, backend, 1), 3) is None


CLOCKS = {"perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time", "default_timer", "timeit"}


def looks_at_a_clock(source):
    """Lines of assertions on what a clock said, directly or by way of variables."""
    tree = ast.parse(source)

    def words(node):
        return {getattr(leaf, "id", getattr(leaf, "attr", "")) for leaf in ast.walk(node)}

    timed, before = set(CLOCKS), 0
    while len(timed) > before:
        before = len(timed)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and words(node.value) & timed:
                timed |= {name for target in node.targets for name in words(target)}
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert) and words(node.test) & timed]


def test_no_test_asserts_a_duration():
    found = {path.name: looks_at_a_clock(path.read_text("utf-8")) for path in Path(__file__).parent.glob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_check_for_durations_finds_one():
    timed = "start = time.perf_counter()\nf()\ntook = time.perf_counter() - start\nassert took < 1\n"
    assert looks_at_a_clock(timed) == [4]
    assert looks_at_a_clock("took = 1\nassert took < 2\n") == []
