"""Every measured constant, with unit, machine, date and the command that measures it again.

Machine "zen5-2": AMD EPYC (family 26), 2 cores, AVX-512, 48 KB L1, 1 MB L2 a core, gcc 12, November 2026. "zen4-2": AMD
EPYC (family 25, model 17), 2 cores, AVX-512 at half the rate, 32 KB L1, 1 MB L2 a core, gcc 12, November 2026.
"zen3-2": AMD EPYC (family 25, model 1), 2 cores, AVX2, 32 KB L1, 512 KB L2 a core, gcc 12, same month.
"zen1-2": AMD EPYC (family 23, model 1), 2 cores, AVX2 at half the rate, 32 KB L1, 512 KB L2 a core, gcc 12, same month.
"""

from __future__ import annotations

ARENA_BYTES = 256 * 2**20
"""Scratch kept between calls, bytes. A bound, not a speed: fresh 2 MB cost 0.7 ms in page faults
(shared measurement of the design)."""

IM2COL_BYTES = 16 * 2**20
"""Columns gathered at a time by im2col where max_workspace says nothing, bytes."""

FFT_MIN_TAPS = 400
"""Kernel positions from which 'auto' tries fft first, on images at least as large as the kernel. zen5-2, 1 thread,
2026-11, fft over cython: one channel 1920x1080 0.8x at 15x15, 2.9x at 31x31, 13x at 63x63; 64->64 at 56x56 2.6x at
15x15, 7x at 21x21; depthwise 64 at 56x56 0.6x at 15x15, 2x at 31x31; 256->256 at 14x14 0.2x at 15x15.
`fastconv bench --backends cython,fft`."""

WINOGRAD_MIN_CHANNELS = 16
WINOGRAD_MIN_SIZE = 6
"""Channels per group and output height and width from which 'auto' tries winograd first. zen5-2, 1 and 2 threads,
2026-11, winograd over cython: 16 channels 1.05-1.8x (7x7: 0.97x), 32-512 channels 1.1-2.2x from 6x6 to 10x10, 1.3-2.5x
at 12x12 to 14x14 and 1.6-3.5x from 16x16 up; 4x4 0.4-0.9x. Plans only: in a single call transforming the weights takes
longer than it saves. `fastconv bench --backends cython,winograd`."""

PANEL_BYTES = 16 * 1024
"""Pixels that panels read and that stay in half an L1 while all output channels go over them, one block after the
other, so that a row of the result is written in one go; `kernels/isa.c` has the same. zen5-2, one thread, 2026-11:
3->64 3x3 at 224x224 from 63 to 74 % of the peak."""

ALIGNED_BYTES = 256 * 1024
"""Results from so many bytes on begin at a cache line; NumPy's begin 16 bytes behind one. zen5-2, one thread, 2026-11:
3->64 3x3 at 224x224 66 % of the peak against 50, 64->256 1x1 at 56x56 88 against 86. It takes a microsecond."""

STRIP_SHARE, MOST_STRIP_BYTES = 1 / 2, 640 * 1024
"""Packed input of a task: share of a core's L2, and at most so many bytes; the rest is for weights and sums. zen5-2
(1 MB), 2026-11: 192 to 570 KB within 3 % of each other on 64->64 at 224x224 and on nine other layers."""

FEW_PIXELS, FEW_PIXELS_SHARE = 128, 3 / 4
"""Where a task has fewer pixels than this, and so loads all weights for few products, the share that it may take.
zen3-2 (512 KB), one thread, beside busy neighbours, 2026-11: 512->512 3x3 at 28x28 1.09-1.16x, at 14x14 1.03-1.04x,
dilated by 2 at 33x33 1.06-1.11x; but 128->192 at 26x26, 338 pixels a task without it, 0.91-1.00x."""

STREAM_BYTES = 8 * 10**6
"""Bytes of a result from which on whole lines of it are written past the caches, and need not be loaded first.
zen4-2 (32 MB L3, beside others), one and two threads, 2026-11, channels last and first: 3->64 3x3 at 224x224 (12.8 MB)
1.33 and 1.24x, 1.27 and 1.22x, 128->192 1x1 at 26x26, batch 16 (8.3 MB) 1.25 and 1.22x, 1x. But the next layer has to
load them from memory: two layers, one after the other, with 3.2 MB between them 0.85 to 1.04x, 6.4 MB 0.94 to 1.09x,
8.3 MB 0.98 to 1.12x, 12.8 MB 0.80 to 2.04x, 1.16x in the mean."""

CHANNEL_BLOCK = 64
CHANNEL_BLOCK_POINT = 256
"""Input channels summed from zero before they are added to the output, for several taps and for one. Part of the
algorithm: the same bits everywhere. zen5-2, 2026-11: 16 channels 77 % of the FMA peak on 64x56x56 3x3, 32 84 %, 64
87 %, 128 87 %; for one tap 128, 256 and 512 within 2 %. `fastconv bench --backends cython`."""

PACK_ELEMENT, PACK_ROW, LOAD_WEIGHT = 16.0, 16, 4.0
"""What packing an element of x, and fetching a weight for a task, take, in multiply-adds; and how many more elements a
row takes to begin with."""

DEPTHWISE_LAST_TASKS, DEPTHWISE_BYTES, DEPTHWISE_ROWS = 2, 256, 4
"""Channels last: tasks for a thread, each of so many bytes of a pixel at least, and rows. zen4-2, two threads, 2026-11,
3x3 of 32 channels at 112x112: us with tasks of 16 channels each 62 to 210, of 28 rows 52, of 7 rows 80 to 300 (a line
that a core fetches ahead of its stores is taken from the other)."""

DEPTHWISE_OUTPUTS, DEPTHWISE_TASKS = 4, 8
"""Output channels of a single input channel up to which its kernels take one at a time, where windows cannot be read in
place (where they can: always; zen4-2, one thread, 2026-11, 64 images, percent of the peak: 1->32 3x3 at 28x28 32 to 51,
1->6 5x5 33 to 60); tasks for a thread, each of as many groups as that leaves. Not swept."""

PACK_BYTES = 2**20
"""Bytes of weights that a single call packs at a time, for each thread; a bound. It packs them whatever the layer:
zen1-2, one thread, 2026-11, time with plain weights over that with packing: 1x1 of 512 channels on 1 to 49 pixels
0.94-1.27 (at 4x4 0.66), 3x3 of 64 to 1024 channels at 2x2 to 6x6 1.02-1.43, 8 to 16 channels 0.98-1.09."""

WINDOW_MOST = {6: (31, 64 * 64)}
"""By the pixels of a register tile: output channels of one input channel beyond which, from so many pixels on, pixels
in the lanes are faster than windows read in place, which load a column for every output channel. zen1-2, one thread,
2026-11, percent of the peak of windows and of pixels, 3x3: 1->64 at 28x28 28, 27, at 64x64 48, 49, at 128x128 41, 47,
at 256x256 40, 48; 1->32 at 224x224 40, 46; 1->16 at 48x480 61, 51; 1->64 5x5 at 256x256 63, 73. AVX-512: not swept."""

TILES_HELD = 4
"""Register tiles of a row whose pixels must fit a strip for all input channels; else these are packed in blocks."""

ROWS = {14: {8: 1.0, 4: 0.99, 2: 0.88, 1: 0.47}, 6: {4: 0.83, 2: 0.74, 1: 0.47}}
ROWS_POINT = {14: ROWS[14], 6: {4: 0.94, 2: 0.74, 1: 0.47}}
ROWS_FAR = {14: ROWS[14], 6: {4: 0.78, 2: 0.52, 1: 0.47}}
COLUMN_BYTES = 170
LEAST_SUMS = 10
STORE_VECTOR, STORE_STRIDED, PACK_LAST = 4, 2, 4
STORE_TRANSPOSED = {14: 16, 6: 32}
STORE_BY_HALVES = {14: 8, 6: 20}
PACK_PHASES = {14: 0, 6: 2}
PACK_FEW = {14: 0, 6: 20}
"""How fast the compiled kernels are, for the choice of their shape, in multiply-adds of a vector; where it says so, by
the pixels of a register tile, 14 with 32 vector registers, 6 with 16.

Output channels of a register block of pixels -> share of the peak, the same for kernels of one tap, and where what the
taps of several rows read of a column of pixels takes more than so many bytes, so that a panel leaves L1; sums in
registers from which on a tile of channels is as fast as it gets; what storing a vector of sums takes, an element with a
stride, packing one of channels-last pixels that are read in place otherwise; a vector that is transposed on its way, by
numba's kernels and by the compiled ones, which do it by halves of squares; packing an element of pixels that a stride
splits into phases; and a pixel of fewer channels than a vector holds, side by side. zen3-2, one thread, 2026-11, layers
of 3 to 256 channels at 7x7 to 160x160, strides 1 to 3: 500 take 0.8 % longer in NCHW than with the better kind of the
two (fitted to 390 of them; with the constants of zen1-2 5.4 %), 130 in NHWC 0.1 %. 14: zen5-2. Since stores go by
halves, which fewer columns than a vector do not slow down, 260 layers on zen4-2: AVX-512 3.5 -> 2.0 % in NCHW, 1.2 % in
NHWC, AVX2 (forced) 4.1 -> 3.4 and 0.2 %."""

LOSS_DIRECT, BLAS_BLOCK, LOSS_FFT = 1.1, 384, 6.5
"""Constants of ``error_typical``, which tests/test_errors.py holds to a factor of 3: largest error of normal and
uniform x and w over what the random walk of a sum's rounding errors says; terms that a BLAS sums before it adds; the
same of a Fourier transform over 1 / sqrt(terms)."""

LOSS_WINOGRAD = {
    ("F(2,3)", 2): 0.62, ("F(4,3)", 2): 2.1, ("F(6,3)", 2): 16.0,
    ("F(2,3)", 1): 0.7, ("F(4,3)", 1): 1.75, ("F(6,3)", 1): 3.9, ("F(2,5)", 1): 1.0, ("F(4,5)", 1): 2.8,
}  # fmt: skip
"""The same of the tiles, by the number of axes that they are for."""

WINOGRAD_HIGH = {
    ("F(2,3)", 2): 1, ("F(4,3)", 2): 3,
    ("F(2,3)", 1): 1, ("F(4,3)", 1): 3, ("F(6,3)", 1): 16, ("F(2,5)", 1): 1, ("F(4,5)", 1): 3,
}  # fmt: skip
"""Input channels per group from which accuracy="high" admits a tile, by the number of axes that it is for: its error is
typically at most five times the direct convolution's then (docs/numerics.md). Others are for "fast" only."""

WINOGRAD_NEAR, WINOGRAD_FAR, WINOGRAD_NEAR_BYTES = 2, 8, 4 * 2**20
"""What loading a transformed weight takes beside its products, in tiles: where F(4,3)'s weights take few bytes, and
where they take more. Chooses F(2,3) or F(4,3): zen5-2, 2026-11, over cython at 7x7: 64 channels 1.15 and 1.38x, 512
channels 1.23 and 0.76x; 512 channels at 10x10 1.84 and 1.40x, at 14x14 1.85 and 2.24x."""

WINOGRAD_INPUT, WINOGRAD_OUTPUT = 10, 11
"""What an element of a tile takes on its way there and back, in multiply-adds; estimates, for the choice of tasks."""

WINOGRAD_BYTES, WINOGRAD_TILES = 3 * 2**19, 56
"""Bytes of a winograd task's transformed input and products, but at least so many tiles as share the weights. zen5-2,
2026-11, percent of the peak on one thread: 64 channels 224x224 1 MB 186, 1.5 MB 184, 2 MB 170, 3 MB 157; 128 channels
112x112 1 MB 248, 2 MB 225; 512 channels 28x28 28 tiles 201, 49 tiles 300."""

NUMBA_SINGLE_CHANNELS = 4
"""Up to so many channels numba's micro-kernel takes (tap, channel) pairs as taps. Not swept yet."""

KNOWN_CALLS = 512
"""Single calls whose geometry is kept for the next one with arrays of the same shapes. A bound, not a speed."""

PARALLEL_FLOPS, PARALLEL_BYTE = 2_000_000, 8
"""FLOPs below which one thread does all: a fork-join takes 2-5 us (docs/performance.md), the time of 0.4-1 MFLOP; and
how many a byte of x, w and out counts for, whose time it takes where few products go over it. zen4-2, 2026-11:
depthwise 3x3 of 960 channels at 7x7 (0.8 MFLOP, 0.4 MB) 34-41 us on one thread, 22-25 on two."""

EPILOGUE_BYTES = 256 * 1024
"""Piece of the output to which NumPy applies an activation at a time, bytes. A bound; a piece stays in L2."""

PAGE_BYTES = 4096
"""Distance in bytes at which the channels of a strip would all fall into the same sets of an L1 cache;
`kernels/isa.c` has the same."""

NUMBA_PANELS = {32: {8: 3, 4: 6, 2: 8, 1: 8}, 16: {4: 3, 2: 6, 1: 8}}
"""Vector registers -> output channels of numba's register blocks with pixels in the lanes -> most vectors of pixels."""

FFT_FEW_PRODUCTS = 16
FFT_SMALLEST = {1: 256, 2: 32, 3: 16}
FFT_LARGEST = {1: 32768, 2: 512, 3: 64}
"""Points of a transform per axis, by the number of transformed axes: 4 times the kernel where transforms take most of
the time, at most 16 channel products in the group (3 times in a depthwise layer, whose images are small), else 2
times, which keeps the kernels' spectra small. zen5-2, 2026-11: within 30 % of the best of five sizes on 1920x1080 with
15x15, 31x31, 63x63, and on 64x56x56 dense and depthwise with 15x15 and 31x31. FFT_LARGEST keeps a transform in L2;
FFT_SMALLEST: of 32 points few are lost to a 3x3 kernel."""

FFT_BLOCK_BYTES = 8 * 2**20
FFT_BLOCKS, FFT_BLOCKS_BYTES = 4, 32 * 2**20
"""Bytes of a chunk where max_workspace says nothing; more where that holds less than 4 blocks, up to 32 MB, because a
product with one block is bound by memory. zen5-2, two threads, busy, 2026-11: 4 and 8 MB alike on 1920x1080 with
31x31 (13 and 12 ms), 2 and 16 MB took 19 ms."""

FFT_KERNEL_BYTES, FFT_SLICE_BYTES = 64 * 2**20, 4 * 2**20
"""Spectra of kernels held by a call without a plan, and of those transformed at a time. Not measured: bounds."""

FFT_REPAIR_BYTES = 2**20
"""Columns of outputs that are summed directly, at a time."""

FFT_SPECTRA_BYTES = 256 * 2**20
"""Spectra that a plan holds at most; beyond, every call transforms the kernels anew. Not measured: a bound."""

NN_PLANS = 32
"""Shapes for which a layer of `fastconv.nn` keeps plans. A bound, not a speed: plans of one algorithm share their
packed weights, so that an entry costs some hundred bytes."""

POOL_PIECE_BYTES = 2 * 2**20
"""Input of a pooling that is read at a time, bytes; the cut does not depend on the threads. zen5-2, 2026-11, roughly
(`fastconv.max_pool2d` of 8x64x112x112, 3x3 stride 2, float32, best of 7): 256 KB 6.2 ms on one thread and 7.4 on two,
1 MB 5.3 and 4.6, 2 MB 5.1 and 4.0, 4 MB 5.0 and 3.8. In small pieces two threads wait for Python's lock."""

POOL_COMPILED_BYTES = 256 * 1024
"""Input and result of a pooling in the compiled kernels below which one thread does all, bytes. Not swept."""

POOL_PARALLEL_BYTES = 12 * 2**20
"""Input of a pooling below which one thread does all, bytes; a search for places counts every tap. zen5-2, 2026-11,
roughly, one thread over two on 3x3 stride 2: maximum 0.8x at 6 MB, 1.05x at 12, 1.2x at 24; norm with p = 3 0.9x,
1.6x, 1.5x; maximum with its gradient's search 1.5x, 1.9x, 1.8x. Starting two threads takes 0.35 ms."""
