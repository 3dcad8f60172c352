"""Parts of the work on short-lived Python threads, for kernels whose time goes into NumPy and SciPy calls."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import Any


def share(call: Callable[[Any], None], parts: Sequence[Any], threads: int) -> None:
    """``call`` each of ``parts`` on so many threads, to which NumPy's error state does not cross by itself."""
    if threads <= 1:
        for part in parts:
            call(part)
        return
    from concurrent.futures import ThreadPoolExecutor  # 5 ms, of which `import fastconv` has no need

    with ThreadPoolExecutor(threads) as pool:
        tasks = [pool.submit(contextvars.copy_context().run, call, part) for part in parts]
        for task in tasks:
            task.result()
