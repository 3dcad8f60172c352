"""The sizes of the processor's data caches, as the system gives them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_SYSFS = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def caches() -> dict[str, str]:
    """Size of each data cache of the first core, such as ``{"L1": "48K"}``; empty where unreadable."""
    result = {}
    for index in sorted(_SYSFS.glob("index*")):
        try:
            level, kind, size = ((index / f).read_text().strip() for f in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            result[f"L{level}"] = size
    return result


def size_of(text: str) -> int:
    """Bytes of a size such as "48K".

    >>> size_of("48K")
    49152
    """
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else int(text)


@cache
def l2_bytes(default: int = 2**20) -> int:
    """Bytes of the second-level cache of a core, or ``default`` where the system does not say."""
    found = caches()
    return size_of(found["L2"]) if "L2" in found else default
