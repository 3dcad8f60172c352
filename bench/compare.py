"""Two commits side by side: ``python -m bench.compare main HEAD``.

Both are built, and a process of each takes turns of some milliseconds with the other's, so that what else the machine
does hurts both alike. Printed is the median of the ratios of neighbouring turns with its interval; the exit status is
1 if anything became slower. asv imports this file too: fastconv and NumPy are imported inside functions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import bench_around, bench_conv, layers

ROOT = Path(__file__).parent.parent
AROUND = "around"
"""Stands for a backend with what is around convolutions, which has none."""

WARM_SECONDS = 0.005
"""Calls before each timing: they wake the threads and fill the caches that the other side has used."""


class Entry(NamedTuple):
    """What is timed: a layer with a backend, or something of `bench_around`."""

    what: str
    backend: str
    threads: int

    def __str__(self) -> str:
        return f"{self.what} {self.backend} {self.threads}"


class Side:
    """A process of one commit. It is stopped while it is not its turn: threads may spin after their work."""

    def __init__(self, folder: Path, threads: int) -> None:
        paths = [folder / "fastconv", folder.parent, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        variables = {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "NUMBA_CACHE_DIR": str(folder / "numba"),
            "NUMBA_NUM_THREADS": str(threads),
        }
        # -S: an editable install of fastconv would come before the one of this commit.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", "bench.compare", "--serve", str(threads)],
            env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, entry: Entry, calls: int) -> float | None:
        """Seconds a call; None where the commit does not do that."""
        assert self._process.stdin and self._process.stdout
        self._process.send_signal(signal.SIGCONT)
        print(json.dumps([*entry, calls]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{entry}: its process ended with exit code {self._process.wait()}")
        self._process.send_signal(signal.SIGSTOP)
        seconds: float | None = json.loads(answer)
        return seconds

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def serve(threads: int) -> None:
    """Answer a line with an entry and a number of calls by the seconds that one took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        *entry, calls = json.loads(line)
        call = ready(Entry(*entry))
        print(json.dumps(call and turn(call, calls)), file=answers, flush=True)


def ready(entry: Entry) -> Callable[[], Any] | None:
    """The call of an entry; None where this commit or machine does not do that."""
    if entry.backend == AROUND:
        return bench_around.prepared(entry.what, entry.threads)
    found = layers.planned(*entry)
    return found.call if found else None


def turn(call: Callable[[], Any], calls: int) -> float:
    """Seconds a call of so many, after some to warm up."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_SECONDS:
        call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


Asks = tuple[Callable[[Entry, int], float | None], Callable[[Entry, int], float | None]]


def pairs(entry: Entry, asks: Asks, rounds: int) -> list[tuple[float, float]]:
    """Seconds of both sides in each round, who goes first in turn; none where one of them does not do that."""
    first = [ask(entry, 1) for ask in asks]
    if None in first:
        return []
    calls = max(1, round(layers.BLOCK_SECONDS / max(s for s in first if s is not None)))
    found = []
    for number in range(rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        seconds = {side: asks[side](entry, calls) for side in order}
        assert seconds[0] is not None and seconds[1] is not None
        found.append((seconds[0], seconds[1]))
    return found


def build(commit: str, folder: Path) -> Path:
    """Install a commit into a folder of its own."""
    print(f"building {commit}", file=sys.stderr, flush=True)
    run("git", "clone", "-q", "--shared", "--no-checkout", str(ROOT), str(folder / "source"))
    run("git", "-C", str(folder / "source"), "checkout", "-q", "--detach", commit)
    run(sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-cache-dir",
        "--target", str(folder / "fastconv"), str(folder / "source"))  # fmt: skip
    return folder


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return done.stdout.strip()


def entries(pattern: str) -> Iterator[Entry]:
    """What the pattern finds among all that asv follows too, by number of threads."""
    for threads in layers.THREADS:
        convolutions = itertools.product(bench_conv.CASES + bench_conv.TinyCall.params[0], layers.BACKENDS)
        for what, backend in (*convolutions, *((what, AROUND) for what in bench_around.WHAT)):
            entry = Entry(what, backend, threads)
            if threads <= layers.cores() and re.search(pattern, str(entry)):
                yield entry


def measure(chosen: Sequence[Entry], folders: Sequence[Path], processes: int, rounds: int) -> dict[Entry, list[Any]]:
    """The rounds of each entry. Several pairs of processes, since where memory happens to lie lasts for a process."""
    found: dict[Entry, list[Any]] = {entry: [] for entry in chosen}
    for number in range(processes):
        for threads, group in itertools.groupby(chosen, lambda entry: entry.threads):
            print(f"pair {number + 1} of {processes} on {threads} threads", file=sys.stderr, flush=True)
            sides = [Side(folder, threads) for folder in folders]
            try:
                for entry in group:
                    found[entry] += pairs(entry, (sides[0].ask, sides[1].ask), rounds)
            finally:
                for side in sides:
                    side.close()
    return found


def verdict(low: float, high: float, limit: float) -> str:
    """What an interval of old over new time says: beyond the limit in one direction with all of it, or not."""
    return "slower" if high < 1 / limit else "faster" if low > limit else ""


def report(found: dict[Entry, list[Any]], limit: float) -> tuple[list[str], int]:
    """Lines to print, and how many entries became slower."""
    from fastconv.bench import ratios

    rows = [f"{'what':<40}{'before':>12}{'after':>12}{'before/after, 95 % interval':>32}"]
    verdicts = []
    for entry, rounds in found.items():
        if not rounds:
            continue
        ratio = ratios.interval([before / after for before, after in rounds])
        verdicts.append(verdict(ratio.low, ratio.high, limit))
        before, after = (f"{sorted(column)[len(column) // 2] * 1e6:.1f} us" for column in zip(*rounds, strict=True))
        span = f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
        rows.append(f"{str(entry):<40}{before:>12}{after:>12}{span:>32}  {verdicts[-1]}".rstrip())
    slower = verdicts.count("slower")
    counted = f"{len(verdicts)} compared: {slower} slower and {verdicts.count('faster')} faster"
    return [*rows, f"{counted} by more than {100 * (limit - 1):.0f} %"], slower


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("base", nargs="?", default="HEAD~1", help="the commit to compare with (default: HEAD~1)")
    parser.add_argument("head", nargs="?", default="HEAD", help="the commit to judge (default: HEAD)")
    parser.add_argument("-k", default="", metavar="REGEX", help="of '<case> <backend> <threads>'; around: no backend")
    parser.add_argument("--processes", type=int, default=3, help="pairs of processes, one after the other")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each process")
    parser.add_argument("--limit", type=float, default=1.05, help="ratio from which a change is called one")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    chosen = list(entries(options.k))
    if not chosen:
        parser.error(f"nothing matches {options.k!r}")
    commits = [run("git", "rev-parse", "--verify", f"{name}^{{commit}}") for name in (options.base, options.head)]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "bench", Path(folder, "bench"))  # these files measure both commits
        folders = [build(commit, Path(folder, side)) for commit, side in zip(commits, "ab", strict=True)]
        found = measure(chosen, folders, options.processes, options.rounds)
    lines, slower = report(found, options.limit)
    print("\n".join(lines))
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
