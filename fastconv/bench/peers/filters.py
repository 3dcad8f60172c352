"""Rivals for one filter on one channel: OpenCV and SciPy."""

from __future__ import annotations

import numpy as np

from fastconv.bench.case import AnyCase, Arrays
from fastconv.bench.peers.peer import Call, NotOffered, Peer, single_filter


def _bias(data: Arrays) -> float:
    return 0.0 if data.bias is None else float(data.bias[0])


def _opencv(case: AnyCase, data: Arrays, threads: int) -> Call:
    spec = single_filter(case)
    if spec.ndim != 2:
        raise NotOffered("only images")
    import cv2

    cv2.setNumThreads(threads)
    x, w, delta = data.x[0, 0], np.ascontiguousarray(data.w[0, 0]), _bias(data)
    out: np.ndarray = np.empty(x.shape, x.dtype)

    def call() -> np.ndarray:
        cv2.filter2D(x, cv2.CV_32F, w, dst=out, delta=delta, borderType=cv2.BORDER_CONSTANT)
        return out.reshape(case.out_shape)

    return call


def _ndimage(case: AnyCase, data: Arrays, threads: int) -> Call:
    single_filter(case)
    from scipy import ndimage

    x, w, bias = data.x[0, 0], data.w[0, 0], np.float32(_bias(data))
    out: np.ndarray = np.empty(x.shape, x.dtype)

    def call() -> np.ndarray:
        ndimage.correlate(x, w, output=out, mode="constant")
        np.add(out, bias, out=out)
        return out.reshape(case.out_shape)

    return call


def _oaconvolve(case: AnyCase, data: Arrays, threads: int) -> Call:
    single_filter(case)
    from scipy import fft, signal

    x, w, bias = data.x[0, 0], np.flip(data.w[0, 0]), np.float32(_bias(data))

    def call() -> np.ndarray:
        with fft.set_workers(threads):
            result: np.ndarray = signal.oaconvolve(x, w, mode="same")
        result += bias
        return result[None, None]

    return call


PEERS = (
    Peer(
        name="opencv",
        title="OpenCV filter2D",
        distribution="opencv-python-headless",
        modules=("cv2",),
        setting=(
            "one float32 plane into a given array, bias as delta, its own threads; it changes to Fourier "
            "transforms for large filters by itself"
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
