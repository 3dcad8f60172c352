"""Every named problem: `CASES`, the layers that are timed, and `PROBLEMS`, the small ones for agreement."""

from __future__ import annotations

from fastconv.bench.case import AnyCase, Arrays, Case, PoolCase, arrays
from fastconv.bench.networks import CASES
from fastconv.bench.problems import PROBLEMS

__all__ = ["BACKEND_NAMES", "CASES", "EXCLUSIONS", "PROBLEMS", "STANDARD", "AnyCase", "Arrays", "Case", "PoolCase",
           "arrays", "find"]  # fmt: skip

BACKEND_NAMES = ("naive", "im2col", "numba", "cython", "winograd", "fft")
"""Every backend that the tests must exercise; a test compares it with the registry."""

EXCLUSIONS: dict[tuple[str, str], str] = {}
"""(backend, name of a problem) -> why the agreement tests leave the pair out, beyond `why_not`."""

STANDARD = frozenset(
    (
        "resnet-64x56-3x3",
        "resnet-256x14-3x3",
        "resnet-512x7-3x3",
        "resnet-64x56-1x1",
        "resnet-stem-7x7s2",
        "resnet-128x56-3x3s2",
        "resnet-64x56-3x3-n16",
        "vgg-256x56-3x3",
        "vgg-64x224-3x3",
        "lecture-1x1",
        "lecture-3x3",
        "mobilenet-dw-32x112",
        "mobilenet-dw-144x56s2",
        "mobilenet-96x56-1x1",
        "mobilenet3-120x28-5x5-dw",
        "convnext-dw-96x56-7x7",
        "convnext-96to384x56-1x1",
        "inception-192x17-1x7",
        "resnext-128x56-g32",
        "deeplab-512x33-d2",
        "unet-64x256-3x3",
        "deepbench-1to32x161x700-5x20s2",
        "audio-80s4",
        "audio-d256",
        "c3d-64x16x56",
        "photo-3x3",
        "photo-15x15",
        "photo-31x31",
        "tiny-8x16",
        "mnist-6to16x14-5x5-n64",
        "odd-37x45x61",
        "resnet-max-3x3s2",
        "lecture-avg-3x3s2",
        "resnet-global-avg",
    )
)
"""What is timed unless cases are named: some of every group, in a quarter of an hour with all rivals."""


def find(name: str) -> AnyCase:
    """The case or problem of that name.

    Raises
    ------
    KeyError
        If there is none.
    """
    return {case.name: case for case in (*CASES, *PROBLEMS)}[name]
