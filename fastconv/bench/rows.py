"""Rows of text into cases, and the names of those that are given none."""

from __future__ import annotations

from collections.abc import Iterator

from fastconv.bench.case import Case, PoolCase
from fastconv.spec import parse_layer


def name_of(network: str, layer: str) -> str:
    """The name of a network's layer: network, channels, size, kernel with stride, and what else is unusual.

    >>> name_of("resnet", "ic128ih56oc128k3s2p1"), name_of("net", "ic8ih56oc8k3p2d2g8")
    ('resnet-128x56-3x3s2', 'net-8x56-3x3-d2-dw')
    >>> name_of("c3d", "n2ic3id16ih56oc8kd1kh3kw3p1"), name_of("wave", "ic2iw900oc4k80s4")
    ('c3d-3to8x16x56-1x3x3-n2', 'wave-2to4x900-80s4')
    """
    spec = parse_layer(layer)
    channels = str(spec.ic) if spec.ic == spec.oc else f"{spec.ic}to{spec.oc}"
    size = spec.input_size[:-1] if spec.ndim > 1 and spec.input_size[-1] == spec.input_size[-2] else spec.input_size
    stride = "" if max(spec.stride) == 1 else f"s{_times(tuple(dict.fromkeys(spec.stride)))}"
    extras = [
        f"-d{max(spec.dilation)}" * (max(spec.dilation) > 1),
        ("-dw" if spec.g == spec.ic == spec.oc else f"-g{spec.g}") * (spec.g > 1),
        f"-n{spec.n}" * (spec.n > 1),
    ]
    return f"{network}-{channels}x{_times(size)}-{_times(spec.kernel_size)}{stride}" + "".join(extras)


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def layers(network: str, group: str, source: str, rows: str, n: int = 1) -> Iterator[Case]:
    """The cases of ``rows``, each ``[name: ]layer[ xtimes]``, at batch ``n``; depthwise ones are a group of their own.

    >>> [(case.name, case.group, case.layer, case.times) for case in layers("net", "nets", "", "a: ic3ih8oc3 x2", 4)]
    [('a-n4', 'nets', 'n4ic3ih8oc3', 2)]
    """
    batch = f"n{n}" * (n > 1)
    for row in rows.split("\n"):
        name, _, rest = row.strip().rpartition(": ")
        layer, _, times = rest.partition(" x")
        if layer:
            spec = parse_layer(batch + layer)
            own = f"{name}-{batch}".rstrip("-") if name else name_of(network, spec.text)
            kind = "depthwise" if 1 < spec.g == spec.ic == spec.oc else group
            yield Case(own, batch + layer, kind, source, times=int(times or 1))


def pools(op: str, *rows: tuple[str, str, str]) -> Iterator[PoolCase]:
    """The poolings of ``rows``, each (name, layer, source)."""
    yield from (PoolCase(name, layer, "pooling", source, op) for name, layer, source in rows)
