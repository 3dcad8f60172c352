"""Hot code, one algorithm a file. It knows arrays and numbers and imports nothing of fastconv."""

from __future__ import annotations

import functools
import importlib
from typing import Any


@functools.cache
def engine() -> Any:
    """The compiled kernels; None where they are not installed."""
    try:
        return importlib.import_module("fastconv.kernels._compiled")
    except (ImportError, OSError):
        return None
