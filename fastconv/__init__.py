"""fastconv: a CPU convolution engine for NumPy. The public names."""

from fastconv.api import conv1d, conv2d, conv3d, explain, plan
from fastconv.errors import BackendUnavailable, UnsupportedConv
from fastconv.planning import Explanation, Plan
from fastconv.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailable",
    "Explanation",
    "Plan",
    "UnsupportedConv",
    "conv1d",
    "conv2d",
    "conv3d",
    "explain",
    "get_num_threads",
    "num_threads",
    "plan",
    "set_num_threads",
]
