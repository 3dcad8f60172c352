"""The gradients of all poolings, as `fastconv.grad` shows them."""

from fastconv.pooling.gradients_adaptive import (
    adaptive_avg_pool1d_input,
    adaptive_avg_pool2d_input,
    adaptive_avg_pool3d_input,
    adaptive_max_pool1d_input,
    adaptive_max_pool2d_input,
    adaptive_max_pool3d_input,
    max_unpool1d_input,
    max_unpool2d_input,
    max_unpool3d_input,
)
from fastconv.pooling.gradients_norms import lp_pool1d_input, lp_pool2d_input, lp_pool3d_input
from fastconv.pooling.gradients_sliding import (
    avg_pool1d_input,
    avg_pool2d_input,
    avg_pool3d_input,
    max_pool1d_input,
    max_pool2d_input,
    max_pool3d_input,
)

__all__ = [
    "adaptive_avg_pool1d_input",
    "adaptive_avg_pool2d_input",
    "adaptive_avg_pool3d_input",
    "adaptive_max_pool1d_input",
    "adaptive_max_pool2d_input",
    "adaptive_max_pool3d_input",
    "avg_pool1d_input",
    "avg_pool2d_input",
    "avg_pool3d_input",
    "lp_pool1d_input",
    "lp_pool2d_input",
    "lp_pool3d_input",
    "max_pool1d_input",
    "max_pool2d_input",
    "max_pool3d_input",
    "max_unpool1d_input",
    "max_unpool2d_input",
    "max_unpool3d_input",
]
