"""asv benchmarks of starting: what an import takes, and the first call, each in fresh processes."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.layers import BACKENDS

IMPORTS = 7
CALLS = 3

IMPORT = """
import sys, time
if sys.argv[1] == "loaded before":
    import numpy
start = time.perf_counter()
import fastconv
print(time.perf_counter() - start)
"""

NUMBA = """
import numpy, time
start = time.perf_counter()
import numba
print(time.perf_counter() - start)
"""

FIRST_CALL = """
import sys, time
import numpy as np
try:
    import numba
except ImportError:
    pass
import fastconv
x, w = np.ones((1, 64, 56, 56), "float32"), np.ones((64, 64, 3, 3), "float32")
start = time.perf_counter()
fastconv.conv2d(x, w, padding=1, backend=sys.argv[1])
print(time.perf_counter() - start)
"""


def printed(code: str, *arguments: str, cache: str | None = None) -> float:
    """The number that a fresh process prints; Numba keeps what it compiles in the folder ``cache``."""
    environment = os.environ | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    # -P: not the source tree of the folder that it starts in.
    command = [sys.executable, "-P", "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotImplementedError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return float(done.stdout)


class Import:
    """Milliseconds of ``import fastconv``, with NumPy's own and without; median of several processes."""

    params = (("included", "loaded before"),)
    param_names = ("numpy",)
    unit = "ms"
    version = "1"

    def setup(self, numpy: str) -> None:
        printed(IMPORT, numpy)  # writes the .pyc files

    def track_import_ms(self, numpy: str) -> float:
        return 1e3 * statistics.median(printed(IMPORT, numpy) for _ in range(IMPORTS))


class ImportNumba:
    """Seconds of ``import numba`` after NumPy: not ours, but part of what the first call by it takes."""

    unit = "s"
    version = "1"

    def setup(self) -> None:
        printed(NUMBA)

    def track_seconds(self) -> float:
        return statistics.median(printed(NUMBA) for _ in range(IMPORTS))


class FirstCall:
    """Seconds of the first call of 64 to 64 channels, 3x3, 56x56; the import of Numba is over by then.

    With Numba's cache "empty" that is compiling, with "filled" reading; the other backends only load.
    """

    params = (BACKENDS, ("empty", "filled"))
    param_names = ("backend", "numba_cache")
    unit = "s"
    version = "1"
    timeout = 300

    def setup(self, backend: str, numba_cache: str) -> None:
        self.folder = Path(tempfile.mkdtemp())
        printed(FIRST_CALL, backend, cache=str(self.folder / "filled"))

    def teardown(self, backend: str, numba_cache: str) -> None:
        shutil.rmtree(self.folder)

    def track_first_call_seconds(self, backend: str, numba_cache: str) -> float:
        folders = [f"empty{number}" if numba_cache == "empty" else "filled" for number in range(CALLS)]
        return statistics.median(printed(FIRST_CALL, backend, cache=str(self.folder / folder)) for folder in folders)
