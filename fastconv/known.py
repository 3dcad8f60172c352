"""Single calls that came before: the next one like it is checked no more than its arrays need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import tuning
from fastconv.arena import new_result
from fastconv.arguments import is_plain
from fastconv.threads import get_num_threads

Key = tuple[Any, ...] | None
"""What a call says and the shapes that it came with; None where it is known by nothing."""

calls: dict[Key, Any] = {}
"""The quick way of the next call like that one, or None; clearable."""


def key_of(name: object, options: tuple[Any, ...], threads: Any, *inputs: Any) -> Key:
    """What calls of ``name`` have in common that differ in the elements of their arrays only.

    None where an input is not a NumPy array, or an option is more than `repr` says of it. (1, 1.0 and True are equal.)
    """
    for value in inputs:
        if type(value) is not np.ndarray:
            return None
    said = (*options, get_num_threads() if threads is None else threads)
    if not all(map(is_plain, said)):
        return None
    return name, *[(value.shape, value.dtype) for value in inputs], repr(said)


def again(key: Key, out: Any, x: Any, *others: Any) -> Any:
    """The result of a call that came before, or None: the quick way takes plain arrays only, see `keep`."""
    quick = calls.get(key) if key is not None else None
    if quick is None:
        return None
    result = new_result(quick.out_shape, quick.dtype) if out is None else out
    return result if quick(x, result, *others) else None


def keep(key: Key, make: Callable[[], Any]) -> None:
    """Keep what ``make`` returns for the next call: None, or what takes (x, out, ...) and returns whether it did.

    That knows the ``out_shape`` and the ``dtype`` of its result.
    """
    if key is None or key in calls:
        return
    if len(calls) >= tuning.KNOWN_CALLS:
        calls.clear()
    calls[key] = make()
