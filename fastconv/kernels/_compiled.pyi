from collections.abc import Sequence
from typing import Any

import numpy as np

KINDS: tuple[str, ...]
ACTIVATIONS: tuple[str | None, ...]

def isas_compiled() -> tuple[str, ...]: ...
def isas_present() -> tuple[str, ...]: ...
def isa() -> str: ...
def set_isa(name: str) -> None: ...
def last_kernel() -> str | None: ...
def keep_at_most(nbytes: int) -> None: ...
def kept_bytes() -> int: ...
def vector_lanes(isa: str, itemsize: int) -> int: ...
def tile_pixels(isa: str) -> int: ...
def has_windows(isa: str, taps: int, stride: int) -> bool: ...
def fma_peak(threads: int = 1, milliseconds: float = 10.0, itemsize: int = 4) -> float: ...

class Layer:
    kernel_name: str
    scratch_bytes: int
    room: int
    def __init__(
        self,
        isa: str,
        itemsize: int,
        sizes: tuple[int, int, int, int],
        axes: Sequence[Any],
        tile: tuple[int, int, int, int],
        ic_block: int,
        held: int,
        kind: str,
        blocks: tuple[int, int, int],
        room: int,
        stream: bool,
        dense: bool,
        activation: str | None,
        parameter: float,
        winograd: tuple[tuple[int, int, int, np.ndarray, np.ndarray], ...] | None = None,
    ) -> None: ...
    def run(
        self,
        x: np.ndarray,
        out: np.ndarray,
        residual: np.ndarray | None,
        bias: np.ndarray | None,
        packed: np.ndarray | None,
        weights: np.ndarray | None,
        finite: bool,
        threads: int,
    ) -> None: ...

class Plain:
    out_shape: tuple[int, ...]
    dtype: np.dtype[Any]

class Bound(Plain):
    def __init__(
        self,
        layer: Layer,
        shapes: tuple[tuple[int, ...], ...],
        axes: tuple[tuple[int, ...], ...],
        packed: np.ndarray | None,
        weights: np.ndarray | None,
        bias: np.ndarray | None,
        finite: bool,
        dtype: np.dtype[Any],
        threads: int,
    ) -> None: ...
    def __call__(self, x: object, out: object, w: object = None, bias: object = None) -> bool: ...

class Pool(Plain):
    def __init__(
        self,
        mean: bool,
        shapes: tuple[tuple[int, ...], ...],
        axes: tuple[tuple[int, ...], ...],
        dtype: np.dtype[Any],
        windows: Sequence[Any],
        divisor: float,
        threads: int,
    ) -> None: ...
    def __call__(self, x: np.ndarray, out: np.ndarray) -> bool: ...
    def run(self, x: np.ndarray, out: np.ndarray) -> bool: ...
