"""The register-blocked micro-kernel of the shifted product, written as LLVM vector IR.

LLVM's own vectoriser stops at 256 bits and leaves the accumulators of a blocked product in memory. With vector types
written out and accumulators that are phi nodes of both loops, 8x3 compiles to 24 fused multiply-adds on zmm registers
and no spill (``tests/test_numba_backend.py`` reads the machine code).
"""

# mypy: disable-error-code="call-arg, no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.kernels.vector_ir import (
    BYTES,
    INT,
    element_at,
    element_bytes,
    element_of,
    host_features,
    load_vector,
    mangled,
    splat,
    touch,
)


def kernel_block(
    taps: int, chans: int, a: int, a_taps: int, a_tap: int, a_chan: int, a_row: int, b: int, b_taps: int, b_chan: int,
    c: int, c_row: int, add: int, bias: int, relu: int, ahead: int, item: int, mr: int, nv: int, vl: int, packed: int,
) -> None:  # fmt: skip
    """Multiply ``mr`` rows of weights by ``nv`` vectors of ``vl`` pixels; compiled per shape by Numba.

    ``c[i*c_row + j] (+)= sum over tap < taps, k < chans of
    a[a_taps[tap]*a_tap + k*a_chan + i*a_row] * b[b_taps[tap] + k*b_chan + j]``  for i < mr, j < nv*vl,
    added where ``add`` is not 0, else stored. Where the address ``bias`` is not 0, ``bias[i]`` is added last, and then,
    where ``relu`` is not 0, what is below 0 becomes 0. The sum starts from zero and runs in that order, fused, whatever
    the shape: every shape gives the same bits.

    With the literal ``packed`` a_row is 1. a, b, c, a_taps, b_taps are addresses (elements aligned, vectors need not
    be); strides and the int64 tables count elements. taps, chans >= 1. ``c`` overlaps neither ``a`` nor ``b``. Reads
    ``nv*vl`` pixels of every run of ``b`` and no element of ``a`` but the named. With ``packed`` prefetches what lies
    ``ahead`` bytes behind them. Touches where the sums of the next ``nv*vl`` pixels will be written.
    """
    accumulate_block(
        taps,
        chans,
        a,
        a_taps,
        a_tap,
        a_chan,
        a_row,
        b,
        b_taps,
        b_chan,
        c,
        c_row,
        add,
        bias,
        relu,
        ahead,
        item,
        mr,
        nv,
        vl,
        packed,
    )


@intrinsic(prefer_literal=True)
def accumulate_block(
    typingctx: Any, taps: Any, chans: Any, a: Any, a_taps: Any, a_tap: Any, a_chan: Any, a_row: Any, b: Any,
    b_taps: Any, b_chan: Any, c: Any, c_row: Any, add: Any, bias: Any, relu: Any, ahead: Any, item: Any,
    mr: Any, nv: Any, vl: Any, packed: Any,
) -> Any:  # fmt: skip
    """The body of the micro-kernel; its contract stands at `kernel_block`."""
    number, element = element_of(item)
    literals = (item, mr, nv, vl, packed)
    shape = tuple(literal.literal_value for literal in literals[1:])

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_block(builder, element, shape, args[:16])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 16, *literals), generate


def emit_block(builder: Any, element: ir.Type, shape: tuple[int, ...], args: Any) -> None:
    """Two nested loops whose accumulators are phi nodes, so that no memory is between two additions.

    Both loops run at least once and test at their end.
    """
    taps, chans, a, a_taps, a_tap, a_chan, a_row, b, b_taps, b_chan, c, c_row, add, bias, relu, ahead = args
    mr, nv, vl, packed = shape
    vector = ir.VectorType(element, vl)
    multiply_add = fused(builder.module, vector)
    a_rows = [INT(i) if packed else builder.mul(a_row, INT(i)) for i in range(mr)]

    def places(first: int) -> list[Any]:
        """Of the sums in ``c``, from so many vectors on."""
        return [
            element_at(builder, c, builder.add(builder.mul(c_row, INT(i)), INT((first + j) * vl)), element)
            for i in range(mr) for j in range(nv)
        ]  # fmt: skip

    for place in places(nv):  # where the next panel of the same channels is written
        touch(builder, place, near=3, write=1)
    entry = builder.block
    tap_loop, chan_loop, tap_end, done = (
        builder.append_basic_block(name) for name in ("taps", "chans", "tap_end", "done")
    )
    builder.branch(tap_loop)

    builder.position_at_end(tap_loop)
    tap = phi_from(builder, INT, entry, INT(0))
    outer = [phi_from(builder, vector, entry, ir.Constant(vector, None)) for _ in range(mr * nv)]
    a_start = builder.mul(builder.load(element_at(builder, a_taps, tap, INT)), a_tap)
    b_start = builder.load(element_at(builder, b_taps, tap, INT))
    builder.branch(chan_loop)

    builder.position_at_end(chan_loop)
    chan = phi_from(builder, INT, tap_loop, INT(0))
    a_at, b_at = phi_from(builder, INT, tap_loop, a_start), phi_from(builder, INT, tap_loop, b_start)
    inner = [phi_from(builder, vector, tap_loop, total) for total in outer]
    pixels = [load_vector(builder, b, builder.add(b_at, INT(j * vl)), element, vector) for j in range(nv)]
    if packed:
        touch(builder, builder.gep(builder.bitcast(element_at(builder, b, b_at, element), BYTES), [ahead]))
    totals = []
    for i in range(mr):
        weight = builder.load(element_at(builder, a, builder.add(a_at, a_rows[i]), element))
        row = splat(builder, weight, vector)
        totals += [builder.call(multiply_add, [row, pixels[j], inner[i * nv + j]]) for j in range(nv)]
    next_chan = builder.add(chan, INT(1))
    for phi, value in zip([chan, a_at, b_at, *inner],
                          [next_chan, builder.add(a_at, a_chan), builder.add(b_at, b_chan), *totals],
                          strict=True):  # fmt: skip
        phi.add_incoming(value, chan_loop)
    again = builder.cbranch(builder.icmp_signed("<", next_chan, chans), chan_loop, tap_end)
    keep_rolled(builder.module, again, "chans")

    builder.position_at_end(tap_end)
    next_tap = builder.add(tap, INT(1))
    for phi, value in zip([tap, *outer], [next_tap, *totals], strict=True):
        phi.add_incoming(value, tap_end)
    again = builder.cbranch(builder.icmp_signed("<", next_tap, taps), tap_loop, done)
    keep_rolled(builder.module, again, "taps")

    builder.position_at_end(done)
    own = [builder.bitcast(place, vector.as_pointer()) for place in places(0)]
    totals = added(builder, own, totals, add)
    for place, total in zip(own, _closed(builder, element, totals, bias, relu, nv), strict=True):
        builder.store(total, place, align=element_bytes(element))


def added(builder: Any, places: list[Any], totals: list[Any], add: Any) -> list[Any]:
    """Vectors, with those at their places added to them where ``add`` is not 0."""
    align = element_bytes(totals[0].type.element)
    return _either(builder, builder.icmp_signed("!=", add, INT(0)), totals, lambda: [
        builder.fadd(builder.load(place, align=align), total) for place, total in zip(places, totals, strict=True)
    ])  # fmt: skip


def _closed(builder: Any, element: ir.Type, totals: list[Any], bias: Any, relu: Any, nv: int) -> list[Any]:
    """Rows of ``nv`` vectors after bias and ReLU, where the address of the bias is not 0."""
    vector = totals[0].type

    def close() -> list[Any]:
        positive = builder.icmp_signed("!=", relu, INT(0))
        floor = builder.select(positive, ir.Constant(element, 0.0), ir.Constant(element, float("-inf")))
        least, result = splat(builder, floor, vector), []
        for i, total in enumerate(totals):
            shift = splat(builder, builder.load(element_at(builder, bias, INT(i // nv), element)), vector)
            value = builder.fadd(total, shift)
            below = builder.fcmp_ordered("<", value, least)
            result.append(builder.select(below, ir.Constant(vector, None), value))
        return result

    return _either(builder, builder.icmp_signed("!=", bias, INT(0)), totals, close)


def _either(builder: Any, condition: Any, values: list[Any], change: Callable[[], list[Any]]) -> list[Any]:
    """What ``change`` makes of the values where the condition holds, else the values."""
    before = builder.block
    with builder.if_then(condition):
        changed, inside = change(), builder.block
    phis = [phi_from(builder, value.type, before, value) for value in values]
    for phi, value in zip(phis, changed, strict=True):
        phi.add_incoming(value, inside)
    return phis


def keep_rolled(module: Any, branch: Any, name: str) -> None:
    """Forbid unrolling: unrolled twice, the 8x3 kernel keeps nine of its accumulators on the stack (LLVM 22)."""
    loop = module.add_metadata([f"fastconv.{name}"])
    loop.operands = (loop, module.add_metadata(["llvm.loop.unroll.disable"]))  # LLVM wants a node naming itself
    branch.set_metadata("llvm.loop", loop)


def phi_from(builder: Any, kind: ir.Type, block: Any, value: Any) -> Any:
    """A phi node with its first incoming edge."""
    phi = builder.phi(kind)
    phi.add_incoming(value, block)
    return phi


def fused(module: Any, vector: ir.VectorType) -> Any:
    """Multiply-add of vectors: fused where the machine has it (a call into libm per lane where it has not)."""
    present = bool(host_features() & {"fma", "avx512f", "neon"})
    name = f"llvm.{'fma' if present else 'fmuladd'}.{mangled(vector)}"
    return cgutils.get_or_insert_function(module, ir.FunctionType(vector, [vector] * 3), name)
