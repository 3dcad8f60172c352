"""PyTorch three ways: as it comes, channels last, and compiled with frozen weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case
from fastconv.bench.peers.peer import Call, NotOffered, Peer, common, plain, symmetric

Operation = Callable[[Any], Any]


def _operation(case: AnyCase, data: Arrays, last: bool) -> Operation:
    """The layer as a function of a tensor, weights captured; ``last``: in channels-last memory."""
    import torch
    import torch.nn.functional as F

    if not isinstance(case, Case):
        common(case)
        spec = case.spec
        pads = symmetric(spec.pads)
        if pads is None:
            raise NotOffered("poolings have the same padding at both ends")
        flat = last and len(pads) == 1  # 1-D has no channels-last memory; a 2-D layer of one row has
        window = [(first,) * flat + given for first, given in ((1, spec.kernel_size), (1, spec.stride), (0, pads))]
        function = getattr(F, f"{case.op}{len(window[0])}d")
        return lambda x: function(x, *window)
    layer = plain(case)
    w = torch.from_numpy(data.w)
    bias = None if data.bias is None else torch.from_numpy(data.bias)
    flat = last and layer.ndim == 1
    pads = symmetric(layer.padding)
    ends = [end for pair in layer.padding[::-1] for end in pair]
    one = (1,) * flat
    function = getattr(F, f"conv{layer.ndim + flat}d")
    if flat:
        w = w.unsqueeze(2)
    if last:
        w = w.contiguous(memory_format=torch.channels_last if w.ndim == 4 else torch.channels_last_3d)
    stride, dilation = (*one, *layer.stride), (*one, *layer.dilation)
    if pads is None:  # the two ends differ: PyTorch pads in a step of its own
        none = (0,) * len(stride)
        return lambda x: function(F.pad(x, ends), w, bias, stride, none, dilation, layer.g)
    around = ((0,) if flat else ()) + pads
    return lambda x: function(x, w, bias, stride, around, dilation, layer.g)


def _prepare(case: AnyCase, data: Arrays, threads: int, last: bool = False, frozen: bool = False) -> Call:
    import torch

    torch.set_num_threads(threads)
    operation = _operation(case, data, last)
    if frozen:
        operation = _frozen(operation)
    if not last:

        def call() -> np.ndarray:
            with torch.inference_mode():
                result: np.ndarray = operation(torch.from_numpy(data.x)).numpy()
            return result

        return call
    x = np.ascontiguousarray(np.moveaxis(data.x, 1, -1))
    if x.ndim == 3:
        x = x[:, None]  # (n, 1, iw, ic)
    order = (0, x.ndim - 1, *range(1, x.ndim - 1))

    def call_last() -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = operation(torch.from_numpy(x).permute(order)).numpy()
        return result.reshape(case.out_shape) if result.ndim > len(case.out_shape) else result

    return call_last


def _frozen(operation: Operation) -> Operation:
    import torch
    from torch._inductor import config

    torch._dynamo.reset()  # let go of the cases before
    config.freezing = True
    compiled: Operation = torch.compile(operation, dynamic=False)
    return compiled


def _prepare_last(case: AnyCase, data: Arrays, threads: int) -> Call:
    return _prepare(case, data, threads, last=True)


def _prepare_frozen(case: AnyCase, data: Arrays, threads: int) -> Call:
    if math.prod(case.out_shape) == 0:
        raise NotOffered("empty results do not compile")
    return _prepare(case, data, threads, frozen=True)


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
            "eager, inference mode, NCHW; tensors share the arrays' memory; oneDNN reorders the weights in each "
            "call, as users of the functional API have it"
        ),
        prepare=_prepare,
        details=_details,
    ),
    Peer(
        name="torch-nhwc",
        title="PyTorch, channels last",
        distribution="torch",
        modules=("torch",),
        setting=(
            "eager, inference mode; x and w lie channels last before the clock starts and the result stays so, "
            "which spares every reorder: the fastest of the eager ways; 1-D layers as 2-D ones of one row"
        ),
        prepare=_prepare_last,
        details=_details,
    ),
    Peer(
        name="torch-frozen",
        title="PyTorch, compiled and frozen",
        distribution="torch",
        modules=("torch",),
        setting=(
            "torch.compile with frozen weights (inductor), which prepacks them for oneDNN; faster than "
            "torch.jit.optimize_for_inference and than mkldnn modules"
        ),
        prepare=_prepare_frozen,
        details=_details,
    ),
)
