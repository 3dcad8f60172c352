"""Explicit LLVM vector operations for Numba, and the register-blocked micro-kernel built from them.

Everything here works on addresses (int64, in bytes) and on indices in elements. The element type is the
literal ``item``: 4 is float32, 8 is float64, so that every function has an all-integer C signature and
one caller serves both. Nothing allocates, nothing is checked.

LLVM's own vectoriser stops at 256 bits and spills the accumulators of a blocked product; vector types
written out here keep their full width (checked in ``tests/test_numba_backend.py`` on the machine code).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

INT = ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()


def host_features() -> set[str]:
    """Names of the instruction sets that Numba compiles for (it hears ``NUMBA_CPU_FEATURES``)."""
    flags = cpu_target.target_context.codegen().magic_tuple()[2]
    return {name[1:] for name in flags.split(",") if name.startswith("+")}


def host_vector_bytes() -> int:
    """Width of the vectors that the kernels use here."""
    features = host_features()
    return 64 if "avx512f" in features else 32 if {"avx2", "fma"} <= features else 16


def _element(item: types.IntegerLiteral) -> tuple[Any, ir.Type]:
    """Numba's and LLVM's type of an element."""
    return (types.float32, ir.FloatType()) if item.literal_value == 4 else (types.float64, ir.DoubleType())


def _at(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, element: ir.Type) -> ir.Value:
    """Pointer to ``base[index]``. An indexed pointer, not address arithmetic: LLVM vectorises loops over it."""
    return builder.gep(builder.inttoptr(base, element.as_pointer()), [index])


@intrinsic(prefer_literal=True)
def zero_of(typingctx: Any, item: Any) -> Any:
    """Zero of the element type: what the functions below take their type from."""
    number, element = _element(item)

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
        return builder.load(_at(builder, args[1], args[2], args[0].type))

    return zero(zero, types.int64, types.int64), generate


@intrinsic
def store(typingctx: Any, base: Any, index: Any, value: Any) -> Any:
    """``base[index] = value``, of the type of ``value``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _at(builder, args[0], args[1], args[2].type))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), generate


@intrinsic
def load_int(typingctx: Any, base: Any, index: Any) -> Any:
    """``base[index]`` of a table of int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_at(builder, args[0], args[1], INT))

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
        total = builder.fadd(before, _load_vector(builder, source, INT(0), vector.element, vector))
        total = builder.fadd(total, _splat(builder, shift, vector))
        below = builder.fcmp_ordered("<", total, _splat(builder, floor, vector))
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
        picked = [ir.IntType(32)(stride * i) for i in range(vector.count)]
        order = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), picked)
        value = builder.shuffle_vector(parts[0], parts[-1], order)
        _masked_store(builder, value, to, start, _lanes_below(builder, builder.sub(end, start), vector))
        return context.get_dummy_value()

    return types.void(zero, types.int64, types.int64, step, *[types.int64] * 4), generate


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


@intrinsic(prefer_literal=True)
def accumulate_block(
    typingctx: Any, taps: Any, chans: Any, a: Any, a_taps: Any, a_chan: Any, a_row: Any,
    b: Any, b_taps: Any, b_chan: Any, c: Any, c_row: Any, add: Any, item: Any, mr: Any, nv: Any, vl: Any,
) -> Any:  # fmt: skip
    """The body of the micro-kernel; its contract stands at `kernel_block`."""
    number, element = _element(item)
    mr_, nv_, vl_ = mr.literal_value, nv.literal_value, vl.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _emit_block(builder, element, (mr_, nv_, vl_), args[:12])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 12, item, mr, nv, vl), generate


def _emit_block(builder: Any, element: ir.Type, shape: tuple[int, int, int], args: Any) -> None:
    """Two nested loops whose accumulators are phi nodes, so that no memory is between two additions.

    Both loops run at least once and test at their end.
    """
    taps, chans, a, a_taps, a_chan, a_row, b, b_taps, b_chan, c, c_row, add = args
    mr, nv, vl = shape
    vector = ir.VectorType(element, vl)
    fma = _fused(builder.module, vector)
    a_rows = [builder.mul(a_row, INT(i)) for i in range(mr)]
    entry = builder.block
    tap_loop, chan_loop, tap_end, done = (
        builder.append_basic_block(name) for name in ("taps", "chans", "tap_end", "done")
    )
    builder.branch(tap_loop)

    builder.position_at_end(tap_loop)
    tap = _phi(builder, INT, entry, INT(0))
    outer = [_phi(builder, vector, entry, ir.Constant(vector, None)) for _ in range(mr * nv)]
    a_start = builder.load(_at(builder, a_taps, tap, INT))
    b_start = builder.load(_at(builder, b_taps, tap, INT))
    builder.branch(chan_loop)

    builder.position_at_end(chan_loop)
    chan = _phi(builder, INT, tap_loop, INT(0))
    a_at, b_at = _phi(builder, INT, tap_loop, a_start), _phi(builder, INT, tap_loop, b_start)
    inner = [_phi(builder, vector, tap_loop, total) for total in outer]
    pixels = [_load_vector(builder, b, builder.add(b_at, INT(j * vl)), element, vector) for j in range(nv)]
    totals = []
    for i in range(mr):
        weight = builder.load(_at(builder, a, builder.add(a_at, a_rows[i]), element))
        row = _splat(builder, weight, vector)
        totals += [builder.call(fma, [row, pixels[j], inner[i * nv + j]]) for j in range(nv)]
    next_chan = builder.add(chan, INT(1))
    for phi, value in zip([chan, a_at, b_at, *inner],
                          [next_chan, builder.add(a_at, a_chan), builder.add(b_at, b_chan), *totals],
                          strict=True):  # fmt: skip
        phi.add_incoming(value, chan_loop)
    again = builder.cbranch(builder.icmp_signed("<", next_chan, chans), chan_loop, tap_end)
    _keep_rolled(builder.module, again, "chans")

    builder.position_at_end(tap_end)
    next_tap = builder.add(tap, INT(1))
    for phi, value in zip([tap, *outer], [next_tap, *totals], strict=True):
        phi.add_incoming(value, tap_end)
    again = builder.cbranch(builder.icmp_signed("<", next_tap, taps), tap_loop, done)
    _keep_rolled(builder.module, again, "taps")

    builder.position_at_end(done)
    places = [
        _at(builder, c, builder.add(builder.mul(c_row, INT(i)), INT(j * vl)), element)
        for i in range(mr) for j in range(nv)
    ]  # fmt: skip
    places = [builder.bitcast(place, vector.as_pointer()) for place in places]
    with builder.if_else(builder.icmp_signed("!=", add, INT(0))) as (added, stored):
        with added:
            for place, total in zip(places, totals, strict=True):
                before = builder.load(place, align=element_bytes(element))
                builder.store(builder.fadd(before, total), place, align=element_bytes(element))
        with stored:
            for place, total in zip(places, totals, strict=True):
                builder.store(total, place, align=element_bytes(element))


def _keep_rolled(module: Any, branch: Any, name: str) -> None:
    """Forbid unrolling: unrolled twice, the 8x3 kernel keeps nine of its accumulators on the stack (LLVM 22)."""
    loop = module.add_metadata([f"fastconv.{name}"])
    loop.operands = (loop, module.add_metadata(["llvm.loop.unroll.disable"]))  # LLVM wants a node naming itself
    branch.set_metadata("llvm.loop", loop)


def element_bytes(element: ir.Type) -> int:
    return 4 if isinstance(element, ir.FloatType) else 8


def _phi(builder: Any, kind: ir.Type, block: Any, value: Any) -> Any:
    """A phi node with its first incoming edge."""
    phi = builder.phi(kind)
    phi.add_incoming(value, block)
    return phi


def _host_vector(element: ir.Type) -> ir.VectorType:
    return ir.VectorType(element, host_vector_bytes() // element_bytes(element))


def _lanes_below(builder: Any, count: Any, vector: ir.VectorType) -> Any:
    """Mask of the lanes whose number is below ``count``."""
    lane = ir.IntType(32)
    numbers = ir.Constant(ir.VectorType(lane, vector.count), [lane(i) for i in range(vector.count)])
    most = builder.select(builder.icmp_signed("<", count, INT(vector.count)), count, INT(vector.count))
    return builder.icmp_signed("<", numbers, _splat(builder, builder.trunc(most, lane), numbers.type))


def _masked_load(builder: Any, base: Any, index: Any, mask: Any, other: Any) -> Any:
    """Vector at ``base[index]``; lanes outside of the mask are not read and have the value of ``other``."""
    vector = other.type
    place = builder.bitcast(_at(builder, base, index, vector.element), vector.as_pointer())
    kind = ir.FunctionType(vector, [place.type, ir.IntType(32), mask.type, vector])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.{_mangled(vector)}.p0")
    return builder.call(function, [place, ir.IntType(32)(element_bytes(vector.element)), mask, other])


def _masked_store(builder: Any, value: Any, base: Any, index: Any, mask: Any) -> None:
    """Write the lanes of the mask to ``base[index]``."""
    vector = value.type
    place = builder.bitcast(_at(builder, base, index, vector.element), vector.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [vector, place.type, ir.IntType(32), mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.{_mangled(vector)}.p0")
    builder.call(function, [value, place, ir.IntType(32)(element_bytes(vector.element)), mask])


def _mangled(vector: ir.VectorType) -> str:
    return f"v{vector.count}f{8 * element_bytes(vector.element)}"


def _load_vector(builder: Any, base: Any, index: Any, element: ir.Type, vector: ir.VectorType) -> Any:
    """Unaligned load of ``base[index : index + lanes]``."""
    place = builder.bitcast(_at(builder, base, index, element), vector.as_pointer())
    return builder.load(place, align=element_bytes(element))


def _splat(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    """The number in every lane: the form that instruction selection folds into a broadcasting load."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.IntType(32)(0))
    first_lane = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(first, undefined, first_lane)


def _fused(module: Any, vector: ir.VectorType) -> Any:
    """Multiply-add of vectors: fused where the machine has it (a call into libm per lane where it has not)."""
    fused = bool(host_features() & {"fma", "avx512f", "neon"})
    name = f"llvm.{'fma' if fused else 'fmuladd'}.{_mangled(vector)}"
    return cgutils.get_or_insert_function(module, ir.FunctionType(vector, [vector] * 3), name)


def kernel_block(
    taps: int, chans: int, a: int, a_taps: int, a_chan: int, a_row: int,
    b: int, b_taps: int, b_chan: int, c: int, c_row: int, add: int, item: int, mr: int, nv: int, vl: int,
) -> None:  # fmt: skip
    """Multiply ``mr`` rows of weights by ``nv`` vectors of ``vl`` pixels; compiled per shape by Numba.

    ``c[i*c_row + j] (+)= sum over tap < taps, k < chans of
    a[a_taps[tap] + k*a_chan + i*a_row] * b[b_taps[tap] + k*b_chan + j]``  for i < mr, j < nv*vl,
    added where ``add`` is not 0, else stored. The sum starts from zero and runs in that order, fused, whatever
    the shape: every shape gives the same bits.

    a, b, c, a_taps, b_taps are addresses (elements aligned, vectors need not be); strides and the int64 tables count
    elements. taps, chans >= 1. ``c`` overlaps neither ``a`` nor ``b``. Reads ``nv*vl`` pixels of every run of
    ``b`` and no element of ``a`` but the named.
    """
    accumulate_block(taps, chans, a, a_taps, a_chan, a_row, b, b_taps, b_chan, c, c_row, add, item, mr, nv, vl)
