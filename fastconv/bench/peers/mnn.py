"""MNN: a graph of one node between the layouts of NumPy and of MNN, saved and loaded as a module.

The graph is built with its expressions: importing its converter, `MNN.tools`, installs packages without asking.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case
from fastconv.bench.peers.peer import Call, NotOffered, Peer, common, plain, symmetric


def _refuse(case: AnyCase) -> None:
    common(case)
    pads = symmetric(plain(case).padding if isinstance(case, Case) else case.spec.pads)
    if pads is None or len(pads) != 2:
        raise NotOffered("only 2-D with the same padding at both ends")
    if case.op == "avg_pool":
        raise NotOffered("its interface in Python counts no padding in a mean")
    if isinstance(case, Case) and case.spec.g > 1 and not case.spec.g == case.spec.ic == case.spec.oc:
        raise NotOffered("only one group, or one for each channel")


def _node(case: AnyCase, data: Arrays, x: Any) -> Any:
    """Pairs are (width, height) to MNN."""
    import MNN.expr as expr

    if not isinstance(case, Case):
        spec = case.spec
        kernel, stride, pads = (
            list(pair[::-1]) for pair in (spec.kernel_size, spec.stride, symmetric(spec.pads) or ())
        )
        return expr.max_pool(x, kernel, stride, expr.Padding_Mode.CAFFE, pads)
    layer = case.spec
    w = expr.const(data.w, list(data.w.shape), expr.NCHW)
    bias = expr.const(data.bias if data.bias is not None else np.zeros(layer.oc, np.float32), [layer.oc], expr.NCHW)
    pads = list((symmetric(layer.padding) or ())[::-1])
    stride, dilation = list(layer.stride[::-1]), list(layer.dilation[::-1])
    return expr.conv2d(x, w, bias, stride, pads, dilation, layer.g, expr.Padding_Mode.CAFFE)


def _prepare(case: AnyCase, data: Arrays, threads: int) -> Call:
    _refuse(case)
    import MNN.expr as expr
    import MNN.nn as nn

    shape = list(data.x.shape)
    x = expr.placeholder(shape, expr.NCHW)
    x.name = "x"
    y = expr.convert(_node(case, data, expr.convert(x, expr.NC4HW4)), expr.NCHW)
    y.name = "y"
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "case.mnn")
        expr.save([y], path)
        # With power "normal" it leaves cores idle.
        settings = {"backend": "CPU", "numThread": threads, "precision": "high", "power": "high"}
        manager = nn.create_runtime_manager((settings,))
        module = nn.load_module_from_file(path, ["x"], ["y"], runtime_manager=manager, shape_mutable=False)
    given = expr.const(data.x, shape, expr.NCHW)

    def call(kept: object = manager) -> np.ndarray:  # the module does not keep it
        given.write(data.x)
        result: np.ndarray = module.forward([given])[0].read()
        return result

    return call


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
        modules=("MNN",),
        setting=(
            "a module of one node between MNN's layout and NumPy's, CPU backend, precision and power high; its "
            "wheel has no AVX-512 code, which halves its peak on machines that have it"
        ),
        prepare=_prepare,
        details=_details,
    ),
)
