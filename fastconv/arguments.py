"""Arguments as they come from users: an int, one int per axis, a layout, a padding by name."""

from __future__ import annotations

import operator
from typing import Any

Pair = tuple[int, int]

LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


_PLAIN = frozenset({int, bool, float, str, type(None)})


def is_plain(value: Any) -> bool:
    """Whether what `repr` says of it is all there is to it."""
    kind = type(value)
    return kind in _PLAIN or (kind in (tuple, list) and all(map(is_plain, value)))


def check_int(value: Any, name: str) -> int:
    """``value`` as an int, or a ``TypeError`` that names the argument."""
    try:
        if not isinstance(value, bool) and type(value).__name__ != "bool_":  # Python's and NumPy's
            return operator.index(value)
    except TypeError:  # an array of several ints has __index__ too
        pass
    raise TypeError(f"{name}={value!r} must be an int")


def check_bool(value: Any, name: str) -> bool:
    """``value`` as a bool, or a ``TypeError`` that names the argument."""
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return bool(value)
    raise TypeError(f"{name}={value!r} must be True or False")


def check_ints(value: Any, ndim: int, name: str) -> tuple[int, ...]:
    """One int for each of ``ndim`` axes, or an error that names the argument."""
    if not isinstance(value, (tuple, list)):
        return (check_int(value, name),) * ndim
    if len(value) != ndim:
        raise ValueError(f"{name}={value!r} has {len(value)} entries; expected an int or {ndim} of them")
    return tuple(check_int(v, name) for v in value)


def check_layout(layout: str, ndim: int) -> None:
    """Raise ``ValueError`` unless ``layout`` is one for ``ndim`` spatial axes."""
    if layout not in LAYOUTS[ndim]:
        raise ValueError(f"layout={layout!r} does not fit {ndim} spatial axes; choose {' or '.join(LAYOUTS[ndim])}")


def named_padding(name: str, size: int, kernel: int, stride: int, dilation: int, ndim: int) -> Pair:
    """The (before, after) padding of one axis that a name such as 'same' means for a layer of ``ndim`` axes."""
    reach = (kernel - 1) * dilation
    match name:
        case "valid":
            return 0, 0
        case "full":
            return reach, reach
        case "same" | "same_lower":
            steps = max(stride, 1)  # a stride below 1 is refused by the spec
            total = max((-(-size // steps) - 1) * steps + reach + 1 - size, 0)
            less, more = total // 2, total - total // 2
            return (less, more) if name == "same" else (more, less)
        case "causal" if ndim == 1:
            return reach, 0
    raise ValueError(
        f"padding={name!r} is unknown; choose 'valid', 'same', 'same_lower', 'full'"
        + (" or 'causal'" if ndim == 1 else " ('causal' is for conv1d)")
    )
