"""What rounding costs: ``python -P bench/numerics.py``, the tables of docs/numerics.md.

Without arguments: the largest error of every tile of Winograd's, of our other backends and of rivals that are
installed, over the largest output, as a multiple of the direct convolution's (backend "cython"), on the same data.
With ``--search "F(4,3)"``: which interpolation points lose least; ``--axes 1`` for kernels of one axis.
asv imports this file too: fastconv and NumPy are imported inside functions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CHANNELS = (3, 16, 64, 256, 512)
SEEDS = 5
RIVALS = ("torch", "onnxruntime", "openvino", "ncnn", "mnn")
SIMPLE = sorted({Fraction(p, q) for p, q in itertools.product(range(1, 9), repeat=2)})
"""Candidates for points: their products with small integers need few bits."""


def numbers(channels: int, kernel: tuple[int, ...], seed: int) -> SimpleNamespace:
    """A layer's arrays, normal, with its exact result."""
    import numpy as np

    import fastconv

    rng = np.random.default_rng(seed)
    side = 24 if channels > 64 else 40
    x, w = (rng.standard_normal(s, np.float32) for s in ((1, channels, side, side), (32, channels, *kernel)))
    pad = tuple(k // 2 for k in kernel)
    exact = fastconv.conv2d(x.astype(float), w.astype(float), padding=pad, backend="cython")
    return SimpleNamespace(x=x, w=w, padding=pad, exact=exact)


def error(data: SimpleNamespace, result: np.ndarray) -> float:
    """Largest error over largest output."""
    import numpy as np

    return float(np.abs(result - data.exact).max() / np.abs(data.exact).max())


def ours(data: SimpleNamespace, backend: str) -> float:
    """Error of one of our backends."""
    import fastconv

    plan = fastconv.plan(data.w, data.x.shape, padding=data.padding, backend=backend, accuracy="fast")
    return error(data, plan(data.x))


@contextmanager
def tile(name: str, points: tuple[Fraction, ...] | None = None) -> Iterator[None]:
    """Let the winograd backend have this tile only, with other points where some are given."""
    from fastconv.adapters import winograd
    from fastconv.kernels import winograd_matrices as matrices

    tiles, of = dict(winograd.TILES), winograd.TILES[name]
    before = matrices.POINTS[of]
    caches = matrices.matrices, winograd._floats, winograd._layer
    try:
        winograd.TILES.clear()
        winograd.TILES[name] = of
        matrices.POINTS[of] = points or before
        for cache in caches:
            cache.cache_clear()
        yield
    finally:
        winograd.TILES.clear()
        winograd.TILES.update(tiles)
        matrices.POINTS[of] = before
        for cache in caches:
            cache.cache_clear()


def rival(data: SimpleNamespace, name: str) -> float:
    """Error of another library on a 3x3 layer."""
    import numpy as np

    from fastconv.bench import peers
    from fastconv.bench.case import Arrays, Case

    n, channels, high, wide = data.x.shape
    case = Case("numerics", f"n{n}ic{channels}ih{high}iw{wide}oc{len(data.w)}k3p1", "", "")
    return error(data, np.asarray(peers.find(name).prepare(case, Arrays(data.x, data.w, None, None), 1)()))


def multiples(kernel: tuple[int, ...], of: Any) -> list[float]:
    """For every number of channels the median over seeds of an error over the direct convolution's."""
    result = []
    for channels in CHANNELS:
        layers = [numbers(channels, kernel, seed) for seed in range(SEEDS)]
        result.append(statistics.median(of(layer) / ours(layer, "cython") for layer in layers))
    return result


def row(what: str, values: Iterable[float]) -> str:
    return f"| {what} | " + " | ".join(f"{v:.2g}" for v in values) + " |"


def table() -> None:
    """Print every error."""
    from fastconv.adapters import winograd
    from fastconv.bench import peers

    head = "| | " + " | ".join(map(str, CHANNELS)) + " |\n|---|" + "--:|" * len(CHANNELS)
    print(head)
    print(row("largest error of direct 3x3 over largest output, 1e-7", [
        1e7 * statistics.median(ours(numbers(c, (3, 3), s), "cython") for s in range(SEEDS)) for c in CHANNELS
    ]))  # fmt: skip
    usual = {"F(4,3)": [(Fraction(1), Fraction(2))]}
    for kernel in ((3, 3), (1, 3), (1, 5)):
        for name, (_, r) in winograd.TILES.items():
            if r != max(kernel):
                continue
            for points in (None, *usual.get(name, ())):
                with tile(name, points):
                    which = f", points ±{', ±'.join(map(str, points))}" if points else ""
                    values = multiples(kernel, lambda d: ours(d, "winograd"))
                print(row(f"{name}, {kernel[0]}x{kernel[1]}{which}", values))
    for backend in ("im2col", "fft", "naive"):
        print(row(f"{backend}, 3x3", multiples((3, 3), lambda d, b=backend: ours(d, b))))
    for name in RIVALS:
        if missing := peers.missing(peers.find(name)):
            print(f"{name}: {missing}")
        else:
            print(row(f"{peers.find(name).title}, 3x3", multiples((3, 3), lambda d, n=name: rival(d, n))), flush=True)


def search(name: str, axes: int) -> None:
    """Print the ten best choices of points, by the largest multiple over 3 and 64 channels."""
    from fastconv.adapters import winograd
    from fastconv.kernels import winograd_matrices as matrices

    of = winograd.TILES[name]
    kernel = (of[1] if axes == 2 else 1, of[1])
    layers = [numbers(channels, kernel, seed) for channels in (3, 64) for seed in range(2)]
    base = [ours(layer, "cython") for layer in layers]
    found = []
    for points in itertools.combinations(SIMPLE, len(matrices.POINTS[of])):
        if points[-1] > 4 or points[0] < Fraction(1, 4):
            continue
        with tile(name, points):
            losses = [ours(layer, "winograd") / b for layer, b in zip(layers, base, strict=True)]
        found.append((max(sum(losses[:2]), sum(losses[2:])) / 2, points))
    for loss, points in sorted(found)[:10]:
        print(f"{loss:6.2f}  0, ±{', ±'.join(map(str, points))}")
    print(len(found), "choices")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", metavar="TILE")
    parser.add_argument("--axes", type=int, default=2)
    given = parser.parse_args()
    if given.search:
        search(given.search, given.axes)
    else:
        table()
