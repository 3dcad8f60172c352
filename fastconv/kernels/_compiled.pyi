from collections.abc import Sequence
from typing import Any

import numpy as np

ACTIVATIONS: tuple[str | None, ...]

def isas_compiled() -> tuple[str, ...]: ...
def isas_present() -> tuple[str, ...]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def last_kernel() -> str | None: ...
def register_rows(isa: str, ocg: int) -> int: ...
def fma_peak(threads: int = 1, milliseconds: float = 10.0, itemsize: int = 4) -> float: ...

class Layer:
    kernel_name: str
    scratch_bytes: int
    def __init__(
        self,
        isa: str,
        itemsize: int,
        sizes: tuple[int, int, int, int],
        axes: Sequence[Any],
        tile: tuple[int, int, int],
        ic_block: int,
        mr: int,
        activation: str | None,
        parameter: float,
        winograd: tuple[int, int, int, np.ndarray, np.ndarray] | None = None,
    ) -> None: ...
    def run(
        self,
        x: np.ndarray,
        out: np.ndarray,
        residual: np.ndarray | None,
        bias: np.ndarray | None,
        packed: np.ndarray | None,
        weights: np.ndarray | None,
        in_place: bool,
        threads: int,
        scratch: np.ndarray,
    ) -> None: ...
