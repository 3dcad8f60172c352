# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled kernels as Python sees them: instruction sets, layers made ready, and probes of the machine.

A `Layer` holds one lowered layer in C; its ``run`` takes arrays (any strides, axes (n, c, d, h, w)) and
releases the GIL. It is never changed after it was made, so threads may share it.
"""

import os
import time

import numpy

from cpython.buffer cimport PyBUF_RECORDS_RO, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset, strcmp

cdef extern from "engine.h" nogil:
    ctypedef struct fc_axis:
        int64_t out, stride, taps, phases, reach, source_len, before
        const int64_t *source
        const int64_t *phase
        const int64_t *tap_phase
        const int64_t *tap_offset

    ctypedef struct fc_transform:
        int64_t m, alpha, out
        const void *bt
        const void *at

    ctypedef struct fc_conv:
        int64_t n, g, icg, ocg
        fc_axis d, h, w
        int64_t rows, cols, oc_step, g_step, n_step, ic_block, held, few, mr, lanes, lane_unit
        int interleaved, stream, dense
        const char *x
        int64_t x_stride[5]
        char *out
        int64_t out_stride[5]
        const char *residual
        int64_t residual_stride[5]
        const void *bias
        const void *packed
        int finite
        const char *weights
        int64_t weight_stride[5]
        int activation
        double parameter
        char *scratch
        int64_t scratch_bytes
        fc_transform th, tw
        const char *ran

    ctypedef struct fc_pool_axis:
        int64_t size, out, start, stride, kernel, dilation
        const int64_t *count

    ctypedef struct fc_pool:
        int64_t n, c
        fc_pool_axis axis[3]
        int64_t planes, bands
        const char *x
        const char *x_end
        int64_t x_stride[5]
        char *out
        int64_t out_stride[5]
        double divisor
        char *scratch
        int64_t scratch_bytes

    ctypedef void (*task_fn)(void *, int64_t, int)
    ctypedef int64_t (*scratch_fn)(const fc_conv *)

    ctypedef struct fc_isa:
        const char *name
        int vector_bytes
        int64_t (*widest_panel)(int64_t)
        int most_pixels
        int64_t few[4]
        int (*has_windows)(int64_t, int64_t)
        task_fn task[4][2]
        scratch_fn scratch[4][2]
        task_fn pack[2]
        task_fn peak[2]
        task_fn pool[2][2]
        int64_t (*pool_scratch[2])(const fc_pool *)
        int64_t (*pool_group[2])(const fc_pool *)
        task_fn stream

    ctypedef struct fc_stream:
        char *data
        int64_t bytes, half, passes

    enum:
        FC_WINOGRAD

    const fc_isa *const fc_isas[]
    int fc_isa_present(const fc_isa *isa)
    int fc_convolve(fc_conv *conv, const fc_isa *isa, int algorithm, int kind, void *packed, int64_t room, int threads)
    int fc_interleaves(const fc_conv *conv, int algorithm)
    int fc_parallel_for(task_fn task, void *context, int64_t count, int threads)
    int (*fc_interrupted)() noexcept
    void *fc_borrow(int64_t nbytes)
    void fc_give_back(void *scratch)
    void fc_keep_at_most(int64_t nbytes)
    int64_t fc_kept()

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept  # an exception that it sets stays set, see _interrupted

cdef extern from *:
    """static _Thread_local int last_kernel_id = -1;"""
    int last_kernel_id


TASKS = 16  # of a pooling, for each thread
KINDS = ("pixels", "channels", "depthwise")
ACTIVATIONS = (None, "relu", "relu6", "silu", "gelu", "gelu_tanh", "hardswish", "leaky_relu")
_kernel_names = []
cdef object _ndarray = numpy.ndarray


cdef int _check_signals() noexcept with gil:
    return PyErr_CheckSignals()


cdef int _interrupted() except -1:
    """Raise what PyErr_CheckSignals has set."""
    return -1


fc_interrupted = _check_signals


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
    return _kernel_names[last_kernel_id] if last_kernel_id >= 0 else None


def keep_at_most(int64_t nbytes):
    """Bound the scratch that is kept between calls, in bytes; 0 frees it."""
    fc_keep_at_most(nbytes)


def kept_bytes():
    """Scratch that is kept for later calls, in bytes."""
    return fc_kept()


def vector_lanes(str isa, int itemsize):
    """Elements of a vector."""
    return _find(isa).vector_bytes // itemsize


def tile_pixels(str isa):
    """Pixels of the largest register tile with output channels in the lanes."""
    return _find(isa).most_pixels


def has_windows(str isa, int64_t taps, int64_t stride):
    """Whether taps x taps windows of one channel, so far apart, may be read where they lie."""
    return bool(_find(isa).has_windows(taps, stride))


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


cdef char *_scratch(int64_t nbytes) except NULL:
    """Scratch for all threads of a call, to be given back."""
    cdef char *scratch
    with nogil:
        scratch = <char *>fc_borrow(nbytes)
    if scratch == NULL:
        raise MemoryError(f"no memory for {nbytes} bytes of scratch; pass fewer threads")
    return scratch


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

    ``axes`` are (out, stride, before, source, phases, tap_phase, tap_offset) for d, h, w. ``held`` channels
    of x are packed at a time. ``kind`` is one of `KINDS`: what the lanes are. ``blocks`` (rows, lanes, unit): output
    channels of a register block of pixels, and of a block of packed weights, whose last is rounded up to units;
    ``room``: bytes for packed weights of calls that bring plain ones; 0: none are packed. ``stream``: results go past
    the caches. ``dense``: neither padding nor strides. ``winograd`` is None or (m, alpha, out, bt, at) for h and for w,
    with float arrays of the layer's type.
    """

    cdef fc_conv conv
    cdef const fc_isa *found
    cdef int algorithm, kind
    cdef list kept
    cdef int name_id
    cdef readonly str isa, kernel_name
    cdef readonly int64_t scratch_bytes, room

    def __init__(self, str isa, int itemsize, sizes, axes, tile, int64_t ic_block, int64_t held, str kind, blocks, int64_t room,
                 bint stream, bint dense, activation, double parameter, winograd=None):
        cdef int algorithm = KINDS.index(kind)
        self.isa = isa
        self.found = _find(isa)
        self.kept = []
        memset(&self.conv, 0, sizeof(fc_conv))
        self.conv.n, self.conv.g, self.conv.icg, self.conv.ocg = sizes
        self._axis(&self.conv.d, axes[0])
        self._axis(&self.conv.h, axes[1])
        self._axis(&self.conv.w, axes[2])
        self.conv.rows, self.conv.cols, self.conv.oc_step, self.conv.g_step, self.conv.n_step = tile
        self.conv.ic_block = ic_block
        self.conv.held = held
        self.conv.mr, self.conv.lanes, self.conv.lane_unit = blocks
        self.room = room
        self.conv.stream = stream
        self.conv.dense = dense
        self.conv.activation = ACTIVATIONS.index(activation)
        self.conv.parameter = parameter
        rows, vectors = self.conv.mr, self.found.widest_panel(self.conv.mr)
        if kind == "depthwise":
            rows, vectors = 4, 4
        elif kind == "channels":
            rows, vectors = self.found.most_pixels, 2
        if winograd is not None:
            self._transform(&self.conv.th, winograd[0])
            self._transform(&self.conv.tw, winograd[1])
            m, alpha = max(given[:2] for given in winograd)
            algorithm, kind = FC_WINOGRAD, f"winograd_f{m}x{alpha - m + 1}"
        self.conv.few = self.found.few[algorithm]
        self.conv.interleaved = fc_interleaves(&self.conv, algorithm)
        self.algorithm, self.kind = algorithm, itemsize == 8
        self.scratch_bytes = self.conv.scratch_bytes = self.found.scratch[algorithm][itemsize == 8](&self.conv)
        self.kernel_name = f"{kind}_{isa}_{rows}x{vectors * self.found.vector_bytes // itemsize}"
        if self.kernel_name not in _kernel_names:
            _kernel_names.append(self.kernel_name)
        self.name_id = _kernel_names.index(self.kernel_name)

    cdef _axis(self, fc_axis *axis, given):
        axis.out, axis.stride, axis.before, source, phases, tap_phase, tap_offset = given
        axis.taps, axis.phases, axis.source_len = len(tap_offset), len(phases), len(source)
        axis.reach = max(tap_offset)
        axis.source = <const int64_t *>self._keep(source)
        axis.phase = <const int64_t *>self._keep(phases)
        axis.tap_phase = <const int64_t *>self._keep(tap_phase)
        axis.tap_offset = <const int64_t *>self._keep(tap_offset)

    cdef _transform(self, fc_transform *to, given):
        to.m, to.alpha, to.out, bt, at = given
        to.bt = self._keep(bt)
        to.at = self._keep(at)

    cdef const void *_keep(self, array):
        self.kept.append(array)
        return _address(array)

    def run(self, x, out, residual, bias, packed, weights, bint finite, int threads):
        """Convolve. ``packed`` or ``weights`` may be None; ``finite``: all of them are, so padding of zeros adds nothing."""
        cdef fc_conv conv = self.conv
        conv.finite = finite
        conv.x = _strided(x, conv.x_stride)
        conv.out = _strided(out, conv.out_stride)
        if residual is not None:
            conv.residual = _strided(residual, conv.residual_stride)
        if bias is not None:
            conv.bias = _address(bias)
        if packed is not None:
            conv.packed = _address(packed)
        if weights is not None:
            conv.weights = _strided(weights, conv.weight_stride)
        self._run(&conv, threads)

    cdef int _run(self, fc_conv *conv, int threads) except -1:
        global last_kernel_id
        cdef int64_t room = self.room if conv.packed == NULL else 0, each = threads * conv.scratch_bytes
        cdef int stopped
        conv.scratch = _scratch(each + room)
        with nogil:
            stopped = fc_convolve(conv, self.found, self.algorithm, self.kind, conv.scratch + each, room, threads)
            fc_give_back(conv.scratch)
        if conv.ran != NULL:  # what the kernel itself says
            last_kernel_id = self.name_id if strcmp(conv.ran, self.found.name) == 0 else -1
        if stopped:
            _interrupted()
        return 0


cdef class Plain:
    """Arrays of given shapes whose axes (n, c, d, h, w) are numbers of each array's own, -1 where it has none.

    The first is x, the second out. Only plain arrays are taken: of those shapes and that dtype, aligned, not overlapping,
    with strides that are not negative; an ``out`` without gaps.
    """

    cdef int dims[4]
    cdef int axis[4][5]
    cdef Py_ssize_t shape[4][5]
    cdef int64_t item
    cdef char format
    cdef readonly tuple out_shape
    cdef readonly object dtype

    cdef _know(self, shapes, axes, dtype):
        cdef int i, k
        self.out_shape, self.dtype, self.item = shapes[1], dtype, dtype.itemsize
        self.format = ord(dtype.char)
        for i in range(len(shapes)):
            self.dims[i] = len(shapes[i])
            for k in range(5):
                self.axis[i][k] = axes[i][k]
            for k in range(self.dims[i]):
                self.shape[i][k] = shapes[i][k]

    cdef bint _take_both(self, x, out, int64_t *x_strides, int64_t *out_strides, char **ends) except -1:
        """x and out, see _take; False also if they overlap."""
        if not self._take(x, 0, False, x_strides, ends) or not self._take(out, 1, True, out_strides, ends + 2):
            return False
        return ends[0] >= ends[3] or ends[2] >= ends[1]

    cdef bint _take(self, array, int which, bint write, int64_t *strides, char **ends) except -1:
        """Canonical strides, first byte and the one behind the last; False if the array is not plain."""
        cdef Py_buffer view
        cdef int i
        cdef int64_t span = self.item, dense = self.item
        cdef bint plain
        if type(array) is not _ndarray:
            return False
        try:
            PyObject_GetBuffer(array, &view, PyBUF_RECORDS_RO)
        except (BufferError, ValueError):
            return False
        plain = view.ndim == self.dims[which] and view.format[0] == self.format and view.format[1] == 0
        plain = plain and not (write and view.readonly) and <uintptr_t>view.buf % self.item == 0
        for i in range(view.ndim - 1 if plain else -1, -1, -1):
            plain = plain and view.shape[i] == self.shape[which][i] and view.strides[i] >= 0
            plain = plain and view.strides[i] % self.item == 0
            plain = plain and not (write and view.strides[i] != dense and view.shape[i] > 1)
            span += (view.shape[i] - 1) * view.strides[i]
            dense *= view.shape[i]
        for i in range(5 if plain else 0):
            strides[i] = view.strides[self.axis[which][i]] if self.axis[which][i] >= 0 else 0
        ends[0] = <char *>view.buf
        ends[1] = ends[0] + span
        PyBuffer_Release(&view)
        return plain


cdef class Bound(Plain):
    """A layer for arrays of one shape: the quick way of a plan, or of a single call, that comes often.

    With ``packed`` weights those are used; else the shapes of w and, or (), bias follow, and each call brings its own.
    Calling it convolves and returns True; or does nothing and returns False, when the arrays are anything but plain.
    """

    cdef fc_conv conv
    cdef Layer layer
    cdef tuple kept
    cdef int threads

    def __init__(self, Layer layer, shapes, axes, packed, weights, bias, bint finite, dtype, int threads):
        self._know(shapes, axes, dtype)
        self.layer, self.kept, self.threads = layer, (packed, weights, bias), threads
        self.conv = layer.conv
        if packed is not None:
            self.conv.packed = _address(packed)
        self.conv.finite = finite
        if weights is not None:
            self.conv.weights = _strided(weights, self.conv.weight_stride)
        if bias is not None:
            self.conv.bias = _address(bias)

    def __call__(self, x, out, w=None, bias=None):
        cdef fc_conv conv = self.conv
        cdef char *ends[4]
        if not self._take_both(x, out, conv.x_stride, conv.out_stride, ends):
            return False
        conv.x, conv.out = ends[0], ends[2]
        if conv.packed == NULL and not self._take_weights(&conv, w, bias, ends + 2):
            return False
        self.layer._run(&conv, self.threads)
        return True

    cdef bint _take_weights(self, fc_conv *conv, w, bias, char **out) except -1:
        """The caller's own, for this call; False if they are not plain, or lie where the result goes."""
        cdef char *ends[2]
        cdef int64_t strides[5]
        if self.layer.isa != _isa or (bias is None) != (self.dims[3] == 0):
            return False
        if not self._take(w, 2, False, conv.weight_stride, ends) or (ends[0] < out[1] and out[0] < ends[1]):
            return False
        conv.weights = ends[0]
        if bias is None:
            return True
        if not self._take(bias, 3, False, strides, ends) or (ends[0] < out[1] and out[0] < ends[1]):
            return False
        conv.bias = ends[0]
        return strides[0] == self.item


cdef class Pool(Plain):
    """Largest elements or means of windows of float32 or float64, with one instruction set: ready to run.

    ``windows`` are (size, out, start, stride, kernel, dilation, counts) for d, h, w, as in `fastconv.pooling.geometry`;
    ``counts``, int64, are None where the ``divisor`` of means is given, which is 0 otherwise. Calling it pools plain
    arrays and returns True; or returns False. Neither it nor `run` takes an x whose rows have gaps.
    """

    cdef fc_pool work
    cdef task_fn task
    cdef int64_t parts
    cdef int threads
    cdef list kept
    cdef str isa

    def __init__(self, bint mean, shapes, axes, dtype, windows, double divisor, int threads):
        cdef const fc_isa *found = _find(_isa)
        cdef fc_pool *work = &self.work
        cdef fc_pool_axis *axis
        cdef int64_t group
        cdef bint double_precision = dtype.itemsize == 8
        cdef int i
        self._know(shapes, axes, dtype)
        self.isa, self.threads, self.kept = _isa, threads, []
        memset(work, 0, sizeof(fc_pool))
        work.n, work.c = [shapes[0][k] if k >= 0 else 1 for k in axes[0][:2]]
        for i in range(3):
            axis = &work.axis[i]
            axis.size, axis.out, axis.start, axis.stride, axis.kernel, axis.dilation, counts = windows[i]
            if counts is not None:
                self.kept.append(counts)
                axis.count = <const int64_t *>_address(counts)
        work.divisor = divisor
        group = found.pool_group[double_precision](work)
        work.planes = max(group, work.n * work.c // (TASKS * threads) // group * group)
        self.parts = (work.n * work.c + work.planes - 1) // work.planes
        work.bands = max(1, min(work.axis[0].out * work.axis[1].out, TASKS * threads // max(self.parts, 1)))
        work.scratch_bytes = found.pool_scratch[double_precision](work)
        self.task = found.pool[mean][double_precision]

    def __call__(self, x, out):
        cdef fc_pool work = self.work
        cdef char *ends[4]
        if self.isa != _isa or not self._take_both(x, out, work.x_stride, work.out_stride, ends):
            return False
        work.x, work.x_end, work.out = ends[0], ends[1], ends[2]
        return self._run(&work)

    def run(self, x, out):
        """Pool arrays with any strides, as (n, c, d, h, w); whether it did."""
        cdef fc_pool work = self.work
        cdef int64_t last = self.item
        cdef int i
        work.x = _strided(x, work.x_stride)
        for i in range(5):
            last += max(<int64_t>(x.shape[i] - 1) * work.x_stride[i], 0)
        work.x_end = work.x + last
        work.out = _strided(out, work.out_stride)
        return self._run(&work)

    cdef bint _run(self, fc_pool *work) except -1:
        if work.axis[2].size > 1 and work.x_stride[4] != self.item:
            return False
        cdef int stopped
        work.scratch = _scratch(self.threads * work.scratch_bytes)
        with nogil:
            stopped = fc_parallel_for(self.task, work, self.parts * work.bands, self.threads)
            fc_give_back(work.scratch)
        if stopped:
            _interrupted()
        return True


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
        if view.shape[i] == 1 and view.strides[i] % view.itemsize:
            strides[i] = 0  # it leads nowhere, and kernels count in elements
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
