"""Contestants in processes of their own, stopped while it is not their turn."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastconv.bench import contestants

PATIENCE_SECONDS = 300.0
"""A contestant that has not answered for so long is ended: longer than any case's preparation, shorter than a night."""


class Gone(Exception):
    """The process of a contestant ended, or was ended; the message says how."""


class Process:
    """The worker of one contestant. Between two requests it is stopped, so that threads which spin
    for a while after their work take no processor time from the next contestant."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        command = [sys.executable, "-P", "-m", "fastconv.bench.worker", name, str(threads), str(theirs), str(answers)]
        self._process = subprocess.Popen(
            command, env=os.environ | contestants.environment(name, threads), pass_fds=(theirs, answers),
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        os.close(theirs)
        os.close(answers)
        self._rest = b""

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request; the answer, or a dict with 'failed' if the contestant raised.

        Raises
        ------
        Gone
            If the process ended, or did not answer in `PATIENCE_SECONDS`.
        """
        line = json.dumps({"do": do, **request}).encode() + b"\n"
        try:
            self._process.send_signal(signal.SIGCONT)
            os.write(self._to, line)
        except (BrokenPipeError, ProcessLookupError):
            raise Gone(self._epitaph()) from None
        while b"\n" not in self._rest:
            if not select.select([self._from], [], [], PATIENCE_SECONDS)[0]:
                raise Gone(f"no answer to {do!r} in {PATIENCE_SECONDS:.0f} s")
            data = os.read(self._from, 1 << 16)
            if not data:
                raise Gone(self._epitaph())
            self._rest += data
        self._process.send_signal(signal.SIGSTOP)
        answer, self._rest = self._rest.split(b"\n", 1)
        return dict(json.loads(answer))

    def _epitaph(self) -> str:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"its process ended with {how}" + "".join(f": {line[:200]}" for line in last)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._log.close()


def one_core_each(threads: int) -> set[int]:
    """So many of the processor numbers that this process may use, each on a core of its own while there are any."""
    allowed = sorted(os.sched_getaffinity(0))
    first: dict[str, int] = {}
    for number in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        siblings = path.read_text().strip() if path.exists() else str(number)
        first.setdefault(siblings, number)
    # The last ones: the system serves most of its interrupts on the first.
    chosen = [*first.values()][::-1] + [number for number in allowed[::-1] if number not in first.values()]
    return set(chosen[:threads])


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """This process and those that it starts, on as many cores as threads, so that nobody uses more."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, one_core_each(threads))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
