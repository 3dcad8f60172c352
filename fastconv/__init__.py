"""fastconv: a CPU convolution engine for NumPy. The public names."""

from typing import TYPE_CHECKING, Any

from fastconv import grad
from fastconv.api import conv1d, conv2d, conv3d, explain, plan
from fastconv.errors import BackendUnavailable, UnsupportedConv
from fastconv.folding import fold, unfold
from fastconv.planning import Explanation, Plan
from fastconv.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from fastconv.receptive import Field, ReceptiveField, receptive_field
from fastconv.registry import backends
from fastconv.threads import get_num_threads, num_threads, set_num_threads
from fastconv.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d, plan_transpose
from fastconv.windows import Branches

if TYPE_CHECKING:
    from fastconv import nn

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailable",
    "Branches",
    "Explanation",
    "Field",
    "Plan",
    "ReceptiveField",
    "UnsupportedConv",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "backends",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "explain",
    "fold",
    "get_num_threads",
    "grad",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "nn",
    "num_threads",
    "plan",
    "plan_transpose",
    "receptive_field",
    "set_num_threads",
    "unfold",
]

if not TYPE_CHECKING:  # a type checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        """`fastconv.nn` is loaded when it is first asked for."""
        if name == "nn":
            import fastconv.nn

            return fastconv.nn
        raise AttributeError(f"module 'fastconv' has no attribute {name!r}")
