"""Pooling: the largest element, the mean or a norm of each window, in PyTorch's dialect or ONNX's.

``x`` is never padded and never copied as a whole: work goes piece by piece, shared out over threads by images,
channels and rows; gradients take at least one plane at a time. A NaN in a window makes the result NaN.

Where the dialects differ, ``compat`` says which one is meant. It changes what arguments mean, never their defaults,
which are PyTorch's (ONNX: stride 1, ``count_include_pad`` False, p = 2).

The differences, PyTorch first, ONNX (operators of opset 22) second:

- padding: at most half of a window on each side; any, and a window may then hold padding only;
- indices of `max_pool2d` and `max_unpool2d`: flat in one plane of one image; flat in all of ``x``, as (n, c, h, w);
- ``output_size`` of `max_unpool2d`: within less than ``stride`` of the default, and indices count in it; at least the
  default, in which indices count, with zeros at the ends;
- powers of `lp_pool2d`: of the elements with their sign, so that p = 1 is a plain sum and a negative sum of odd powers,
  which has no root, is NaN; of absolute elements;
- a window of `lp_pool2d` that hangs over the end: its sum is scaled up, times its size over the number of elements that
  it has within the padded input; its sum as it is.

The same in both: the size of the output, ``ceil_mode`` included (the last window is dropped if it starts in the end
padding); the divisor of a mean, which never counts what hangs over the end of the padded input; the first of equal
maxima. ONNX says nothing of NaN; the last one is named, as PyTorch does.

Beyond both: (before, after) padding and padding by name in PyTorch's dialect, ``divisor_override`` and column-major
indices in either, dilation everywhere, half of a window counted with its dilation, integers of all sizes in maxima,
inputs without channels, batches and channels of 0 elements, -1 as the index of a window that holds padding only.
Refused here and not by PyTorch: means and norms of integers, norms with a power of 0 or less, outputs of size 0.
"""

from fastconv.pooling.adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from fastconv.pooling.norms import lp_pool1d, lp_pool2d, lp_pool3d
from fastconv.pooling.sliding import avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d, max_pool2d, max_pool3d
from fastconv.pooling.unpool import max_unpool1d, max_unpool2d, max_unpool3d

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]
