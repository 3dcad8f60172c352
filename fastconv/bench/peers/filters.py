"""Rivals for one filter on one channel: OpenCV and SciPy."""

from __future__ import annotations

import numpy as np

from fastconv.bench.case import AnyCase, Arrays
from fastconv.bench.peers.peer import Call, NotOffered, Peer, aligned, single_filter


def _bias(data: Arrays) -> float:
    return 0.0 if data.bias is None else float(data.bias[0])


def _opencv(case: AnyCase, data: Arrays, threads: int) -> Call:
    spec = single_filter(case)
    if spec.ndim != 2:
        raise NotOffered("only images")
    import cv2

    cv2.setNumThreads(threads)
    x, w, delta = aligned(data.x[0, 0]), aligned(data.w[0, 0]), _bias(data)
    out = aligned(np.zeros_like(x))
    anchor = (spec.padding[1][0], spec.padding[0][0])

    def call() -> np.ndarray:
        cv2.filter2D(x, cv2.CV_32F, w, out, anchor, delta, cv2.BORDER_CONSTANT)
        return out.reshape(case.out_shape)

    return call


def _ndimage(case: AnyCase, data: Arrays, threads: int) -> Call:
    spec = single_filter(case)
    from scipy import ndimage

    x, w, bias = aligned(data.x[0, 0]), data.w[0, 0], np.float32(_bias(data))
    out = aligned(np.zeros_like(x))
    origin = [before - k // 2 for k, (before, _) in zip(spec.kernel_size, spec.padding, strict=True)]

    def call() -> np.ndarray:
        ndimage.correlate(x, w, output=out, mode="constant", origin=origin)
        np.add(out, bias, out=out)
        return out.reshape(case.out_shape)

    return call


def _oaconvolve(case: AnyCase, data: Arrays, threads: int) -> Call:
    spec = single_filter(case)
    from scipy import fft, signal

    x, w, bias = aligned(data.x[0, 0]), aligned(np.flip(data.w[0, 0])), np.float32(_bias(data))
    middle = tuple(slice(after, after + size) for size, (_, after) in zip(x.shape, spec.padding, strict=True))

    def call() -> np.ndarray:
        with fft.set_workers(threads):
            result: np.ndarray = signal.oaconvolve(x, w, mode="full")[middle]
        result += bias
        return result[None, None]

    return call


PEERS = (
    Peer(
        name="opencv",
        title="OpenCV filter2D",
        distribution="opencv-python-headless opencv-python opencv-contrib-python-headless opencv-contrib-python",
        modules=("cv2",),
        setting=(
            "one float32 plane into a given array, bias as delta, for results of the input's size; its own threads; "
            "from about 11x11 on it takes Fourier transforms by itself"
        ),
        prepare=_opencv,
    ),
    Peer(
        name="scipy-ndimage",
        title="SciPy ndimage.correlate",
        distribution="scipy",
        modules=("scipy",),
        setting=("into a given array; it has one thread, whatever is asked for"),
        prepare=_ndimage,
    ),
    Peer(
        name="scipy-oaconvolve",
        title="SciPy signal.oaconvolve",
        distribution="scipy",
        modules=("scipy",),
        setting=("overlap-add of float32 transforms on as many workers as threads; it cannot prepare the filter"),
        prepare=_oaconvolve,
    ),
)
