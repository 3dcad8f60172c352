"""Layers that change every element on its own, and those that change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.arguments import check_bool, check_int
from fastconv.epilogue import activate
from fastconv.nn.module import Module, Shape, number
from fastconv.spec import Epilogue
from fastconv.windows import Adaptive


class _Float(Module):
    """A function of float arrays."""

    def _compute(self, x: np.ndarray) -> np.ndarray:
        if x.dtype.kind != "f":
            raise TypeError(f"{self._name()}: x has dtype {x.dtype.name}; convert with x.astype('float32')")
        with np.errstate(all="ignore"):  # NaN and Inf are results here
            return self._function(x)

    def _function(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class _InPlace(Module):
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = check_bool(inplace, "inplace")


class ReLU(_InPlace):
    """``max(x, 0)``; integers too. ``inplace`` is accepted and changes nothing: the caller's array is never written.

    Examples
    --------
    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def _compute(self, x: np.ndarray) -> np.ndarray:
        return activate(x, Epilogue("relu"))


class ReLU6(_InPlace):
    """``min(max(x, 0), 6)``; integers too. ``inplace`` as in `ReLU`.

    Examples
    --------
    >>> ReLU6()(np.array([-1.0, 8.0]))
    array([0., 6.])
    """

    def _compute(self, x: np.ndarray) -> np.ndarray:
        return activate(x, Epilogue("relu6"))


class LeakyReLU(_Float):
    """``x`` where it is positive, else ``negative_slope * x``. ``inplace`` as in `ReLU`.

    Examples
    --------
    >>> LeakyReLU(0.5)(np.array([-1.0, 2.0]))
    array([-0.5,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = number(negative_slope, "negative_slope")
        self.inplace = check_bool(inplace, "inplace")

    def _function(self, x: np.ndarray) -> np.ndarray:
        return activate(x, Epilogue("leaky_relu", self.negative_slope))


class SiLU(_InPlace, _Float):
    """``x * sigmoid(x)``. ``inplace`` as in `ReLU`.

    Examples
    --------
    >>> SiLU()(np.array([0.0, 100.0]))
    array([  0., 100.])
    """

    def _function(self, x: np.ndarray) -> np.ndarray:
        return activate(x, Epilogue("silu"))


class Hardswish(_InPlace, _Float):
    """``x * min(max(x + 3, 0), 6) / 6``. ``inplace`` as in `ReLU`.

    Examples
    --------
    >>> Hardswish()(np.array([-3.0, 0.0, 3.0]))
    array([0., 0., 3.])
    """

    def _function(self, x: np.ndarray) -> np.ndarray:
        return activate(x, Epilogue("hardswish"))


class GELU(_Float):
    """``x`` times the normal distribution function of ``x``, or its approximation by ``tanh``.

    Parameters
    ----------
    approximate : {'none', 'tanh'}

    Examples
    --------
    >>> GELU("tanh")(np.array([0.0, 10.0]))
    array([ 0., 10.])
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate={approximate!r} is unknown; choose 'none' or 'tanh'")
        self.approximate = approximate

    def _function(self, x: np.ndarray) -> np.ndarray:
        return activate(x, Epilogue("gelu" if self.approximate == "none" else "gelu_tanh"))


class Sigmoid(_Float):
    """``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> Sigmoid()(np.array([0.0]))
    array([0.5])
    """

    def _function(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-x)))


class Tanh(_Float):
    """The hyperbolic tangent.

    Examples
    --------
    >>> Tanh()(np.array([0.0]))
    array([0.])
    """

    def _function(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.tanh(x))


class Softmax(_Float):
    """``exp(x)`` divided by its sum along one axis.

    Parameters
    ----------
    dim : int, optional
        The axis; default, as in PyTorch, 0 for arrays of rank 0, 1 and 3, else 1.

    Raises
    ------
    ValueError
        If ``x`` has no such axis.

    Examples
    --------
    >>> Softmax(-1)(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = None if dim is None else check_int(dim, "dim")

    def receptive(self, size: Shape | None) -> Adaptive | None:
        """Along channels None. Along an axis of the image it sees that axis: counted as the whole image."""
        before_image = self.dim in (None, 0, 1) or (size is not None and self.dim < -len(size))
        return None if before_image else Adaptive(1)

    def _shape(self, x_shape: Shape) -> Shape:
        if self.dim is not None and not -len(x_shape) <= self.dim < len(x_shape):
            raise ValueError(f"dim={self.dim} is no axis of it")
        return x_shape

    def _function(self, x: np.ndarray) -> np.ndarray:
        self._shape(x.shape)
        if not x.size:
            return x.copy()
        if x.ndim == 0:
            return x / x if x == x and abs(x) != np.inf else x * np.nan
        dim = (0 if x.ndim in (1, 3) else 1) if self.dim is None else self.dim
        powers = np.exp(x - x.max(axis=dim, keepdims=True))
        powers /= powers.sum(axis=dim, keepdims=True)
        return np.asarray(powers)


class Dropout(_InPlace):
    """Passes everything through, as in PyTorch's evaluation mode; it keeps the numbering of a `Sequential`.

    Parameters
    ----------
    p : float
        Between 0 and 1; without effect.
    inplace : bool
        As in `ReLU`.

    Examples
    --------
    >>> Dropout(0.5)(np.array([1.0, 2.0]))
    array([1., 2.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.p = number(p, "p", 0)
        if self.p > 1:
            raise ValueError(f"p={p!r} must be between 0 and 1")

    def _compute(self, x: np.ndarray) -> np.ndarray:
        return x


class Identity(Module):
    """Passes everything through; takes and ignores any arguments, as PyTorch's.

    Examples
    --------
    >>> Identity()(np.array([1.0, 2.0]))
    array([1., 2.])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def _compute(self, x: np.ndarray) -> np.ndarray:
        return x
