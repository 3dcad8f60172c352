"""What a number depends on: processor, caches, instruction sets, threads, versions, BLAS."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import fastconv
from fastconv import registry
from fastconv.caches import caches
from fastconv.errors import BackendUnavailable
from fastconv.registry import Backend, installed
from fastconv.threads import cores

_PACKAGES = ("numba", "llvmlite", "scipy", "Cython")


def processor() -> str:
    """Name of the processor, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Versions of what computes here; None for what is not installed."""
    result: dict[str, str | None] = {
        "fastconv": fastconv.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    for package in _PACKAGES:
        try:
            result[package.lower()] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            result[package.lower()] = None
    return result


def instruction_sets() -> dict[str, Any]:
    """Instruction sets of the compiled extension: compiled, present, in use; or why there are none."""
    try:
        engine = importlib.import_module(registry.COMPILED)
    except (ImportError, OSError) as error:
        return {"extension": f"not loaded: {error}", "compiled": [], "present": [], "in_use": None}
    return {
        "extension": getattr(engine, "__file__", "built in"),
        "compiled": list(engine.isas_compiled()),
        "present": list(engine.isas_present()),
        "in_use": engine.isa(),
    }


def blas() -> str:
    """NumPy's BLAS, name and version."""
    config: Any = np.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def unavailable(backend: Backend) -> str | None:
    """Why a backend cannot run here, found by loading it; None if it can."""
    try:
        backend.load()
    except BackendUnavailable as error:
        return error.reason
    return None


def environment() -> dict[str, str]:
    """The variables in force that change what fastconv does."""
    wanted = (
        "OMP_NUM_THREADS",
        "OMP_WAIT_POLICY",
        "GOMP_SPINCOUNT",
        "NUMBA_CACHE_DIR",
        "NUMBA_THREADING_LAYER",
        "NUMBA_NUM_THREADS",
    )
    return {k: v for k, v in sorted(os.environ.items()) if k.startswith("FASTCONV_") or k in wanted}


def machine() -> dict[str, Any]:
    """The machine as plain data, for a report."""
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": cores(),
        "caches": caches(),
        "instruction_sets": instruction_sets(),
        "blas": blas(),
    }


def numba_facts() -> dict[str, Any] | None:
    """Numba's threading layers and cache folders, without starting its threads; None without Numba."""
    if not installed("numba"):
        return None
    config = importlib.import_module("numba").config
    layers = [
        name
        for name, module in (("tbb", "tbbpool"), ("omp", "omppool"), ("workqueue", "workqueue"))
        if _loads(f"numba.np.ufunc.{module}")
    ]
    source = importlib.import_module("fastconv.kernels.naive_loops").__file__
    beside = Path(source or "").parent / "__pycache__"
    writable = os.access(beside if beside.exists() else beside.parent, os.W_OK)
    folders = importlib.import_module("numba.misc.appdirs").AppDirs(appname="numba", appauthor=False)
    return {
        "layers": layers,
        "layer": config.THREADING_LAYER,
        "max_threads": config.NUMBA_NUM_THREADS,
        "cache": config.CACHE_DIR or (str(beside) if writable else folders.user_cache_dir),
    }


def _loads(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
