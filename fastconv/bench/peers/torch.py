"""PyTorch three ways: as it comes, channels last, and with everything prepared that can be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case, PoolCase
from fastconv.bench.peers.peer import Call, NotOffered, Peer, aligned, channels_last, common, plain, symmetric

Operation = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """What PyTorch's convolutions take. ``ends`` is for a padding in a step of its own, where two ends differ."""

    w: Any
    bias: Any
    stride: tuple[int, ...]
    pads: tuple[int, ...]
    dilation: tuple[int, ...]
    g: int
    ends: list[int]


def _layer(case: Case, data: Arrays, last: bool) -> _Layer:
    """``last``: in channels-last memory, which 1-D has not; a 2-D layer of one row has."""
    spec = plain(case)
    import torch

    flat = last and spec.ndim == 1
    w = torch.from_numpy(aligned(data.w[:, :, None] if flat else data.w))
    if last:
        w = w.contiguous(memory_format=torch.channels_last if w.ndim == 4 else torch.channels_last_3d)
    pads = symmetric(spec.padding)
    one, none = (1,) * flat, (0,) * flat
    return _Layer(
        w=w,
        bias=None if data.bias is None else torch.from_numpy(data.bias),
        stride=(*one, *spec.stride),
        pads=(*none, *(pads or (0,) * spec.ndim)),
        dilation=(*one, *spec.dilation),
        g=spec.g,
        ends=[] if pads else [end for pair in spec.padding[::-1] for end in pair],
    )


def _after_padding(operation: Operation, layer: _Layer) -> Operation:
    import torch.nn.functional as F

    return (lambda x: operation(F.pad(x, layer.ends))) if layer.ends else operation


def _convolution(layer: _Layer) -> Operation:
    import torch.nn.functional as F

    function = getattr(F, f"conv{len(layer.stride)}d")
    arguments = (layer.w, layer.bias, layer.stride, layer.pads, layer.dilation, layer.g)
    return _after_padding(lambda x: function(x, *arguments), layer)


def _prepacked(layer: _Layer, x_shape: tuple[int, ...]) -> Operation:
    """The same with the weights already in oneDNN's order: the very calls that freezing compiles to."""
    import torch

    if not torch.backends.mkldnn.is_available():
        raise NotOffered("no oneDNN in this build")
    padded = [*x_shape]
    for axis, end in enumerate(layer.ends):
        padded[-1 - axis // 2] += end
    how = (layer.pads, layer.stride, layer.dilation, layer.g)
    w = torch.ops.mkldnn._reorder_convolution_weight(layer.w, *how, padded)
    function = torch.ops.mkldnn._convolution_pointwise
    arguments: tuple[Any, ...] = (w, layer.bias, *how, "none", [], "")  # the last three: nothing fused
    return _after_padding(lambda x: function(x, *arguments), layer)


def _pooling(case: PoolCase, last: bool) -> Operation:
    common(case)
    spec = case.spec
    pads = symmetric(spec.pads)
    if pads is None:
        raise NotOffered("only poolings with the same padding at both ends")
    import torch.nn.functional as F

    flat = last and len(pads) == 1
    window = [(first,) * flat + given for first, given in ((1, spec.kernel_size), (1, spec.stride), (0, pads))]
    function = getattr(F, f"{case.op}{len(window[0])}d")
    return lambda x: function(x, *window)


def _call(case: AnyCase, data: Arrays, operation: Operation, last: bool) -> Call:
    import torch

    if not last:
        x = aligned(data.x)
        return lambda: np.asarray(operation(torch.from_numpy(x)).numpy())
    placed = channels_last(data.x[:, :, None] if data.x.ndim == 3 else data.x)
    order = (0, placed.ndim - 1, *range(1, placed.ndim - 1))

    def call() -> np.ndarray:
        result: np.ndarray = operation(torch.from_numpy(placed).permute(order)).numpy()
        return result.reshape(case.out_shape)

    return call


def _start(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)  # once, not by entering a context in each call


def _eager(case: AnyCase, data: Arrays, threads: int, last: bool = False) -> Call:
    operation = _convolution(_layer(case, data, last)) if isinstance(case, Case) else _pooling(case, last)
    _start(threads)
    return _call(case, data, operation, last)


def _eager_last(case: AnyCase, data: Arrays, threads: int) -> Call:
    return _eager(case, data, threads, last=True)


def _frozen(case: AnyCase, data: Arrays, threads: int) -> Call:
    if math.prod(case.out_shape) == 0:
        raise NotOffered("no empty results")
    if isinstance(case, Case):
        shape = data.x.shape if data.x.ndim > 3 else (*data.x.shape[:2], 1, data.x.shape[2])
        operation = _prepacked(_layer(case, data, last=True), shape)
    else:
        operation = _compiled(_pooling(case, last=True))
    _start(threads)
    return _call(case, data, operation, last=True)


def _compiled(operation: Operation) -> Operation:
    import torch

    torch._dynamo.reset()  # let go of the cases before
    compiled: Operation = torch.compile(operation, dynamic=False)
    return compiled


def _details() -> str:
    import torch

    return f"({torch.backends.cpu.get_cpu_capability()})"


PEERS = (
    Peer(
        name="torch",
        title="PyTorch",
        distribution="torch",
        modules=("torch",),
        setting=(
            "eager, NCHW, gradients off; tensors share the arrays' memory; oneDNN reorders the weights in each call, "
            "as whoever calls a layer has it"
        ),
        prepare=_eager,
        details=_details,
    ),
    Peer(
        name="torch-nhwc",
        title="PyTorch, channels last",
        distribution="torch",
        modules=("torch",),
        setting=(
            "eager, gradients off; x and w lie channels last before the clock starts and the result stays so, which "
            "spares the reorders of x; 1-D layers as 2-D ones of one row"
        ),
        prepare=_eager_last,
        details=_details,
    ),
    Peer(
        name="torch-frozen",
        title="PyTorch, frozen",
        distribution="torch",
        modules=("torch",),
        setting=(
            "channels last, weights reordered for oneDNN beforehand by the calls that torch.compile with freezing "
            "comes to, without what entering it costs; faster than torch.compile, torch.jit.optimize_for_inference and "
            "mkldnn modules; poolings by torch.compile, which makes faster ones"
        ),
        prepare=_frozen,
        details=_details,
    ),
)
