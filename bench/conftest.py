"""The option of `test_speed`. asv imports this file too, in environments without pytest."""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--cases", default="standard", choices=("standard", "all"),
        help="layers of fastconv.bench.cases: the standard spread (default), or all but those of seconds a call",
    )  # fmt: skip
