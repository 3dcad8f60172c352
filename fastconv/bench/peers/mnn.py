"""MNN: the ONNX model of one node, converted, loaded as a module."""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.bench.case import AnyCase, Arrays
from fastconv.bench.peers.onnx import model
from fastconv.bench.peers.peer import RIVAL_ERROR, Call, Peer

# Values of its hint 3, "Winograd memory": none, F(2,3), and all that it has.
_WINOGRAD, _NONE, _SMALL, _ALL = 3, 0, 1, 3


def _prepare(case: AnyCase, data: Arrays, threads: int) -> Call:
    made = model(case, data)
    import _tools  # the converter itself; importing MNN.tools around it installs packages without asking
    import MNN.expr as expr

    given = expr.const(data.x, list(data.x.shape), expr.NCHW)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "case.onnx", Path(folder) / "case.mnn"
        source.write_bytes(made)
        _tools.mnnconvert(
            ["", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "case"]
        )

        direct = _load(target, threads, _NONE, given, case.out_shape)
        right = direct().copy()
        del direct
        compute = _load(target, threads, _ALL, given, case.out_shape)
        # Its F(6,3) loses so many digits that it would not count as right: no larger tiles than F(2,3) there.
        if np.abs(compute() - right).max(initial=0.0) > RIVAL_ERROR * np.abs(right).max(initial=0.0):
            compute = _load(target, threads, _SMALL, given, case.out_shape)

    def call() -> np.ndarray:
        given.write(data.x)
        return compute()

    return call


def _load(path: Path, threads: int, winograd: int, given: Any, shape: tuple[int, ...]) -> Call:
    import MNN.nn as nn

    # With power "normal" it leaves cores idle.
    settings = {"backend": "CPU", "numThread": threads, "precision": "high", "power": "high"}
    manager = nn.create_runtime_manager((settings,))
    manager.set_hint(_WINOGRAD, winograd)
    module = nn.load_module_from_file(str(path), ["x"], ["y"], runtime_manager=manager, shape_mutable=False)
    kept = [manager]  # the module does not keep it, and arrays have only the address of their variable

    def compute() -> np.ndarray:
        kept[1:] = module.forward([given])
        result: np.ndarray = kept[1].read()
        return result.reshape(shape)

    return compute


def _details() -> str:
    files = importlib.metadata.files("MNN") or []
    library = next((file for file in files if file.name.startswith("_mnncengine")), None)
    wide = library is not None and b"AVX512" in library.locate().read_bytes()  # type: ignore[attr-defined]
    return f"(AVX-512 in its build: {'yes' if wide else 'no'})"


PEERS = (
    Peer(
        name="mnn",
        title="MNN",
        distribution="MNN",
        modules=("MNN", "_tools", "onnx"),
        setting=(
            "the same model through its converter, which makes weights constant where its expressions do not, and "
            "without that there is no Winograd; CPU backend, precision and power high; its F(6,3) is kept off where "
            "its error is beyond 1e-4, and F(2,3) taken; its wheel has no AVX-512 code, which halves its peak on "
            "machines that have it"
        ),
        prepare=_prepare,
        details=_details,
    ),
)
