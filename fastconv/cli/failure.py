"""How a command gives up: one line and an exit code."""

from __future__ import annotations

from collections.abc import Sequence

WRONG, USAGE, STOPPED = 1, 2, 130
"""Exit codes: something was computed wrong or failed; the command line makes no sense; Ctrl-C. 0 is all well."""


class Failure(Exception):
    """Ends a command; the message names what to do."""

    def __init__(self, message: str, code: int = WRONG) -> None:
        super().__init__(message)
        self.code = code


def require(extra: str, *modules: str) -> None:
    """Fail with the command that brings the missing modules."""
    from fastconv.registry import installed

    missing = [name for name in modules if not installed(name)]
    if missing:
        raise Failure(f"{' and '.join(missing)} not installed; run: pip install 'fastconv[{extra}]'")


def listed(text: str) -> list[str]:
    """The parts of a comma-separated option."""
    return [part.strip() for part in text.split(",") if part.strip()]


def backend_names(text: str | None, default: Sequence[str]) -> list[str]:
    """Backends given as ``a,b``, or the default; an unknown one is bad usage."""
    from fastconv import registry

    names = list(default) if text is None else listed(text)
    if not names:
        raise Failure(f"--backends={text!r} names none; choose some of {', '.join(default)}", USAGE)
    try:
        return [registry.find(name).name for name in names]
    except ValueError as error:
        raise Failure(str(error), USAGE) from None


def thread_count(given: int | None) -> int:
    """Threads given, or the default of the process."""
    from fastconv.threads import check_threads, get_num_threads

    try:
        return get_num_threads() if given is None else check_threads(given)
    except ValueError as error:
        raise Failure(str(error), USAGE) from None
