"""ncnn: a network of one layer, written as its two files."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case
from fastconv.bench.peers.peer import Call, NotOffered, Peer, aligned, common, fastest, plain

_DIMENSIONS = {1: "1D", 2: "", 3: "3D"}

# Numbers of ncnn's parameters for the axes (w, h, d): its layers read them by number.
_KERNEL, _DILATION, _STRIDE = (1, 11, 21), (2, 12, 22), (3, 13, 23)
_BEFORE, _AFTER = (4, 14, 24), (15, 16, 17)
_POOL_KERNEL, _POOL_STRIDE, _POOL_BEFORE, _POOL_AFTER = (1, 11, 21), (2, 12, 22), (3, 13, 23), (14, 15, 16)


def _per_axis(numbers: tuple[int, ...], values: Any) -> dict[int, int]:
    """Values in the order (d, h, w) under the numbers for (w, h, d)."""
    return dict(zip(numbers, tuple(values)[::-1], strict=False))


def _layer(case: AnyCase, data: Arrays) -> tuple[str, dict[int, int], bytes]:
    """Type, parameters and weights."""
    if not isinstance(case, Case):
        common(case)
        spec = case.spec
        mean = case.op == "avg_pool"
        values = {0: int(mean), 5: 1, 6: 1}  # 5: padding as given, sizes rounded down; 6: padding counts in the mean
        values |= _per_axis(_POOL_KERNEL, spec.kernel_size) | _per_axis(_POOL_STRIDE, spec.stride)
        values |= _per_axis(_POOL_BEFORE, [before for before, _ in spec.pads])
        values |= _per_axis(_POOL_AFTER, [after for _, after in spec.pads])
        return f"Pooling{_DIMENSIONS[len(spec.kernel_size)]}", values, b""
    layer = plain(case)
    values = {0: layer.oc, 5: int(data.bias is not None), 6: data.w.size}
    values |= _per_axis(_KERNEL, layer.kernel_size) | _per_axis(_DILATION, layer.dilation)
    values |= _per_axis(_STRIDE, layer.stride)
    values |= _per_axis(_BEFORE, [before for before, _ in layer.padding])
    values |= _per_axis(_AFTER, [after for _, after in layer.padding])
    kind = "Convolution"
    if layer.g > 1:
        values[7], kind = layer.g, "ConvolutionDepthWise"
    bias = b"" if data.bias is None else data.bias.tobytes()
    return kind + _DIMENSIONS[layer.ndim], values, bytes(4) + data.w.tobytes() + bias  # 4 zero bytes: plain float32


@functools.cache
def _allocators() -> tuple[Any, Any]:
    """For results and for workspaces. They end with the process: ncnn aborts where an array outlives its allocator."""
    import ncnn

    return ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()


def _prepare(case: AnyCase, data: Arrays, threads: int) -> Call:
    kind, values, weights = _layer(case, data)
    if len(data.x) > 1:
        raise NotOffered("one image at a time")
    import ncnn

    x = aligned(data.x[0])
    text = f"{kind} layer 1 1 x y " + " ".join(f"{number}={value}" for number, value in values.items())

    def build(winograd: bool) -> Call:
        net = _load(text, weights, threads, winograd)

        def call() -> np.ndarray:
            extractor = net.create_extractor()
            extractor.input("x", ncnn.Mat(x))
            code, result = extractor.extract("y")
            if code:
                raise RuntimeError(f"ncnn ends {text} with code {code}")
            return np.array(result, copy=False)[None]

        return call

    return fastest(build, (True, False)) if _winograd(case) else build(False)


def _winograd(case: AnyCase) -> bool:
    """Whether ncnn has two ways; its own choice between them is poor where images are small."""
    return (
        isinstance(case, Case) and case.spec.kernel_size == (3, 3) and max(case.spec.stride) == 1 and case.spec.g == 1
    )


def _load(layer: str, weights: bytes, threads: int, winograd: bool) -> Any:
    import ncnn

    net = ncnn.Net()
    options = net.opt
    options.num_threads, options.lightmode = threads, True
    for allocator in _allocators():
        allocator.clear()  # what the cases before left
    # Without its own, ncnn copies each result into fresh pages: a fifth of the time of a 1x1 layer.
    options.blob_allocator, options.workspace_allocator = _allocators()
    options.use_winograd_convolution = winograd
    options.use_sgemm_convolution = options.use_packing_layout = True
    for kept in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed", "int8_inference"):
        setattr(options, f"use_{kept}", False)
    with tempfile.TemporaryDirectory() as folder:
        param, binary = Path(folder) / "net.param", Path(folder) / "net.bin"
        param.write_text(f"7767517\n2 2\nInput x 0 1 x\n{layer}\n")
        binary.write_bytes(weights)
        if net.load_param(str(param)) or net.load_model(str(binary)):
            raise RuntimeError(f"ncnn does not load {layer}")
    return net


PEERS = (
    Peer(
        name="ncnn",
        title="ncnn",
        distribution="ncnn",
        modules=("ncnn",),
        setting=(
            "a network of one layer, packed layouts, with and without its own Winograd, the faster of the two kept; "
            "float16, bfloat16 and int8 off, light mode, pool allocators as in its own benchmark, arrays handed over "
            "without a copy; one image at a time"
        ),
        prepare=_prepare,
    ),
)
