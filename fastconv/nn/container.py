"""Layers made of layers: one after the other, or beside a shortcut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, overload

import numpy as np

from fastconv.nn.module import Module, Shape
from fastconv.nn.summary import Reached, Row, meet
from fastconv.windows import Branches


class Sequential(Module):
    """Layers that are called one after the other.

    Parameters
    ----------
    *args
        Layers, named '0', '1', ...; or one dict of name to layer.

    Raises
    ------
    TypeError, ValueError
        If something else comes; if a layer does not take what the one before returns.

    Examples
    --------
    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten())
    >>> net.output_shape((1, 3, 5, 5)), len(net), net[:2].output_shape((1, 3, 5, 5))
    ((1, 72), 3, (1, 8, 3, 3))
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            layers = dict(args[0])
        else:
            layers = {str(i): layer for i, layer in enumerate(args)}
        for name, layer in layers.items():
            if not isinstance(layer, Module):
                raise TypeError(f"Sequential: {name!r} is of type {type(layer).__name__}; pass layers of fastconv.nn")
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"Sequential: {name!r} is no name for a layer; it must be text without dots")
        self._modules = layers
        self.ndim, self.layout = _first(layers)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int | str) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | str | slice) -> Module:
        """A layer by number or name, or a `Sequential` of a run of them, numbered anew unless they have names."""
        if isinstance(index, str):
            if index not in self._modules:
                raise KeyError(f"no layer {index!r}; there are {', '.join(self._modules) or 'none'}")
            return self._modules[index]
        if isinstance(index, slice):
            some = list(self._modules.items())[index]
            numbered = list(self._modules) == [str(i) for i in range(len(self))]
            return Sequential(*(layer for _, layer in some)) if numbered else Sequential(dict(some))
        return list(self._modules.values())[index]

    def flops(self, x_shape: Shape) -> int:
        total = 0
        for layer in self:
            total += layer.flops(x_shape)
            x_shape = layer.output_shape(x_shape)
        return total

    def receptive(self, size: Shape | None) -> list[Module]:
        return list(self)

    def _follow(self, name: str, at: Reached, rows: list[Row]) -> Reached:
        for key, layer in self._modules.items():
            at = layer._follow(f"{name}.{key}" if name else key, at, rows)
        return at

    def _run(self, x: np.ndarray) -> Any:
        result: Any = x
        for name, layer in self._modules.items():
            if isinstance(result, tuple):
                raise ValueError(f"layer {name!r} gets {len(result)} arrays; only the last layer may return several")
            with located(name):
                result = layer._run(result)
        return result

    def output_shape(self, x_shape: Shape) -> Shape:
        for name, layer in self._modules.items():
            with located(name):
                x_shape = layer.output_shape(x_shape)
        return x_shape


class Residual(Module):
    """``activation(body(x) + shortcut(x))``: the block of a residual network.

    Parameters
    ----------
    body : Module
    shortcut : Module, optional
        Default: ``x`` itself.
    activation : Module, optional
        Default: none.

    Raises
    ------
    ValueError
        If the two sides have different shapes.

    References
    ----------
    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", arXiv:1512.03385.

    Examples
    --------
    >>> from fastconv import nn
    >>> block = nn.Residual(nn.Conv2d(8, 8, 3, padding=1), activation=nn.ReLU())
    >>> block.output_shape((1, 8, 5, 5))
    (1, 8, 5, 5)
    """

    def __init__(self, body: Module, shortcut: Module | None = None, activation: Module | None = None) -> None:
        super().__init__()
        for name, layer in (("body", body), ("shortcut", shortcut), ("activation", activation)):
            if layer is not None or name == "body":
                if not isinstance(layer, Module):
                    raise TypeError(f"{name} is of type {type(layer).__name__}; pass a layer of fastconv.nn")
                self._modules[name] = layer
        self.body, self.shortcut, self.activation = body, shortcut, activation
        self.ndim, self.layout = _first(self._modules)

    def flops(self, x_shape: Shape) -> int:
        self.output_shape(x_shape)
        return sum(side.flops(x_shape) for side in (self.body, self.shortcut) if side is not None)

    def receptive(self, size: Shape | None) -> list[Any]:
        after = [] if self.activation is None else [self.activation]
        return [Branches(self.body, () if self.shortcut is None else self.shortcut), *after]

    def output_shape(self, x_shape: Shape) -> Shape:
        with located("body"):
            body = self.body.output_shape(x_shape)
        with located("shortcut"):
            shortcut = tuple(x_shape) if self.shortcut is None else self.shortcut.output_shape(x_shape)
        _check_equal(body, shortcut)
        return body if self.activation is None else self.activation.output_shape(body)

    def _run(self, x: np.ndarray) -> Any:
        with located("body"):
            body = self.body._run(x)
        with located("shortcut"):
            shortcut = x if self.shortcut is None else self.shortcut._run(x)
        for name, side in (("body", body), ("shortcut", shortcut)):
            if isinstance(side, tuple):
                raise ValueError(f"Residual: {name} returns {len(side)} arrays; only one can be added")
        _check_equal(body.shape, shortcut.shape)
        with np.errstate(all="ignore"):  # NaN and Inf are results here
            total = body + shortcut
        return total if self.activation is None else self.activation._run(total)

    def _follow(self, name: str, at: Reached, rows: list[Row]) -> Reached:
        prefix = f"{name}." if name else ""
        ends = [side._follow(prefix + key, at, rows) if side is not None else at
                for key, side in (("body", self.body), ("shortcut", self.shortcut))]  # fmt: skip
        met = meet(ends)
        rows.append(met.row(name, f"{type(self).__name__} sum"))
        return met if self.activation is None else self.activation._follow(f"{prefix}activation", met, rows)


class located:
    """Notes on a passing error which layer of the container it came from."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (ValueError, TypeError)):
            error.add_note(f"in layer {self.name!r}")


def _check_equal(body: Shape, shortcut: Shape) -> None:
    if body != shortcut:
        raise ValueError(
            f"Residual: body returns shape {body} and the shortcut {shortcut}; they must be equal to be added"
        )


def _first(layers: dict[str, Module]) -> tuple[int | None, str | None]:
    """Number of spatial axes and layout of the first layer that has a say in them."""
    ndim = next((layer.ndim for layer in layers.values() if layer.ndim is not None), None)
    return ndim, next((layer.layout for layer in layers.values() if layer.layout is not None), None)
