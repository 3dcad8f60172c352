"""Compiled kernels on disk, in files that prove what they are.

Numba's own cache trusts its files: one that was cut short, or that holds another kernel, ends the process or gives
wrong results, and of the sources it looks at one file only. Here a kernel has a file of its own, named after what it
was compiled from and for; it begins with digests of all our kernels' sources, and of its name and content.
Numba still says where the files lie, what identifies a kernel, and how one becomes bytes and a kernel again.
"""

# mypy: disable-error-code="attr-defined, no-untyped-call, misc, no-any-return, assignment"

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps

DIGEST = hashlib.sha256().digest_size


@cache
def sources() -> bytes:
    """Digest of what every kernel is compiled from and with: our modules beside this one, Numba, llvmlite."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


class KernelFiles:
    """The files of one function's kernels in a folder; stands in for Numba's index and data files."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder, self._name = folder, name

    def path(self, key: Any) -> Path:
        """Where the kernel with this key lies: in a file of its own, so that processes share no index."""
        return Path(self._folder, f"{self._name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.fastconv")

    def load(self, key: Any) -> Any:
        """The kernel as Numba's data; None where there is none, of these sources and undamaged."""
        path = self.path(key)
        try:
            found = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return _recompile(path, error.strerror or str(error))
        if len(found) >= 2 * DIGEST and found[:DIGEST] != sources():
            return None
        payload = found[2 * DIGEST :]
        if found[DIGEST : 2 * DIGEST] != _digest(key, payload):
            return _recompile(path, "it is damaged, or another kernel's")
        try:
            return pickle.loads(payload)
        except Exception as error:  # whatever a pickle of another Python raises
            return _recompile(path, str(error))

    def save(self, key: Any, data: Any) -> None:
        """Write a kernel; that it cannot be kept is said, and no error."""
        payload, path = dumps(data), self.path(key)
        try:
            handle, name = tempfile.mkstemp(prefix=path.name, dir=self._folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(sources() + _digest(key, payload) + payload)
                os.replace(name, path)
            except OSError:
                os.unlink(name)
                raise
        except OSError as error:
            _warn(f"the compiled kernel cannot be kept in {path}: {error.strerror}; the next process compiles it again")

    def flush(self) -> None:
        """Remove the kernels of this function."""
        for path in Path(self._folder).glob(f"{self._name}-*.fastconv"):
            path.unlink(missing_ok=True)


class KernelCache(FunctionCache):
    """Numba's cache of one function, in `KernelFiles`."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = KernelFiles(self.cache_path, self._impl.filename_base)


def kept(compiler: Any, function: Any = None) -> Any:
    """What `numba.njit` gives, or a CFunc of ``function``, told to keep on disk what it compiles; itself.

    Where no folder can be written that is said, and nothing kept.
    """
    function = function or compiler.py_func
    try:
        compiler._cache = KernelCache(function)
    except RuntimeError:  # Numba found no folder
        _warn(
            f"no folder to keep the compiled {function.__qualname__} in, so every process compiles it; "
            "set NUMBA_CACHE_DIR to one that can be written"
        )
    return compiler


def _digest(key: Any, payload: bytes) -> bytes:
    return hashlib.sha256(sources() + repr(key).encode() + payload).digest()


def _recompile(path: Path, why: str) -> None:
    _warn(f"the compiled kernel in {path} is not used: {why}; it is compiled again")


def _warn(what: str) -> None:
    warnings.warn(f"fastconv: {what}", RuntimeWarning, stacklevel=2)
