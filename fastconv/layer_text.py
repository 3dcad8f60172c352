"""A layer as text, such as ``ic64ih56oc64k3p1``: the alphabet, reading and writing.

``n ic ih iw oc kh kw sh sw pt pb pl pr dh dw g``; ``k s p d`` set every axis; ``id kd sd dd pf pk`` make it 3-D, no
``h`` 1-D. What is left out is 1 (padding 0).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastconv.arguments import Pair

Sizes = tuple[int, ...]
Layer = tuple[int, int, Sizes, int, Sizes, Sizes, tuple[Pair, ...], Sizes, int]
"""n, ic, input size, oc, kernel size, stride, padding, dilation, groups."""

AXES = "dhw"
_PADDING_LETTERS = (("f", "k"), ("t", "b"), ("l", "r"))  # front and back, top and bottom, left and right
_TOKEN = re.compile(r"([a-z]+)(\d+)")


def write(
    n: int, ic: int, size: Sizes, oc: int, kernel: Sizes, stride: Sizes, padding: Sequence[Pair], dilation: Sizes,
    g: int,
) -> str:  # fmt: skip
    """The shortest text of a layer."""
    ndim = len(size)
    parts = [f"n{n}" * (n != 1), f"ic{ic}" * (ic != 1)]
    parts += _axis_text("i", size, short="ih" if ndim == 2 else None)
    parts.append(f"oc{oc}" * (oc != 1))
    parts += _axis_text("k", kernel, short="k", default=1)
    parts += _axis_text("s", stride, short="s", default=1)
    if len(set(sum(padding, ()))) == 1:
        parts.append(f"p{padding[0][0]}" * (padding[0][0] != 0))
    else:
        sides = zip(_PADDING_LETTERS[-ndim:], padding, strict=True)
        parts += [f"p{s}{v}" for names, pair in sides for s, v in zip(names, pair, strict=True) if v]
    parts += _axis_text("d", dilation, short="d", default=1)
    parts.append(f"g{g}" * (g != 1))
    return "".join(parts)


def _axis_text(kind: str, values: Sequence[int], short: str | None, default: int | None = None) -> list[str]:
    if short and len(set(values)) == 1:
        return [f"{short}{values[0]}" * (values[0] != default)]
    names = AXES[-len(values) :]
    return [f"{kind}{a}{v}" for a, v in zip(names, values, strict=True) if v != default]


def read(text: str) -> Layer:
    """The numbers of a layer, or a ``ValueError`` that names what is wrong with the text."""
    compact = "".join(text.split())
    tokens = _TOKEN.findall(compact)
    if not tokens or "".join(a + b for a, b in tokens) != compact:
        raise ValueError(f"layer={text!r} is not a run of letters and numbers such as 'ic64ih56oc64k3p1'")
    given: dict[str, int] = {}
    for name, number in tokens:
        if name in given:
            raise ValueError(f"layer={text!r} gives {name!r} twice")
        given[name] = int(number)
    if given.keys() & {"id", "kd", "sd", "dd", "pf", "pk"}:
        axes = "dhw"
    else:
        axes = "hw" if given.keys() & {"ih", "kh", "sh", "dh", "pt", "pb"} else "w"

    def take(kind: str, default: int) -> Sizes:
        every = given.pop(kind, default)
        return tuple(given.pop(kind + a, every) for a in axes)

    size: Sizes = ()
    for a in axes:
        size += (given.pop(f"i{a}", size[-1] if size else 1),)
    kernel, stride, dilation = take("k", 1), take("s", 1), take("d", 1)
    every = given.pop("p", 0)
    sides = _PADDING_LETTERS[-len(axes) :]
    padding = tuple((given.pop("p" + a, every), given.pop("p" + b, every)) for a, b in sides)
    n, ic, oc, g = (given.pop(name, 1) for name in ("n", "ic", "oc", "g"))
    if given:
        raise ValueError(f"layer={text!r} has the unknown name {next(iter(given))!r}")
    return n, ic, size, oc, kernel, stride, padding, dilation, g
