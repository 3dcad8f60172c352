"""Gradients: how a loss changes with the input, the weights and the bias of a layer, given how it changes with its
output.

``fastconv.grad.conv2d_input``, ``conv2d_weight`` and ``conv2d_bias`` for every convolution that `fastconv.conv2d`
computes, any padding mode included, and one function for each pooling; all in 1-D, 2-D and 3-D. There is no
recording of calls: who composes layers composes their gradients, last layer first.

The gradients of a transposed convolution need no functions of their own: to its input it is `fastconv.conv2d` of
the gradient with the same weights, to its weights `conv2d_weight` with both arrays exchanged.
"""

from fastconv.gradients import (
    conv1d_bias,
    conv1d_input,
    conv1d_weight,
    conv2d_bias,
    conv2d_input,
    conv2d_weight,
    conv3d_bias,
    conv3d_input,
    conv3d_weight,
)
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
    "conv1d_bias",
    "conv1d_input",
    "conv1d_weight",
    "conv2d_bias",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_bias",
    "conv3d_input",
    "conv3d_weight",
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
