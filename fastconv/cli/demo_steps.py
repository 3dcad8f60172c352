"""The demo's work: the photograph, four convolutions with their references, and one run of each.

Every step gets the same input on every backend (that of the float64 reference, rounded to float32), so
that a backend that takes only some of the steps can still be compared on those.
"""

from __future__ import annotations

import statistics
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastconv
from fastconv import registry
from fastconv.bench import reference
from fastconv.cli import demo_filters
from fastconv.cli.failure import USAGE, WRONG, Failure
from fastconv.planning import Plan
from fastconv.spec import ConvSpec, PoolSpec

LONGEST_SIDE = 640
"""A larger photograph is scaled down to this, or the naive loops would take minutes."""

REPEAT_SECONDS, REPEAT_CALLS = 0.4, 9
"""A step is repeated for so long or so often; the median counts."""

CROP_FLOPS = 1_000_000
"""Where Numba is missing the naive loops run as plain Python, about 1 MFLOP/s: then on a crop of this size."""

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One convolution of the demo with its float64 reference."""

    name: str
    title: str
    x: np.ndarray
    w: np.ndarray
    stride: int
    padding: int
    activation: str | None
    expected: np.ndarray

    def plan(self, backend: str) -> Plan:
        return fastconv.plan(
            self.w, self.x.shape, None, self.stride, self.padding, activation=self.activation, backend=backend
        )

    def cropped(self, flops: int) -> Step:
        """The middle of the picture, about so many operations; the crop is padded like the picture."""
        per_pixel = 2 * self.w.size
        side = max(round((flops / per_pixel) ** 0.5), 1) * self.stride
        top, left = (max((size - side) // 2, 0) for size in self.x.shape[2:])
        crop = np.ascontiguousarray(self.x[:, :, top : top + side, left : left + side])
        return make_step(self.name, self.title, crop, self.w, self.stride, self.padding, self.activation)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One step on one backend; ``error`` is over the reference's largest value."""

    step: str
    seconds: float
    flops: int
    error: float
    right: bool
    crop: bool
    result: np.ndarray


def make_step(
    name: str, title: str, x: np.ndarray, w: np.ndarray, stride: int, padding: int, activation: str | None
) -> Step:
    pads = ((padding, padding),) * 2
    spec = ConvSpec(1, w.shape[1], w.shape[0], x.shape[2:], w.shape[2:], (stride, stride), pads, (1, 1))
    sums = reference.conv(x, w, None, spec)
    return Step(name, title, x, w, stride, padding, activation, np.maximum(sums, 0) if activation == "relu" else sums)


def load(path: str | None) -> np.ndarray:
    """A picture as float32 (h, w, 3) from 0 to 1, at most `LONGEST_SIDE` long; default: Matplotlib's portrait."""
    from PIL import Image, ImageOps

    if path is None:
        from matplotlib import get_data_path

        path = str(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is scaled down
            with Image.open(path) as file:
                image = _in_colour(ImageOps.exif_transpose(file))
    except (OSError, Image.DecompressionBombError) as error:
        raise Failure(f"IMAGE={path!r} is no readable picture: {error}", USAGE) from None
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(image, np.float32) / 255


def _in_colour(image: Any) -> Any:
    """The picture as 8-bit RGB. Deeper greys are stretched to their own range, which Pillow would cut off at 255."""
    if image.mode == "F" or image.mode.startswith("I"):
        from PIL import Image

        values = np.asarray(image, np.float64)
        values = np.nan_to_num(values - values.min(initial=np.inf))
        image = Image.fromarray((values * (255 / (values.max(initial=0) or 1))).astype(np.uint8))
    return image.convert("RGB")


def prepare(photo: np.ndarray) -> tuple[list[Step], np.ndarray]:
    """The four convolutions with their inputs, and the pooled maps (64, h, w) between the last two."""
    from fastconv.pooling import max_pool2d

    # Around 0, so that the zeros of the padding are a middle grey and not a black frame.
    colour = np.ascontiguousarray(np.moveaxis(photo, -1, 0)[None] - photo.mean())
    grey = (colour * _GREY[:, None, None]).sum(axis=1, keepdims=True)
    edges = make_step("edges", "edges 3x3", grey, demo_filters.vertical_edges(), 1, 1, None)
    bank = make_step("bank", "bank 11x11", grey, demo_filters.oriented_bank(), 1, 5, None)
    stem = make_step("stem", "conv 7x7/2", colour, demo_filters.stem(), 2, 3, "relu")
    seen = stem.expected.astype(np.float32)
    pooled = np.asarray(max_pool2d(seen, 3, 2, 1))
    window = PoolSpec(1, seen.shape[1], seen.shape[2:], (3, 3), (2, 2), (1, 1), (1, 1))
    if not np.array_equal(pooled, reference.pool(seen, window, "max_pool")):
        raise Failure("max_pool2d differs from its definition", WRONG)
    corners = make_step("corners", "conv 3x3", pooled, demo_filters.corners(), 1, 1, None)
    return [edges, bank, stem, corners], pooled[0]


def run_step(step: Step, backend: str, threads: int) -> Run:
    """Compute, time and check one step.

    Raises
    ------
    UnsupportedConv
        If the backend does not take it.
    """
    naive = backend == "naive"
    crop = naive and not registry.installed("numba")
    if crop:
        step = step.cropped(CROP_FLOPS)
    plan = step.plan(backend)
    out = np.empty(plan.out_shape, np.float32)
    # One call first, which compiles; of the loops on the smallest input, as a whole call takes seconds.
    warm = np.ascontiguousarray(step.x[:, :, : step.w.shape[2], : step.w.shape[3]]) if naive else step.x
    plan.for_shape(warm.shape)(warm, threads=threads)
    seconds: list[float] = []
    while not seconds or (len(seconds) < REPEAT_CALLS and sum(seconds) < REPEAT_SECONDS):
        start = time.perf_counter()
        plan(step.x, out=out, threads=threads)
        seconds.append(time.perf_counter() - start)
    difference = float(np.abs(out - step.expected).max())
    allowed = reference.allowed_error(plan.error_bound, step.x, step.w, step.expected, "float32")
    scale = float(np.abs(step.expected).max()) or 1.0
    return Run(step.name, statistics.median(seconds), plan.spec.flops, difference / scale, difference <= allowed,
               crop, out[0])  # fmt: skip
