"""What all layers have in common: arrays under PyTorch's names, calls, shapes, printing."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastconv import arrays, shapes
from fastconv.arguments import LAYOUTS, check_int, check_layout
from fastconv.nn import stored
from fastconv.nn.summary import Reached, Row, Summary, summarize

Array = Any  # a NumPy array, or a CPU tensor that speaks DLPack
Shape = tuple[int, ...]


class Module:
    """A layer, or several: call it with an array.

    Options are fixed when the layer is made. Parameters and buffers are read-only arrays; assign a whole array to
    change one. Calls are safe from several threads at once; the layer can be copied and pickled. All layers compute
    as in PyTorch's evaluation mode; there is no training mode.
    """

    ndim: int | None = None  # number of spatial axes and their layout, where the layer has a say in it
    layout: str | None = None
    _buffers: frozenset[str] = frozenset()  # stored arrays that are no parameters

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._modules: dict[str, Module] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__ and not name.startswith("_"):
            raise AttributeError(f"{name} of {self!r} is fixed; make a new layer")
        super().__setattr__(name, value)

    def __call__(self, x: Array) -> Any:
        array = arrays.take(x, "x")
        result = self._run(array)
        if isinstance(result, tuple):
            return tuple(arrays.give_back(part, x) for part in result)
        return x if result is array else arrays.give_back(result, x)

    def output_shape(self, x_shape: Shape) -> Shape:
        """Shape of the result for an ``x`` of that shape; nothing is computed.

        Raises
        ------
        ValueError
            If the layer does not take such an ``x``.
        """
        shape = shapes.check_shape(x_shape)
        if min(shape, default=0) < 0:
            raise ValueError(f"{self._name()}: x_shape={shape} has negative sizes")
        try:
            return self._shape(shape)
        except ValueError as error:
            raise ValueError(f"{self._name()}: x has shape {shape}: {error}") from error

    def flops(self, x_shape: Shape) -> int:
        """Operations of the direct algorithm: a multiplication and an addition for each product of a sum.

        Layers that form no products, such as pools and activations, count 0.
        """
        self.output_shape(x_shape)
        return 0

    def receptive(self, size: Shape | None) -> Any:
        """What the layer is to `fastconv.receptive_field`: None if each element sees its own place only."""
        return None

    def named_parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """Names, as PyTorch has them, and read-only arrays of all parameters."""
        return ((name, owner._arrays[key]) for name, owner, key in self._named_arrays() if key not in owner._buffers)

    def parameters(self) -> Iterator[np.ndarray]:
        """The read-only arrays of all parameters."""
        return (array for _, array in self.named_parameters())

    def state(self) -> dict[str, np.ndarray]:
        """All parameters and buffers by name: names, shapes and dtypes of PyTorch's ``state_dict()``."""
        return {name: owner._arrays[key] for name, owner, key in self._named_arrays()}

    def load_state(self, source: Any) -> None:
        """Take parameters and buffers from a file or a mapping.

        Parameters
        ----------
        source : path, or mapping of name to array
            An .npz or .safetensors file, as `save_state` or PyTorch's users write it; or the arrays themselves,
            such as ``torch_module.state_dict()``. Narrower floats are widened; nothing is rounded.

        Raises
        ------
        ValueError
            If a name is missing or unexpected, or a shape or dtype does not fit: all of them are listed, and
            nothing is changed. If the file holds pickled objects.
        ImportError
            If safetensors is needed and not installed.
        """
        stored.load(self, source)

    def save_state(self, path: Any) -> None:
        """Write `state` to a file whose name ends in .npz or .safetensors.

        Raises
        ------
        ValueError
            If the name ends in something else.
        ImportError
            If safetensors is needed and not installed.
        """
        stored.save(self.state(), path)

    def summary(self, input_shape: Shape) -> Summary:
        """Output shape, parameters, operations and receptive field of every layer, for an input of that shape.

        Returns
        -------
        Summary
            Prints as a table; ``.to_dict()`` for programs.

        Raises
        ------
        ValueError
            If a layer does not take what comes to it.
        """
        return summarize(self, shapes.check_shape(input_shape))

    def __repr__(self) -> str:
        if not self._modules:
            return self._name()
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._modules.items()]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_plans"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._store({name: stored.frozen(array) for name, array in self._arrays.items()})

    def _run(self, x: np.ndarray) -> Any:
        """The result for a NumPy array; an error says which layer did not take it."""
        try:
            return self._compute(x)
        except ValueError:
            self.output_shape(x.shape)  # raises with the layer's name if the shape is to blame
            raise

    def _compute(self, x: np.ndarray) -> Any:
        raise NotImplementedError(f"{type(self).__name__} is no layer of fastconv.nn: it has no _compute(x)")

    def _check_dtype(self, x: np.ndarray, dtype: np.dtype[Any]) -> None:
        """Raise ``TypeError`` unless ``x`` has the dtype of the parameters."""
        if x.dtype != dtype:
            other = f" or make the layer with dtype={x.dtype.name!r}" if x.dtype.kind == "f" else ""
            raise TypeError(
                f"{self._name()}: x has dtype {x.dtype.name} and the parameters {dtype.name}; convert with "
                f"x.astype({dtype.name!r}){other}"
            )

    def _shape(self, x_shape: Shape) -> Shape:
        return x_shape

    def _follow(self, name: str, at: Reached, rows: list[Row]) -> Reached:
        """Add the rows of a summary, and say where they end."""
        after = at.through(self)
        count = sum(array.size for array in self.parameters())
        rows.append(after.row(name, type(self).__name__, count, self.flops(at.shape)))
        return after

    def _store(self, new: Mapping[str, np.ndarray]) -> None:
        self._arrays = {**self._arrays, **new}

    def _named_arrays(self, prefix: str = "") -> Iterator[tuple[str, Module, str]]:
        for key in self._arrays:
            yield prefix + key, self, key
        for name, child in self._modules.items():
            yield from child._named_arrays(f"{prefix}{name}.")

    def _name(self) -> str:
        """The layer as its constructor would be called, without what is left at its default."""
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            default: Any = parameter.default
            value = self.__dict__.get(name, default)
            if name in ("bias", "affine"):
                value = {"bias": "bias", "affine": "weight"}[name] in self._arrays
            elif name == "layout":
                value = None if value in (first for first, _ in LAYOUTS.values()) else value
            elif name == "dtype":
                value = None if value == np.float32 else value.name
            elif isinstance(value, tuple) and isinstance(default, int):
                default = (default,) * len(value)
            if name in ("in_channels", "out_channels"):
                shown.append(repr(value))
            elif value is not default and value != default and name not in ("rng", "args", "kwargs"):
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class Spatial(Module):
    """A layer over one, two or three spatial axes, in a layout."""

    ndim: int
    layout: str

    def __init__(self, layout: str | None) -> None:
        super().__init__()
        self.layout = LAYOUTS[self.ndim][0] if layout is None else layout
        check_layout(self.layout, self.ndim)

    def _split(self, shape: Shape) -> tuple[int, Shape]:
        """Channels and spatial size of an ``x`` with or without batch axis."""
        if len(shape) not in (self.ndim + 1, self.ndim + 2):
            axes = ", ".join(self.layout[1:].lower())
            raise ValueError(f"expected (n, {axes}) or ({axes})")
        _, channels, size = shapes.split_shape(shape, self.ndim, self.layout.endswith("C"))
        return channels, size

    def _join(self, x_shape: Shape, channels: int, size: Shape) -> Shape:
        """The shape of a result with the batch of ``x``."""
        rest = (*size, channels) if self.layout.endswith("C") else (channels, *size)
        return (*x_shape[: len(x_shape) - len(rest)], *rest)


def positive(value: Any, name: str) -> int:
    """An int of at least 1, or an error that names it."""
    number = check_int(value, name)
    if number < 1:
        raise ValueError(f"{name}={number} must be at least 1")
    return number


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype of a layer's parameters; None is float32."""
    for name in ("float32", "float64"):
        try:
            if np.dtype("float32" if dtype is None else dtype) == np.dtype(name):
                return np.dtype(name)
        except TypeError:
            break
    raise TypeError(f"dtype={dtype!r}: layers have 'float32' or 'float64' parameters")


def number(value: Any, name: str, least: float = -math.inf) -> float:
    """A finite float of at least ``least``, or an error that names it."""
    try:
        result = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not least <= result < math.inf:
        raise ValueError(f"{name}={value!r} must be a number" + f" of at least {least}" * (least > -math.inf))
    return result


def generator(rng: Any) -> np.random.Generator:
    """A generator, made from a seed unless it is one."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise TypeError(f"rng={rng!r} must be an int of at least 0, a numpy.random.Generator or None") from None


def uniform(random: np.random.Generator, bound: float, shape: Shape, dtype: np.dtype[Any]) -> np.ndarray:
    """Random numbers between ``-bound`` and ``bound``."""
    return stored.frozen(random.uniform(-bound, bound, shape).astype(dtype))
