"""fastconv: a CPU convolution engine for NumPy. The public names."""

from fastconv import grad
from fastconv.api import conv1d, conv2d, conv3d, explain, plan
from fastconv.errors import BackendUnavailable, UnsupportedConv
from fastconv.folding import fold, unfold
from fastconv.planning import Explanation, Plan
from fastconv.pooling import avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d, max_pool2d, max_pool3d
from fastconv.receptive import Field, ReceptiveField, receptive_field
from fastconv.registry import backends
from fastconv.threads import get_num_threads, num_threads, set_num_threads
from fastconv.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d, plan_transpose
from fastconv.windows import Branches

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailable",
    "Branches",
    "Explanation",
    "Field",
    "Plan",
    "ReceptiveField",
    "UnsupportedConv",
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
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "num_threads",
    "plan",
    "plan_transpose",
    "receptive_field",
    "set_num_threads",
    "unfold",
]
