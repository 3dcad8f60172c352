"""Run cases: every contestant in a process of its own, each result checked, then timed in interleaved rounds."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.bench import contestants, ratios, reference
from fastconv.bench.case import AnyCase, arrays
from fastconv.bench.probes import Level, Probes, level_of
from fastconv.bench.processes import Gone, Process, pinned

BLOCK_SECONDS = 0.005
"""Calls of one contestant in one round last about this long, so that the clock does not matter."""

WARM_SECONDS = 0.008
"""Calls before a timing. A thread that wakes may share its waker's core until the system spreads them, milliseconds
later; measured with our own pool, see `fastconv.bench.probes.WAKE_MILLISECONDS`."""

LONG_SECONDS = 0.05
"""A call longer than this needs no warm-up: what sleeping threads and cold caches add is lost in it."""

BUDGET_SECONDS = 3.0
"""A contestant that would need longer for a case sits out some of its rounds, or the slowest would take the hour."""

MOST_ROUNDS = 1.5
"""Disturbed rounds are made up for until so many times the rounds that were asked for."""


@dataclass(frozen=True, slots=True)
class Absence:
    """A contestant that did not take part in a case (or, with case '', at all), and why."""

    case: str
    contestant: str
    because: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant on one case at one number of threads: what it is, whether it is right, how fast.

    ``seconds`` has the time per call of each round, None where it sat out; ``kept`` says which rounds count.
    The figures are medians of those; None where the result was wrong.
    """

    case: str
    threads: int
    cache: str  # "hot": the arrays of the call before; "cold": something else in every cache
    contestant: str
    algorithm: str | None
    workspace_bytes: int | None
    error: float | None  # largest difference from the reference, over the reference's largest value; None: no number
    error_allowed: float
    peak_memory_bytes: int | None = None
    calls: int = 0
    seconds: tuple[float | None, ...] = ()
    kept: tuple[bool, ...] = ()
    disturbed: bool = False  # too few quiet rounds: all count
    median_seconds: float | None = None
    quartile_seconds: tuple[float, float] | None = None
    gflops: float | None = None
    gbs: float | None = None
    percent_of_peak: float | None = None
    percent_of_bandwidth: float | None = None

    @property
    def right(self) -> bool:
        return self.error is not None and self.error <= self.error_allowed

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"right": self.right}


@dataclass(frozen=True, slots=True)
class Sample:
    """One timing, the probes around it, and the processor seconds that were stolen from its cores meanwhile."""

    seconds: float
    fma: tuple[float, ...]
    bandwidth: float | None
    stolen: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How a contestant is timed on a case: calls a round, every which round, seconds of calls before each.

    ``step`` is a power of two, so that two slow contestants sit out the same rounds and have many in common.
    """

    calls: int
    step: int
    warm: float
    cold: bool

    def turn(self, number: int) -> bool:
        """Whether it takes part in round ``number``."""
        return number % self.step == 0


def pace(once: float, rounds: int, cache: str) -> Pace:
    """The pace of a contestant whose call takes ``once`` seconds.

    >>> pace(0.001, 60, "hot"), pace(0.2, 60, "hot")
    (Pace(calls=5, step=1, warm=0.008, cold=False), Pace(calls=1, step=4, warm=0.0, cold=False))
    """
    cold = cache == "cold"
    warm = 0.0 if cold or once > LONG_SECONDS else WARM_SECONDS
    calls = 1 if cold else max(1, round(BLOCK_SECONDS / once))
    cost = rounds * once * (2 if warm or cold else 1)
    step = 2 ** math.ceil(math.log2(max(1.0, cost / BUDGET_SECONDS)))
    return Pace(calls, step, warm, cold)


def present(names: Sequence[str]) -> tuple[list[str], list[Absence]]:
    """Those of the named contestants that run here, and the others with the reason."""
    reasons = {name: contestants.missing(name) for name in names}
    absences = [Absence("", name, why) for name, why in reasons.items() if why is not None]
    return [name for name, why in reasons.items() if why is None], absences


class Contest:
    """Contestants at one number of threads, to be run through cases; a context manager that ends their processes."""

    def __init__(self, names: Sequence[str], threads: int, rounds: int, caches: Sequence[str]) -> None:
        self.threads, self.rounds, self.caches = threads, rounds, tuple(caches)
        self.described: dict[str, dict[str, Any]] = {}
        self.absences: list[Absence] = []
        self._names = list(names)
        self._processes: dict[str, Process] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="fastconv-bench-")
        self._expected = Path(self._folder.name) / "expected.npy"
        self._pinned = pinned(threads)

    def __enter__(self) -> Contest:
        self._pinned.__enter__()
        try:
            self.probes = Probes(self.threads)
            for name in list(self._names):
                answer = self._ask(name, "describe")
                if "failed" in answer:
                    self._names.remove(name)
                    self.absences.append(Absence("", name, answer["failed"]))
                else:
                    self.described[name] = answer
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.close()
        self._pinned.__exit__(None, None, None)
        self._folder.cleanup()

    def _ask(self, name: str, do: str, **request: Any) -> dict[str, Any]:
        """What the contestant's process answers; one that died is started anew with the next request."""
        if name not in self._processes:
            self._processes[name] = Process(name, self.threads)
        try:
            return self._processes[name].ask(do, **request)
        except Gone as error:
            self._processes.pop(name).close()
            return {"failed": str(error)}

    def run(self, case: AnyCase, tick: Callable[[], None]) -> list[Entry]:
        """Check and time one case; ``tick`` is called after every contestant's preparation and after every round."""
        np.save(self._expected, reference.expected(case, arrays(case)))
        entries, seconds = [], {}
        for name in self._names:
            if not contestants.concerns(name, case):
                continue
            answer = self._ask(name, "prepare", case=case.name, expected=str(self._expected))
            tick()
            because = answer.get("refused") or answer.get("failed")
            if because:
                self.absences.append(Absence(case.name, name, because))
                continue
            found = (answer[key] for key in ("algorithm", "workspace_bytes", "error", "error_allowed"))
            entries.append(Entry(case.name, self.threads, "hot", name, *found))
            seconds[name] = answer["seconds"]
        right = [entry.contestant for entry in entries if entry.right]
        level = level_of(self.probes.levels, case.bytes)
        timed = {
            cache: self._rounds(case.name, {name: seconds[name] for name in right}, cache, level, tick)
            for cache in self.caches
        }
        memory = {name: self._ask(name, "memory").get("peak_memory_bytes") for name in right}
        result = []
        for entry in entries:
            entry = replace(entry, peak_memory_bytes=memory.get(entry.contestant))
            for cache in self.caches:
                figures = timed[cache].get(entry.contestant)
                entry = replace(entry, cache=cache)
                result.append(_timed(entry, case, *figures) if figures else entry)
        return result

    def _rounds(
        self, case: str, once: dict[str, float], cache: str, level: Level, tick: Callable[[], None]
    ) -> dict[str, tuple[int, list[Sample | None], list[bool], bool]]:
        """Calls a round, samples and which count, of each contestant; ``once`` has the seconds of a call."""
        paces = {name: pace(seconds, self.rounds, cache) for name, seconds in once.items()}
        samples: dict[str, list[Sample | None]] = {name: [] for name in paces}
        before = self.probes.fma()
        marks: dict[str, tuple[list[bool], bool]] = {}
        for number in range(int(self.rounds * MOST_ROUNDS)):
            order = list(samples)
            start = number % max(len(order), 1)
            for name in order[start:] + order[:start]:
                if not paces[name].turn(number):
                    samples[name].append(None)
                    continue
                try:
                    sample = self._sample(name, paces[name], level, before)
                except Gone as error:  # what it did so far is not shown: nobody knows what was wrong with it
                    self.absences.append(Absence(case, name, f"failed while it was timed: {error}"))
                    del samples[name]
                    continue
                samples[name].append(sample)
                before = sample.fma[-1] if sample.fma else before
            tick()
            if number + 1 >= self.rounds:
                marks = _marks(samples)
                if all(sum(kept) * paces[name].step >= self.rounds or lost for name, (kept, lost) in marks.items()):
                    break
        return {name: (paces[name].calls, samples[name], *marks[name]) for name in samples}

    def _sample(self, name: str, pace: Pace, level: Level, before: float | None) -> Sample:
        """One timing. Raises `Gone` if the contestant failed."""
        width = self.probes.bandwidth(level)
        if pace.cold:
            self._ask(name, "time", calls=1, warm=WARM_SECONDS)
            self.probes.evict()
        stolen = _stolen()
        answer = self._ask(name, "time", calls=pace.calls, warm=pace.warm)
        stolen = _stolen() - stolen
        after = self.probes.fma()
        if "seconds" not in answer:
            raise Gone(answer["failed"])
        probes = tuple(value for value in (before, after) if value is not None)
        return Sample(answer["seconds"], probes, width, stolen)


def _stolen() -> float:
    """Seconds that the hypervisor gave to others while this process's cores had work; 0 where unknown."""
    try:
        lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
        ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return 0.0
    rows = [line.split() for line in lines]
    return sum(int(row[8]) for row in rows if row and row[0] in ours) / os.sysconf("SC_CLK_TCK")


def _marks(samples: dict[str, list[Sample | None]]) -> dict[str, tuple[list[bool], bool]]:
    """Which rounds of each count, and whether that had to be all since too few were quiet."""
    flat = [s for series in samples.values() for s in series if s is not None]
    good = dict(zip(map(id, flat), ratios.undisturbed([s.fma for s in flat], [s.stolen for s in flat]), strict=True))
    result = {}
    for name, series in samples.items():
        ran = [s for s in series if s is not None]
        lost = sum(good[id(s)] for s in ran) < ratios.FEWEST_KEPT * len(ran)
        result[name] = ([s is not None and (lost or good[id(s)]) for s in series], lost)
    return result


def _timed(
    entry: Entry, case: AnyCase, calls: int, samples: Sequence[Sample | None], kept: Sequence[bool], lost: bool
) -> Entry:
    """The entry with its figures."""
    counted = [s for s, keep in zip(samples, kept, strict=True) if s is not None and keep]
    median = statistics.median(s.seconds for s in counted)
    peaks = [case.flops / s.seconds / 1e7 / statistics.mean(s.fma) for s in counted if s.fma]
    widths = [case.bytes / s.seconds / 1e7 / s.bandwidth for s in counted if s.bandwidth]
    return replace(
        entry,
        calls=calls,
        seconds=tuple(s.seconds if s is not None else None for s in samples),
        kept=tuple(kept),
        disturbed=lost,
        median_seconds=median,
        quartile_seconds=ratios.quartiles([s.seconds for s in counted]),
        gflops=case.flops / median / 1e9,
        gbs=case.bytes / median / 1e9,
        percent_of_peak=statistics.median(peaks) if peaks else None,
        percent_of_bandwidth=statistics.median(widths) if widths else None,
    )


def series(entries: Sequence[Entry]) -> Iterator[tuple[tuple[str, int, str], dict[str, ratios.Timings]]]:
    """The rounds that count of all contestants, for each case, number of threads and cache."""
    found: dict[tuple[str, int, str], dict[str, ratios.Timings]] = {}
    for e in entries:
        if e.seconds:
            kept = [s if keep else None for s, keep in zip(e.seconds, e.kept, strict=True)]
            found.setdefault((e.case, e.threads, e.cache), {})[e.contestant] = kept
    yield from found.items()
