"""Convolution and pooling as plain Numba functions, called inside a user's jitted function.

Serial, without Python and without the machinery of plans: geometry is worked out in nopython code, and the products are
the vector micro-kernel of `fastconv.kernels.micro_numba`, of two shapes. A call pads and packs its image, a block of
input channels at a time, and its weights.
"""

# mypy: disable-error-code="call-arg, no-untyped-call, var-annotated"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from fastconv.kernels.micro_numba import emit_block
from fastconv.kernels.numba_cache import kept
from fastconv.kernels.vector_ir import INT, host_features, host_vector, host_vector_bytes, lanes_of

_WIDE = host_vector_bytes() == 64 or "neon" in host_features()
ROWS, VECTORS = (8, 3) if _WIDE else (4, 3)
"""The register block: output channels by vectors of pixels."""
FEW_ROWS, FEW_VECTORS = 1, 8
"""And that of layers with fewer output channels in a group than half of ``ROWS``."""


@intrinsic(prefer_literal=True)
def multiply_panel(
    typingctx: Any, zero: Any, rows: Any, vectors: Any, taps: Any, chans: Any, a: Any, a_taps: Any, a_tap: Any,
    b: Any, b_taps: Any, b_chan: Any, c: Any,
) -> Any:  # fmt: skip
    """`micro_numba.kernel_block` on packed weights for literal ``rows`` and ``vectors``; its type is that of ``zero``.

    Sums go to ``c``, rows of vectors without a gap.
    """
    mr, nv = rows.literal_value, vectors.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = host_vector(args[0].type)
        taps, chans, a, a_taps, a_tap, b, b_taps, b_chan, c = args[3:]
        none, one = INT(0), INT(1)
        emit_block(
            builder, vector.element, (mr, nv, vector.count, 1),
            (taps, chans, a, a_taps, a_tap, INT(mr), one, b, b_taps, b_chan, c, INT(nv * vector.count), none, none,
             none, none),
        )  # fmt: skip
        return context.get_dummy_value()

    return types.void(zero, rows, vectors, *[types.int64] * 9), generate


@njit(error_model="numpy", nogil=True)
def output_size(size: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> int:
    """Outputs along one axis."""
    if kernel < 1 or stride < 1 or dilation < 1:
        raise ValueError("kernel_size, stride and dilation must be at least 1")
    if before < 0 or after < 0:
        raise ValueError("padding must be at least 0")
    room = size + before + after - dilation * (kernel - 1) - 1
    if room < 0:
        raise ValueError("the kernel, dilation included, is larger than the padded input: add padding")
    return room // stride + 1


@njit(error_model="numpy", nogil=True)
def pack_image(
    strip: Any, x: Any, n: int, first: int, chans: int, pads: Any, stride: Any, height: int, width: int
) -> None:
    """``strip[chan, phase of rows, phase of columns, row, column]``: the padded image, zeros outside."""
    ih, iw = x.shape[2], x.shape[3]
    for c in range(chans):
        for y in range(ih):
            row, ph = (y + pads[0]) // stride[0], (y + pads[0]) % stride[0]
            if row < height:
                for pw in range(stride[1]):
                    # The first input column of this phase, and where it lies in the strip.
                    start = (pw - pads[2]) % stride[1]
                    to = (start + pads[2]) // stride[1]
                    count = min((iw - start + stride[1] - 1) // stride[1], width - to)
                    for i in range(count):
                        strip[c, ph, pw, row, to + i] = x[n, first + c, y, start + i * stride[1]]


@njit(error_model="numpy", nogil=True)
def pack_weights(w: Any, first: int, outs: int, c0: int, chans: int, rows: int) -> Any:
    """``[block of rows][tap][chan][row]``, the last block with zeros."""
    kh, kw = w.shape[2], w.shape[3]
    packed = np.zeros(((outs + rows - 1) // rows, kh * kw, chans, rows), w.dtype)
    for o in range(outs):
        for c in range(chans):
            for r in range(kh):
                for s in range(kw):
                    packed[o // rows, r * kw + s, c, o % rows] = w[first + o, c0 + c, r, s]
    return packed


@njit(error_model="numpy", nogil=True)
def add_panel(out: Any, n: int, o: int, rows: int, tile: Any, start: int, width: int) -> None:
    """Add ``tile[row, pixel]`` to output channels from ``o`` on; pixel 0 is pixel ``start`` of rows ``width`` apart."""
    oh, ow = out.shape[2], out.shape[3]
    for i in range(rows):
        at = 0
        while at < tile.shape[1]:
            y, x = (start + at) // width, (start + at) % width
            if y >= oh:
                break
            count = min(ow - x, tile.shape[1] - at)
            for j in range(count):
                out[n, o + i, y, x + j] += tile[i, at + j]
            at += width - x


@kept
@njit(error_model="numpy", nogil=True)
def convolve(x: Any, w: Any, pads: Any, stride: Any, dilation: Any, groups: int, block: int, block_point: int) -> Any:
    """2-D convolution of ``x`` (n, ic, ih, iw) with ``w`` (oc, ic / groups, kh, kw), of one dtype, any strides.

    ``pads`` are (top, bottom, left, right). Every ``block`` of input channels (``block_point``
    for one tap) is summed from zero and added.
    """
    batch, ic, ih, iw = x.shape
    oc, icg, kh, kw = w.shape
    if groups < 1:
        raise ValueError("groups must be at least 1")
    if oc % groups != 0:
        raise ValueError("w has a number of output channels that groups does not divide")
    if ic != icg * groups:
        raise ValueError("x must have as many channels as w's second axis times groups")
    oh = output_size(ih, pads[0], pads[1], kh, stride[0], dilation[0])
    ow = output_size(iw, pads[2], pads[3], kw, stride[1], dilation[1])
    out = np.zeros((batch, oc, oh, ow), x.dtype)
    if out.size == 0 or icg == 0:
        return out
    ocg, zero = oc // groups, x.dtype.type(0)
    lanes, few = lanes_of(zero), 2 * ocg < ROWS
    rows, columns = (FEW_ROWS, FEW_VECTORS * lanes) if few else (ROWS, VECTORS * lanes)
    chans = min(icg, block_point if kh * kw == 1 else block)
    height = oh + dilation[0] * (kh - 1) // stride[0]
    width = ow + dilation[1] * (kw - 1) // stride[1]
    plane = stride[0] * stride[1] * height * width
    memory = np.zeros(chans * plane + columns, x.dtype)
    strip = memory[: chans * plane].reshape(chans, stride[0], stride[1], height, width)
    tile = np.empty((rows, columns), x.dtype)
    a_taps, b_taps = np.arange(kh * kw), np.empty(kh * kw, np.int64)
    for r in range(kh):
        for s in range(kw):
            y, z = r * dilation[0], s * dilation[1]
            image = y % stride[0] * stride[1] + z % stride[1]
            b_taps[r * kw + s] = (image * height + y // stride[0]) * width + z // stride[1]
    pixels, item = (oh - 1) * width + ow, x.itemsize
    for g in range(groups):
        for c0 in range(0, icg, chans):
            count = min(chans, icg - c0)
            weights = pack_weights(w, g * ocg, ocg, c0, count, rows)
            block_bytes = weights[0].size * item
            for n in range(batch):
                pack_image(strip, x, n, g * icg + c0, count, pads, stride, height, width)
                for start in range(0, pixels, columns):
                    b = np.int64(memory.ctypes.data) + start * item
                    for row_block in range(weights.shape[0]):
                        a = np.int64(weights.ctypes.data) + row_block * block_bytes
                        taps, taps_a, taps_b = (
                            np.int64(kh * kw),
                            np.int64(a_taps.ctypes.data),
                            np.int64(b_taps.ctypes.data),
                        )
                        c = np.int64(tile.ctypes.data)
                        if few:
                            multiply_panel(zero, FEW_ROWS, FEW_VECTORS, taps, count, a, taps_a, count * rows, b, taps_b,
                                           plane, c)  # fmt: skip
                        else:
                            multiply_panel(zero, ROWS, VECTORS, taps, count, a, taps_a, count * rows, b, taps_b, plane,
                                           c)  # fmt: skip
                        o = row_block * rows
                        add_panel(out, n, g * ocg + o, min(rows, ocg - o), tile, start, width)
    return out


@njit(error_model="numpy", nogil=True)
def add_bias(out: Any, bias: Any) -> None:
    """``out[n, o] += bias[o]``."""
    if bias.size != out.shape[1]:
        raise ValueError("bias must have one element per output channel")
    for n in range(out.shape[0]):
        for o in range(out.shape[1]):
            out[n, o] += bias[o]


@njit(error_model="numpy", nogil=True)
def windows(size: int, before: int, after: int, kernel: int, stride: int, dilation: int, ceil_mode: bool) -> int:
    """Windows along one axis, as PyTorch counts them: one that starts in the end padding is dropped."""
    if 2 * max(before, after) > dilation * (kernel - 1) + 1:
        raise ValueError("padding must be at most half of the window")
    count = output_size(size, before, after, kernel, stride, dilation)
    room = size + before + after - dilation * (kernel - 1) - 1
    if ceil_mode and room % stride != 0 and count * stride < size + before:
        count += 1
    return count


@kept
@njit(error_model="numpy", nogil=True)
def largest(x: Any, kernel: Any, stride: Any, pads: Any, dilation: Any, ceil_mode: bool) -> Any:
    """Largest element of each window of ``x`` (n, c, h, w); NaN wins."""
    batch, channels, ih, iw = x.shape
    oh = windows(ih, pads[0], pads[1], kernel[0], stride[0], dilation[0], ceil_mode)
    ow = windows(iw, pads[2], pads[3], kernel[1], stride[1], dilation[1], ceil_mode)
    out = np.empty((batch, channels, oh, ow), x.dtype)
    for n in range(batch):
        for c in range(channels):
            for y in range(oh):
                for z in range(ow):
                    best = x.dtype.type(-np.inf)
                    for r in range(kernel[0]):
                        row = y * stride[0] + r * dilation[0] - pads[0]
                        if 0 <= row < ih:
                            for s in range(kernel[1]):
                                col = z * stride[1] + s * dilation[1] - pads[2]
                                if 0 <= col < iw:
                                    value = x[n, c, row, col]
                                    if value > best or value != value:
                                        best = value
                    out[n, c, y, z] = best
    return out


@kept
@njit(error_model="numpy", nogil=True)
def mean(x: Any, kernel: Any, stride: Any, pads: Any, ceil_mode: bool, count_include_pad: bool, divisor: int) -> Any:
    """Mean of each window of ``x`` (n, c, h, w); ``divisor`` 0: the window's elements, or those inside alone."""
    batch, channels, ih, iw = x.shape
    oh = windows(ih, pads[0], pads[1], kernel[0], stride[0], 1, ceil_mode)
    ow = windows(iw, pads[2], pads[3], kernel[1], stride[1], 1, ceil_mode)
    out = np.empty((batch, channels, oh, ow), x.dtype)
    for y in range(oh):
        top = y * stride[0] - pads[0]
        bottom = min(top + kernel[0], ih + pads[1])
        for z in range(ow):
            left = z * stride[1] - pads[2]
            right = min(left + kernel[1], iw + pads[3])
            whole = (bottom - top) * (right - left)
            y0, y1, z0, z1 = max(top, 0), min(bottom, ih), max(left, 0), min(right, iw)
            inside = max(y1 - y0, 0) * max(z1 - z0, 0)
            by = divisor if divisor else whole if count_include_pad else inside
            for n in range(batch):
                for c in range(channels):
                    total = 0.0
                    for row in range(y0, y1):
                        for col in range(z0, z1):
                            total += x[n, c, row, col]
                    out[n, c, y, z] = total / by
    return out
