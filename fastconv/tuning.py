"""Every measured constant, with unit, machine, date and the command that measures it again.

Machine "zen5-2": AMD EPYC (family 26), 2 cores, AVX-512, 48 KB L1, 1 MB L2 a core, gcc 12, November 2026.
"""

from __future__ import annotations

ARENA_BYTES = 256 * 2**20
"""Scratch kept between calls, bytes. A bound, not a speed: fresh 2 MB cost 0.7 ms in page faults
(shared measurement of the design)."""

IM2COL_BYTES = 16 * 2**20
"""Columns gathered at a time by im2col where max_workspace says nothing, bytes."""

FFT_MIN_TAPS = 400
"""Kernel positions from which 'auto' tries fft first. Not measured yet: a first guess."""

WINOGRAD_MIN_CHANNELS = 32
WINOGRAD_MIN_SIZE = 12
"""Channels per group and output size from which 'auto' tries winograd first. Not measured yet."""

STRIP_BYTES = 384 * 1024
"""Packed input of a task and one channel block, bytes: leaves most of a 1 MB L2 to weights. To be measured."""

CHANNEL_BLOCK = 64
CHANNEL_BLOCK_POINT = 256
"""Input channels summed from zero before they are added to the output, for several taps and for one."""

WINOGRAD_BYTES = 1536 * 1024
"""Transformed input of a winograd task, bytes. To be measured."""
