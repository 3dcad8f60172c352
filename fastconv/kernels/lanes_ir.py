"""Whole vectors and parts of them between memory and memory, as LLVM vector operations for Numba.

Addresses and the element type as in `fastconv.kernels.vector_ir`.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.kernels.vector_ir import INT, element_at, element_bytes, host_vector, load_vector, mangled, splat


@intrinsic
def merge_lanes(typingctx: Any, to: Any, source: Any, left: Any, add: Any, shift: Any, floor: Any) -> Any:
    """One vector of ``to = source + shift``, or ``to + source + shift`` if ``add``; then 0 where below ``floor``.

    Writes the first ``left`` lanes, reads ``to`` there and ``source`` in every lane. -0.0 and -inf change nothing;
    NaN is below nothing. ``source`` may be ``to``.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, source, left, add, shift, floor = args
        vector = host_vector(shift.type)
        mask = _lanes_below(builder, left, vector)
        neutral = ir.Constant(vector, [ir.Constant(vector.element, -0.0)] * vector.count)
        nothing = ir.Constant(mask.type, None)
        added = builder.select(builder.icmp_signed("!=", add, INT(0)), mask, nothing)
        before = _masked_load(builder, to, INT(0), added, neutral)
        total = builder.fadd(before, load_vector(builder, source, INT(0), vector.element, vector))
        total = builder.fadd(total, splat(builder, shift, vector))
        below = builder.fcmp_ordered("<", total, splat(builder, floor, vector))
        _masked_store(builder, builder.select(below, ir.Constant(vector, None), total), to, INT(0), mask)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, shift, shift), generate


@intrinsic(prefer_literal=True)
def copy_lanes(
    typingctx: Any, zero: Any, to: Any, source: Any, step: Any, start: Any, low: Any, high: Any, end: Any
) -> Any:
    """One vector of ``to[i] = source[step*i] if low <= i < high else 0`` for ``start <= i < end``; step 1 or 2.

    A literal ``step``. Reads and writes nothing but those elements; with step 2 also those between them.
    """
    stride = step.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero, to, source, _, start, low, high, end = args
        vector = host_vector(zero.type)
        parts = []
        for part in range(stride):
            first = builder.add(builder.mul(start, INT(stride)), INT(part * vector.count))
            last = builder.sub(builder.mul(high, INT(stride)), INT(stride - 1))
            inside = _lanes_below(builder, builder.sub(last, first), vector)
            before = _lanes_below(builder, builder.sub(builder.mul(low, INT(stride)), first), vector)
            mask = builder.and_(inside, builder.not_(before))
            parts.append(_masked_load(builder, source, first, mask, ir.Constant(vector, None)))
        value = _pick(builder, parts[0], parts[-1], [stride * i for i in range(vector.count)])
        _masked_store(builder, value, to, start, _lanes_below(builder, builder.sub(end, start), vector))
        return context.get_dummy_value()

    return types.void(zero, types.int64, types.int64, step, *[types.int64] * 4), generate


@intrinsic(prefer_literal=True)
def copy_whole(typingctx: Any, zero: Any, to: Any, source: Any, step: Any, start: Any) -> Any:
    """The same where all lanes are between ``low`` and ``high``; with step 2 it reads one element behind the last."""
    stride = step.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero, to, source, _, start = args
        vector, first = host_vector(zero.type), builder.mul(start, INT(stride))
        count = vector.count
        parts = [load_vector(builder, source, builder.add(first, INT(part * count)), zero.type, vector)
                 for part in range(stride)]  # fmt: skip
        value = _pick(builder, parts[0], parts[-1], [stride * i for i in range(count)])
        place = builder.bitcast(element_at(builder, to, start, zero.type), vector.as_pointer())
        builder.store(value, place, align=element_bytes(zero.type))
        return context.get_dummy_value()

    return types.void(zero, types.int64, types.int64, step, types.int64), generate


@intrinsic
def transpose_lanes(typingctx: Any, zero: Any, to: Any, source: Any, row: Any) -> Any:
    """``to[l*lanes + i] = source[i*row + l]`` for all i, l below the lanes of a vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero, to, source, row = args
        vector = host_vector(zero.type)
        count = vector.count
        rows = [load_vector(builder, source, builder.mul(row, INT(i)), zero.type, vector) for i in range(count)]
        step = 1
        while step < count:  # element (i, l) changes places with (i ^ step, l ^ step) where their bits differ
            low = [lane - step + count if lane & step else lane for lane in range(count)]
            high = [lane + count if lane & step else lane + step for lane in range(count)]
            for i in (i for i in range(count) if not i & step):
                pair = rows[i], rows[i + step]
                rows[i], rows[i + step] = (_pick(builder, *pair, lanes) for lanes in (low, high))
            step *= 2
        for i, value in enumerate(rows):
            place = builder.bitcast(element_at(builder, to, INT(i * count), zero.type), vector.as_pointer())
            builder.store(value, place, align=element_bytes(zero.type))
        return context.get_dummy_value()

    return types.void(zero, *[types.int64] * 3), generate


def _lanes_below(builder: Any, count: Any, vector: ir.VectorType) -> Any:
    """Mask of the lanes whose number is below ``count``."""
    lane = ir.IntType(32)
    numbers = ir.Constant(ir.VectorType(lane, vector.count), [lane(i) for i in range(vector.count)])
    most = builder.select(builder.icmp_signed("<", count, INT(vector.count)), count, INT(vector.count))
    return builder.icmp_signed("<", numbers, splat(builder, builder.trunc(most, lane), numbers.type))


def _masked_load(builder: Any, base: Any, index: Any, mask: Any, other: Any) -> Any:
    """Vector at ``base[index]``; lanes outside of the mask are not read and have the value of ``other``."""
    vector = other.type
    place = builder.bitcast(element_at(builder, base, index, vector.element), vector.as_pointer())
    kind = ir.FunctionType(vector, [place.type, ir.IntType(32), mask.type, vector])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.{mangled(vector)}.p0")
    return builder.call(function, [place, ir.IntType(32)(element_bytes(vector.element)), mask, other])


def _masked_store(builder: Any, value: Any, base: Any, index: Any, mask: Any) -> None:
    """Write the lanes of the mask to ``base[index]``."""
    vector = value.type
    place = builder.bitcast(element_at(builder, base, index, vector.element), vector.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [vector, place.type, ir.IntType(32), mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.{mangled(vector)}.p0")
    builder.call(function, [value, place, ir.IntType(32)(element_bytes(vector.element)), mask])


def _pick(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """Lanes of two vectors by number, those of the second from its length on."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), [ir.IntType(32)(lane) for lane in lanes])
    return builder.shuffle_vector(a, b, order)
