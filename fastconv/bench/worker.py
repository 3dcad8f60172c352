"""The process of one contestant: ``python -m fastconv.bench.worker NAME THREADS READ WRITE``.

Answers requests, one JSON object a line, from the file descriptor READ on WRITE (libraries print what they like on
the standard ones). ``prepare`` makes a case ready and checks its result; ``time`` times it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.bench import contestants
from fastconv.bench.cases import arrays, find

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Session:
    """One contestant on one number of threads, and the case that it has ready."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self._ready: contestants.Ready | None = None
        self._memory_before = 0

    def describe(self) -> dict[str, Any]:
        return contestants.describe(self.name).to_dict()

    def prepare(self, case: str, expected: str) -> dict[str, Any]:
        """Make a case ready, check it against the array in the file ``expected``, time one call."""
        self._ready = None
        gc.collect()
        self._memory_before = _reset_peak()
        problem = find(case)
        data = arrays(problem)
        try:
            made = contestants.ready(self.name, problem, data, self.threads)
        except contestants.Refused as refusal:
            return {"refused": str(refusal)}
        right = np.load(expected, mmap_mode="r")
        result = made.call()
        if result.shape != right.shape:
            raise ValueError(f"{self.name} gave shape {result.shape} for {case}, not {right.shape}")
        scale = float(np.abs(right).max(initial=0.0)) or 1.0
        error = float(np.abs(result - right).max(initial=0.0)) / scale
        self._ready = made
        return {
            "algorithm": made.algorithm,
            "workspace_bytes": made.workspace_bytes,
            "error": error if np.isfinite(error) else None,
            "error_allowed": made.allowed(data, right) / scale,
            "seconds": self.time(1, 0.0)["seconds"],
        }

    def time(self, calls: int, warm: float) -> dict[str, Any]:
        """Seconds per call of so many calls, after calls for ``warm`` seconds that wake the threads and fill caches."""
        assert self._ready is not None
        call, clock = self._ready.call, time.perf_counter
        start = clock()
        while clock() - start < warm:
            call()
        gc.disable()
        start = clock()
        for _ in range(calls):
            call()
        seconds = (clock() - start) / calls
        gc.enable()
        return {"seconds": seconds}

    def memory(self) -> dict[str, Any]:
        """Bytes that the process grew to above its start, at its largest since the case was prepared."""
        peak = _status("VmHWM")
        return {"peak_memory_bytes": peak - self._memory_before if peak and self._memory_before else None}


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE) if _STATUS.exists() else None
    return int(found[1]) * 1024 if found else 0


def _reset_peak() -> int:
    """Let the system forget the largest size of this process so far; the size now, 0 where that cannot be done."""
    if sys.platform == "linux":
        # What cases before have freed would hide what the next one takes.
        getattr(ctypes.CDLL(None), "malloc_trim", lambda kept: 0)(0)
    try:
        _CLEAR.write_text("5")
    except OSError:
        return 0
    return _status("VmRSS")


def _end_with_parent() -> None:
    """A stopped process would outlive a parent that was killed; Linux can be asked to end it, too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(argv: list[str]) -> None:
    """Serve until the other side closes."""
    _end_with_parent()
    session = Session(argv[0], int(argv[1]))
    with open(int(argv[2]), encoding="utf-8") as requests, open(int(argv[3]), "w", encoding="utf-8") as answers:
        for line in requests:
            request = json.loads(line)
            try:
                answer = getattr(session, request.pop("do"))(**request)
            except Exception as error:  # whatever a library throws: the contest goes on without it
                answer = {"failed": f"{type(error).__name__}: {error}"[:500]}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    os._exit(0)  # some libraries hang or crash while they take themselves down


if __name__ == "__main__":
    main(sys.argv[1:])
