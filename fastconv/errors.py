"""The two errors of fastconv's own; everything else is ``ValueError`` or ``TypeError``."""

from __future__ import annotations


class UnsupportedConv(ValueError):
    """A backend was asked for a convolution that it does not compute.

    Attributes
    ----------
    backend : str
        Name of the backend that refused.
    reason : str
        What it lacks, in the words of ``why_not``.
    """

    def __init__(self, backend: str, reason: str, able: tuple[str, ...] = ()) -> None:
        self.backend, self.reason, self.able = backend, reason, able
        remedy = f" Backends that can: {', '.join(able)}." if able else ""
        super().__init__(f"backend {backend!r} {reason}.{remedy}")

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.backend, self.reason, self.able)


class BackendUnavailable(RuntimeError):
    """A backend exists but a part that it needs is not installed here.

    Attributes
    ----------
    backend : str
        Name of the backend.
    reason : str
        The missing part and the command that brings it.
    """

    def __init__(self, backend: str, reason: str, able: tuple[str, ...] = ()) -> None:
        self.backend, self.reason, self.able = backend, reason, able
        remedy = f" Backends available here: {', '.join(able)}." if able else ""
        super().__init__(f"backend {backend!r} is not available: {reason}.{remedy}")

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[str, ...]]]:
        return type(self), (self.backend, self.reason, self.able)
