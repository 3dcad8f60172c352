# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled kernels as Python sees them: instruction sets, layers made ready, and probes of the machine.

A `Layer` holds one lowered layer in C; its ``run`` takes arrays (any strides, axes (n, c, d, h, w)) and
releases the GIL. It is never changed after it was made, so threads may share it.
"""

import os
import threading
import time

from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.string cimport memset

cdef extern from "engine.h" nogil:
    ctypedef struct fc_axis:
        int64_t out, stride, taps, phases, reach, source_len
        const int64_t *source
        const int64_t *phase
        const int64_t *tap_phase
        const int64_t *tap_offset

    ctypedef struct fc_conv:
        int64_t n, g, icg, ocg
        fc_axis d, h, w
        int64_t rows, cols, oc_step, ic_block, mr
        int in_place
        const char *x
        int64_t x_stride[5]
        char *out
        int64_t out_stride[5]
        const char *residual
        int64_t residual_stride[5]
        const void *bias
        const void *packed
        const char *weights
        int64_t weight_stride[5]
        int activation
        double parameter
        char *scratch
        int64_t scratch_bytes
        int64_t m, out_h, out_w
        const void *bt
        const void *at
        const char *ran

    ctypedef void (*task_fn)(void *, int64_t, int)
    ctypedef int64_t (*scratch_fn)(const fc_conv *)

    ctypedef struct fc_isa:
        const char *name
        int vector_bytes
        const int *mr
        int64_t (*widest_panel)(int64_t)
        task_fn shifted[2]
        task_fn winograd[2]
        scratch_fn shifted_scratch[2]
        scratch_fn winograd_scratch[2]
        task_fn peak[2]
        task_fn stream

    ctypedef struct fc_stream:
        char *data
        int64_t bytes, half, passes

    const fc_isa *const fc_isas[]
    int fc_isa_present(const fc_isa *isa)
    int64_t fc_shifted_tasks(const fc_conv *conv)
    void fc_parallel_for(task_fn task, void *context, int64_t count, int threads)


ACTIVATIONS = (None, "relu", "relu6", "silu", "gelu", "gelu_tanh", "hardswish", "leaky_relu")
_ran = threading.local()


def isas_compiled():
    """Names of the instruction sets that this build has kernels for, best first."""
    cdef int i = 0
    names = []
    while fc_isas[i] != NULL:
        names.append(fc_isas[i].name.decode())
        i += 1
    return tuple(names)


def isas_present():
    """Those of them that this processor has."""
    return tuple(name for i, name in enumerate(isas_compiled()) if fc_isa_present(fc_isas[i]))


def isa():
    """Name of the instruction set that new layers use."""
    return _isa


def set_isa(str name):
    """Use another instruction set for layers made from now on; for tests."""
    global _isa
    if name not in isas_present():
        raise ValueError(f"instruction set {name!r} is not to be had here; choose one of {', '.join(isas_present())}")
    _isa = name


def last_kernel():
    """Name of the kernel that ran last in this Python thread."""
    return getattr(_ran, "name", None)


def register_rows(str isa, int64_t ocg):
    """Rows of the largest register block that ``ocg`` output channels fill."""
    cdef int i = 0
    cdef const fc_isa *found = _find(isa)
    while found.mr[i] > ocg and found.mr[i + 1]:
        i += 1
    return found.mr[i]


def fma_peak(int threads=1, double milliseconds=10.0, int itemsize=4):
    """What the present instruction set reaches in registers, in GFLOP/s; a multiply-add is two operations."""
    cdef double flops[1024]
    cdef const fc_isa *found = _find(_isa)
    cdef task_fn task = found.peak[itemsize == 8]
    cdef int count = min(threads * 16, 1024), i
    cdef double rounds = 2000.0, total = 0.0
    for attempt in range(2):
        for i in range(count):
            flops[i] = rounds
        start = time.perf_counter()
        with nogil:
            fc_parallel_for(task, flops, count, threads)
        elapsed = time.perf_counter() - start
        if attempt == 0:
            rounds = max(rounds * milliseconds * 1e-3 / max(elapsed, 1e-7), 1.0)
    for i in range(count):
        total += flops[i]
    return total / elapsed / 1e9


def bandwidth(unsigned char[::1] buffer, int threads=1, double milliseconds=10.0, bint copy=False):
    """GB/s (10^9 bytes) of reading the buffer, a slice each thread, or with ``copy`` one half of each to the other.

    A copied byte counts twice: read and written. The buffer's size says which cache is measured; write to it
    first, or the system gives the same page for all of it. A thread needs 4 KiB, with ``copy`` 8 KiB.
    """
    cdef fc_stream stream
    cdef task_fn task = _find(_isa).stream
    cdef int64_t count, pages = buffer.shape[0] // threads // 4096
    if pages < 1 + copy:
        raise ValueError(f"buffer has {buffer.shape[0]} bytes; {threads} threads need {threads * 4096 * (1 + copy)}")
    stream.data = <char *>&buffer[0]
    stream.bytes = pages * 4096
    # An odd multiple of 2048: loads and stores at the same offset into a page wait for each other on some processors.
    stream.half = (pages - 1 + pages % 2) * 2048 if copy else 0
    stream.passes = max(1, (1 << 20) // stream.bytes)
    count = threads
    for attempt in range(2):
        start = time.perf_counter()
        with nogil:
            fc_parallel_for(task, &stream, count, threads)
        elapsed = time.perf_counter() - start
        moved = <double>count * stream.passes * (2 * stream.half or stream.bytes)
        if attempt == 0:
            count = max(threads, <int64_t>(count * milliseconds * 1e-3 / max(elapsed, 1e-7)))
    return moved / elapsed / 1e9


cdef const fc_isa *_find(str name) except NULL:
    cdef int i = 0
    cdef bytes wanted = name.encode()
    while fc_isas[i] != NULL:
        if fc_isas[i].name == wanted:
            return fc_isas[i]
        i += 1
    raise ValueError(f"instruction set {name!r} was not compiled; there are {', '.join(isas_compiled())}")


cdef class Layer:
    """One lowered layer, ready to run on arrays of one element size with one instruction set.

    ``axes`` are (out, stride, source, phases, tap_phase, tap_offset) for d, h, w. ``winograd`` is None or
    (m, out_h, out_w, bt, at) with float arrays of the layer's type.
    """

    cdef fc_conv conv
    cdef const fc_isa *found
    cdef int kind
    cdef list kept
    cdef readonly str kernel_name
    cdef readonly int64_t scratch_bytes

    def __init__(self, str isa, int itemsize, sizes, axes, tile, int64_t ic_block, int64_t mr, activation,
                 double parameter, winograd=None):
        self.found = _find(isa)
        self.kind = itemsize == 8
        self.kept = []
        memset(&self.conv, 0, sizeof(fc_conv))
        self.conv.n, self.conv.g, self.conv.icg, self.conv.ocg = sizes
        self._axis(&self.conv.d, axes[0])
        self._axis(&self.conv.h, axes[1])
        self._axis(&self.conv.w, axes[2])
        self.conv.rows, self.conv.cols, self.conv.oc_step = tile
        self.conv.ic_block = ic_block
        self.conv.mr = mr
        self.conv.activation = ACTIVATIONS.index(activation)
        self.conv.parameter = parameter
        algorithm = "shifted_nchw"
        if winograd is not None:
            self.conv.m, self.conv.out_h, self.conv.out_w, bt, at = winograd
            self.conv.bt = self._keep(bt)
            self.conv.at = self._keep(at)
            algorithm = f"winograd_f{self.conv.m}x3"
        scratch = self.found.winograd_scratch[self.kind] if winograd else self.found.shifted_scratch[self.kind]
        self.scratch_bytes = self.conv.scratch_bytes = scratch(&self.conv)
        lanes = self.found.vector_bytes // itemsize * self.found.widest_panel(mr)
        self.kernel_name = f"{algorithm}_%s_{mr}x{lanes}"

    cdef _axis(self, fc_axis *axis, given):
        axis.out, axis.stride, source, phases, tap_phase, tap_offset = given
        axis.taps, axis.phases, axis.source_len = len(tap_offset), len(phases), len(source)
        axis.reach = max(tap_offset)
        axis.source = <const int64_t *>self._keep(source)
        axis.phase = <const int64_t *>self._keep(phases)
        axis.tap_phase = <const int64_t *>self._keep(tap_phase)
        axis.tap_offset = <const int64_t *>self._keep(tap_offset)

    cdef const void *_keep(self, array):
        self.kept.append(array)
        return _address(array)

    def run(self, x, out, residual, bias, packed, weights, bint in_place, int threads, scratch):
        """Convolve. ``scratch``: threads * scratch_bytes, aligned to 64; ``packed`` or ``weights`` may be None."""
        cdef fc_conv conv = self.conv
        cdef task_fn task
        conv.x = _strided(x, conv.x_stride)
        conv.out = _strided(out, conv.out_stride)
        conv.in_place = in_place
        if residual is not None:
            conv.residual = _strided(residual, conv.residual_stride)
        if bias is not None:
            conv.bias = _address(bias)
        if packed is not None:
            conv.packed = _address(packed)
        if weights is not None:
            conv.weights = _strided(weights, conv.weight_stride)
        conv.scratch = <char *>_address(scratch)
        task = self.found.winograd[self.kind] if conv.m else self.found.shifted[self.kind]
        with nogil:
            fc_parallel_for(task, &conv, fc_shifted_tasks(&conv), threads)
        if conv.ran != NULL:
            _ran.name = self.kernel_name % conv.ran.decode()


cdef char *_strided(array, int64_t *strides) except? NULL:
    """Address and byte strides of a five-axis array; the caller keeps the array alive."""
    cdef Py_buffer view
    cdef int i
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    if view.ndim != 5:
        PyBuffer_Release(&view)
        raise ValueError(f"expected five axes (n, c, d, h, w); got {array.ndim}")
    for i in range(5):
        strides[i] = view.strides[i]
    address = <char *>view.buf
    PyBuffer_Release(&view)
    return address


cdef const void *_address(array) except? NULL:
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    address = view.buf
    PyBuffer_Release(&view)
    return address


def _first_isa():
    name = os.environ.get("FASTCONV_ISA", "").strip()
    if not name:
        return isas_present()[0]
    if name not in isas_present():
        raise ValueError(f"FASTCONV_ISA={name!r} is not to be had here; choose one of {', '.join(isas_present())}")
    return name


_isa = _first_isa()
