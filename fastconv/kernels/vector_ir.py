"""Explicit LLVM vector operations for Numba, on addresses.

Addresses are int64 in bytes, indices count elements. The element type comes from a typed zero, or from the literal
``item``: 4 is float32, 8 is float64, so that compiled functions have C signatures of integers only. Nothing
allocates, nothing is checked.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

INT = ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()


@cache
def host_features() -> set[str]:
    """Names of the instruction sets that Numba compiles for (it hears ``NUMBA_CPU_FEATURES``).

    Asked once: LLVM's binding has a lock, which a fork while another thread asks would leave closed in the child.
    """
    flags = cpu_target.target_context.codegen().magic_tuple()[2]
    return {name[1:] for name in flags.split(",") if name.startswith("+")}


def host_vector_bytes() -> int:
    """Width of the vectors that the kernels use here."""
    features = host_features()
    return 64 if "avx512f" in features else 32 if {"avx2", "fma"} <= features else 16


def element_of(item: types.IntegerLiteral) -> tuple[Any, ir.Type]:
    """Numba's and LLVM's type of an element."""
    return (types.float32, ir.FloatType()) if item.literal_value == 4 else (types.float64, ir.DoubleType())


def element_at(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, element: ir.Type) -> ir.Value:
    """Pointer to ``base[index]``. An indexed pointer, not address arithmetic: LLVM vectorises loops over it."""
    return builder.gep(builder.inttoptr(base, element.as_pointer()), [index])


@intrinsic(prefer_literal=True)
def zero_of(typingctx: Any, item: Any) -> Any:
    """Zero of the element type: what the functions below take their type from."""
    number, element = element_of(item)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(element, 0.0)

    return number(item), generate


@intrinsic
def like(typingctx: Any, zero: Any, value: Any) -> Any:
    """``value`` converted to the type of ``zero``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[1]

    return zero(zero, zero), generate


@intrinsic
def load(typingctx: Any, zero: Any, base: Any, index: Any) -> Any:
    """``base[index]`` as a number of the type of ``zero``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(element_at(builder, args[1], args[2], args[0].type))

    return zero(zero, types.int64, types.int64), generate


@intrinsic
def store(typingctx: Any, base: Any, index: Any, value: Any) -> Any:
    """``base[index] = value``, of the type of ``value``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], element_at(builder, args[0], args[1], args[2].type))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), generate


@intrinsic
def load_int(typingctx: Any, base: Any, index: Any) -> Any:
    """``base[index]`` of a table of int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(element_at(builder, args[0], args[1], INT))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def lanes_of(typingctx: Any, zero: Any) -> Any:
    """Elements in a vector of this machine."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return INT(_host_vector(args[0].type).count)

    return types.int64(zero), generate


@intrinsic
def merge_lanes(typingctx: Any, to: Any, source: Any, left: Any, add: Any, shift: Any, floor: Any) -> Any:
    """One vector of ``to = source + shift``, or ``to + source + shift`` if ``add``; then 0 where below ``floor``.

    Writes the first ``left`` lanes, reads ``to`` there and ``source`` in every lane. -0.0 and -inf change nothing;
    NaN is below nothing. ``source`` may be ``to``.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, source, left, add, shift, floor = args
        vector = _host_vector(shift.type)
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
        vector = _host_vector(zero.type)
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
        vector, first = _host_vector(zero.type), builder.mul(start, INT(stride))
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
        vector = _host_vector(zero.type)
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


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """Fetch the line at ``address``; it need not be there."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        touch(builder, builder.inttoptr(args[0], BYTES), near=3)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def take_ticket(typingctx: Any, counter: Any) -> Any:
    """The int64 at ``counter``; it is one more for the next caller, whatever its thread."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], INT.as_pointer()), INT(1), "monotonic")

    return types.int64(types.int64), generate


@intrinsic
def call(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the C function at ``address`` with a tuple of int64; it returns nothing.

    By address and not by name: Numba compiles a named callee again into every caller. Literal arguments at the
    end of the callee's list are left out: they are part of its type, and it never reads them.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[1])
        function = ir.FunctionType(ir.VoidType(), [INT] * len(values)).as_pointer()
        builder.call(builder.inttoptr(args[0], function), values)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, len(arguments))), generate


def element_bytes(element: ir.Type) -> int:
    return 4 if isinstance(element, ir.FloatType) else 8


def _host_vector(element: ir.Type) -> ir.VectorType:
    return ir.VectorType(element, host_vector_bytes() // element_bytes(element))


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


def mangled(vector: ir.VectorType) -> str:
    return f"v{vector.count}f{8 * element_bytes(vector.element)}"


def load_vector(builder: Any, base: Any, index: Any, element: ir.Type, vector: ir.VectorType) -> Any:
    """Unaligned load of ``base[index : index + lanes]``."""
    place = builder.bitcast(element_at(builder, base, index, element), vector.as_pointer())
    return builder.load(place, align=element_bytes(element))


def touch(builder: Any, place: Any, near: int = 2) -> None:
    """Prefetch a line into L1 (``near`` 3) or L2 (2)."""
    kind = ir.FunctionType(ir.VoidType(), [BYTES, *[ir.IntType(32)] * 3])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(place, BYTES), *map(ir.IntType(32), (0, near, 1))])


def _pick(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """Lanes of two vectors by number, those of the second from its length on."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), [ir.IntType(32)(lane) for lane in lanes])
    return builder.shuffle_vector(a, b, order)


def splat(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    """The number in every lane: the form that instruction selection folds into a broadcasting load."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.IntType(32)(0))
    first_lane = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(first, undefined, first_lane)
