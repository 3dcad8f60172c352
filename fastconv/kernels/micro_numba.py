"""The register-blocked micro-kernel of the shifted product, written as LLVM vector IR.

LLVM's own vectoriser stops at 256 bits and leaves the accumulators of a blocked product in memory. With vector types
written out and accumulators that are phi nodes of both loops, 8x3 compiles to 24 fused multiply-adds on zmm registers
and no spill (``tests/test_numba_backend.py`` reads the machine code).
"""

# mypy: disable-error-code="call-arg, no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.kernels.vector_ir import (
    INT,
    element_at,
    element_bytes,
    element_of,
    host_features,
    load_vector,
    mangled,
    splat,
)


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


@intrinsic(prefer_literal=True)
def accumulate_block(
    typingctx: Any, taps: Any, chans: Any, a: Any, a_taps: Any, a_chan: Any, a_row: Any,
    b: Any, b_taps: Any, b_chan: Any, c: Any, c_row: Any, add: Any, item: Any, mr: Any, nv: Any, vl: Any,
) -> Any:  # fmt: skip
    """The body of the micro-kernel; its contract stands at `kernel_block`."""
    number, element = element_of(item)
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
    a_start = builder.load(element_at(builder, a_taps, tap, INT))
    b_start = builder.load(element_at(builder, b_taps, tap, INT))
    builder.branch(chan_loop)

    builder.position_at_end(chan_loop)
    chan = _phi(builder, INT, tap_loop, INT(0))
    a_at, b_at = _phi(builder, INT, tap_loop, a_start), _phi(builder, INT, tap_loop, b_start)
    inner = [_phi(builder, vector, tap_loop, total) for total in outer]
    pixels = [load_vector(builder, b, builder.add(b_at, INT(j * vl)), element, vector) for j in range(nv)]
    totals = []
    for i in range(mr):
        weight = builder.load(element_at(builder, a, builder.add(a_at, a_rows[i]), element))
        row = splat(builder, weight, vector)
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
        element_at(builder, c, builder.add(builder.mul(c_row, INT(i)), INT(j * vl)), element)
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


def _phi(builder: Any, kind: ir.Type, block: Any, value: Any) -> Any:
    """A phi node with its first incoming edge."""
    phi = builder.phi(kind)
    phi.add_incoming(value, block)
    return phi


def _fused(module: Any, vector: ir.VectorType) -> Any:
    """Multiply-add of vectors: fused where the machine has it (a call into libm per lane where it has not)."""
    fused = bool(host_features() & {"fma", "avx512f", "neon"})
    name = f"llvm.{'fma' if fused else 'fmuladd'}.{mangled(vector)}"
    return cgutils.get_or_insert_function(module, ir.FunctionType(vector, [vector] * 3), name)
