"""Flatten, fully connected layers, and batch normalisation by running statistics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.arguments import LAYOUTS, check_bool, check_int, check_layout
from fastconv.nn.module import Module, Shape, float_dtype, generator, number, positive, uniform
from fastconv.nn.stored import Stored, frozen
from fastconv.windows import Adaptive


class Flatten(Module):
    """Makes one axis of the axes ``start_dim`` to ``end_dim``, both included.

    Examples
    --------
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = check_int(start_dim, "start_dim"), check_int(end_dim, "end_dim")

    def _compute(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self._shape(x.shape))

    def _shape(self, x_shape: Shape) -> Shape:
        rank = max(len(x_shape), 1)
        ends = [dim + rank if dim < 0 else dim for dim in (self.start_dim, self.end_dim)]
        if not 0 <= ends[0] <= ends[1] < rank:
            raise ValueError(f"start_dim={self.start_dim} and end_dim={self.end_dim} are no run of its {rank} axes")
        first, last = ends
        return (*x_shape[:first], math.prod(x_shape[first : last + 1]), *x_shape[last + 1 :])


class Linear(Module):
    """``x @ weight.T + bias`` along the last axis.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
        Whether there is a bias.
    dtype, rng
        As in `Conv2d`.

    Attributes
    ----------
    weight : numpy.ndarray, (out_features, in_features)
        Read-only; assign an array to change it.
    bias : numpy.ndarray, (out_features,), or None

    Raises
    ------
    ValueError, TypeError
        If an option or a call's ``x`` does not fit.

    Examples
    --------
    >>> Linear(3, 2)(np.zeros((5, 3), "float32")).shape
    (5, 2)
    """

    weight = Stored()
    bias = Stored()

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None, *, rng: Any = None
    ) -> None:
        super().__init__()
        self.in_features = positive(in_features, "in_features")
        self.out_features = positive(out_features, "out_features")
        self.dtype = float_dtype(dtype)
        random, bound = generator(rng), 1 / math.sqrt(self.in_features)
        start = {"weight": uniform(random, bound, (self.out_features, self.in_features), self.dtype)}
        if check_bool(bias, "bias"):
            start["bias"] = uniform(random, bound, (self.out_features,), self.dtype)
        self._store(start)

    def flops(self, x_shape: Shape) -> int:
        return 2 * self.in_features * math.prod(self.output_shape(x_shape))

    def receptive(self, size: Shape | None) -> Adaptive:
        """Everything: a fully connected layer follows a `Flatten`."""
        return Adaptive(1)

    def _compute(self, x: np.ndarray) -> np.ndarray:
        self._check_dtype(x, self.dtype)
        stored = self._arrays
        with np.errstate(all="ignore"):  # NaN and Inf are results here
            y = x @ stored["weight"].T
            return np.asarray(y + stored["bias"] if "bias" in stored else y)

    def _shape(self, x_shape: Shape) -> Shape:
        if not x_shape or x_shape[-1] != self.in_features:
            raise ValueError(f"its last axis must have {self.in_features} elements")
        return (*x_shape[:-1], self.out_features)


class BatchNorm2d(Module):
    """``(x - running_mean) / sqrt(running_var + eps) * weight + bias`` for each channel: inference only.

    Parameters
    ----------
    num_features : int
        Number of channels.
    eps : float
    momentum : float or None
        How PyTorch updates the running statistics in training; without effect.
    affine : bool
        Whether there are ``weight`` and, unless ``bias=False``, ``bias``.
    track_running_stats : bool
        False: no running statistics; mean and variance are those of each ``x``, as in PyTorch.
    dtype : {'float32', 'float64'}, optional
    layout : {'NCHW', 'NHWC'}, optional

    Attributes
    ----------
    weight, bias, running_mean, running_var : numpy.ndarray, (num_features,), or None
    num_batches_tracked : numpy.ndarray, (), or None

    Raises
    ------
    ValueError, TypeError
        If an option or a call's ``x`` does not fit.

    References
    ----------
    Ioffe, Szegedy, "Batch Normalization", arXiv:1502.03167.

    Examples
    --------
    >>> BatchNorm2d(3, eps=0.0)(np.ones((1, 3, 2, 2), "float32")).mean().item()
    1.0
    """

    weight = Stored()
    bias = Stored()
    running_mean = Stored()
    running_var = Stored()
    num_batches_tracked = Stored()
    _buffers = frozenset({"running_mean", "running_var", "num_batches_tracked"})
    layout: str
    _axes = 2
    _ranks = (3, 4)

    def __init__(
        self, num_features: int, eps: float = 1e-05, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, dtype: Any = None, *, bias: bool = True, layout: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_features, self.eps = positive(num_features, "num_features"), number(eps, "eps", 0)
        self.momentum = momentum
        self.affine, self.dtype = check_bool(affine, "affine"), float_dtype(dtype)
        self.track_running_stats = check_bool(track_running_stats, "track_running_stats")
        self.layout = LAYOUTS[self._axes][0] if layout is None else layout
        check_layout(self.layout, self._axes)
        ones, zeros = (frozen(make(self.num_features, self.dtype)) for make in (np.ones, np.zeros))
        start = {"weight": ones} if self.affine else {}
        if check_bool(bias, "bias") and self.affine:
            start["bias"] = zeros
        if self.track_running_stats:
            start |= {"running_mean": zeros, "running_var": ones, "num_batches_tracked": frozen(np.zeros((), np.int64))}
        self._store(start)

    def _compute(self, x: np.ndarray) -> np.ndarray:
        self._check_dtype(x, self.dtype)
        self._shape(x.shape)
        axis, stored = self._channel_axis(x.shape), self._arrays
        others = tuple(a for a in range(x.ndim) if a != axis)

        def spread(values: np.ndarray) -> np.ndarray:
            return values.reshape([-1 if a == axis else 1 for a in range(x.ndim)])

        with np.errstate(all="ignore"):  # NaN and Inf are results here
            mean, var = stored.get("running_mean"), stored.get("running_var")
            if mean is None or var is None:
                mean, var = x.mean(others), x.var(others)
            scale = 1 / np.sqrt(var + self.dtype.type(self.eps))
            y = x - spread(mean)
            y *= spread(scale * stored["weight"] if "weight" in stored else scale)
            if "bias" in stored:
                y += spread(stored["bias"])
        return np.asarray(y)

    def _channel_axis(self, x_shape: Shape) -> int:
        batch = len(x_shape) - self._axes - 1
        return len(x_shape) - 1 if self.layout.endswith("C") else max(batch, 0)

    def _shape(self, x_shape: Shape) -> Shape:
        if len(x_shape) not in self._ranks:
            raise ValueError(f"expected rank {self._ranks[0]} or {self._ranks[1]}, read as {self.layout}")
        channels = x_shape[self._channel_axis(x_shape)]
        if channels != self.num_features:
            raise ValueError(f"it has {channels} channels; the layer takes {self.num_features} and reads {self.layout}")
        return x_shape


class BatchNorm1d(BatchNorm2d):
    """`BatchNorm2d` for (n, c) or (n, c, w).

    Examples
    --------
    >>> BatchNorm1d(3).output_shape((4, 3))
    (4, 3)
    """

    _axes = 1
    _ranks = (2, 3)

    def _channel_axis(self, x_shape: Shape) -> int:
        return len(x_shape) - 1 if self.layout.endswith("C") else 1


class BatchNorm3d(BatchNorm2d):
    """`BatchNorm2d` for (n, c, d, h, w) or (c, d, h, w).

    Examples
    --------
    >>> BatchNorm3d(3).output_shape((4, 3, 2, 2, 2))
    (4, 3, 2, 2, 2)
    """

    _axes = 3
    _ranks = (4, 5)
