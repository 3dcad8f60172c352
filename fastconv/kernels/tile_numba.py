"""The micro-kernel with output channels in the lanes, written as LLVM vector IR.

A register tile is ``high`` rows of ``wide`` pixels by one or two vectors of output channels: a step multiplies the
vectors of weights by each pixel, broadcast. A tap may be for a part of the tile only, so that products with a padding
of zeros are left out; each part has a loop of its own over the same accumulators.
"""

# mypy: disable-error-code="call-arg, no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastconv.kernels.micro_numba import added, fused, keep_rolled, phi_from
from fastconv.kernels.vector_ir import BYTES, INT, element_at, element_bytes, element_of, splat, touch

LEAVES = 3
"""Most columns that a part leaves out at one end of a tile."""

STEP_BYTES = 24
"""Bytes of an entry (tap, start, part) in a table of steps."""

ALL_ROWS, UPPER, LOWER = 0, 1, 2
PARTS_OF_ROWS = 1 + 2 * LEAVES
"""Part ``rows * PARTS_OF_ROWS + columns``: rows are one of the three above; of the columns all (0), all but the first
1 to LEAVES, or all but the last 1 to LEAVES (``LEAVES`` more)."""


def part_of(rows: int, left: int, right: int) -> int:
    """The part of these rows that leaves out so many columns at the left, or else at the right end."""
    return rows * PARTS_OF_ROWS + (left or (LEAVES + right if right else 0))


def tile_block(
    a: int, a_tap: int, b: int, b_row: int, b_chan: int, steps: int, count: int, chans: int, c: int, add: int,
    ahead: int, ahead_step: int, item: int, high: int, wide: int, nv: int, vl: int, col: int, leave: int,
) -> None:  # fmt: skip
    """Multiply ``high*wide`` pixels by ``nv`` vectors of ``vl`` output channels; compiled per shape by Numba.

    ``c[i*nv*vl + j] (+)= sum over step < count, k < chans of
    a[tap*a_tap + k*nv*vl + j] * b[start + k*b_chan + i//wide*b_row + i%wide*col]``  for j < nv*vl and those
    i < high*wide that are in the step's part; added where ``add`` is not 0, else stored. The sum starts from zero and
    runs in that order, fused, as in `fastconv.kernels.micro_numba`: both give the same bits.

    a, b, c, steps are addresses; strides count elements. ``steps`` is a table of (tap, start, part) in int64, parts up
    to what ``leave`` says: up to so many columns left out at an end, or a row. chans >= 1, count >= 0. Reads exactly
    the named elements. Prefetches ``ahead``, and ``ahead_step`` bytes further for each step of the sum.
    """
    accumulate_tile(
        a, a_tap, b, b_row, b_chan, steps, count, chans, c, add, ahead, ahead_step, item, high, wide, nv, vl, col, leave
    )


@intrinsic(prefer_literal=True)
def accumulate_tile(
    typingctx: Any, a: Any, a_tap: Any, b: Any, b_row: Any, b_chan: Any, steps: Any, count: Any, chans: Any, c: Any,
    add: Any, ahead: Any, ahead_step: Any, item: Any, high: Any, wide: Any, nv: Any, vl: Any, col: Any, leave: Any,
) -> Any:  # fmt: skip
    """The body of the micro-kernel; its contract stands at `tile_block`."""
    literals = (item, high, wide, nv, vl, col, leave)
    shape = tuple(literal.literal_value for literal in literals[1:])
    _, element = element_of(item)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _emit_tile(builder, element, shape, args[:12])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 12, *literals), generate


def _emit_tile(builder: Any, element: ir.Type, shape: tuple[int, ...], args: Any) -> None:
    """A loop over steps that branches into one of the parts' loops over channels; all accumulators are phi nodes."""
    a, a_tap, b, b_row, b_chan, steps, count, chans, c, add, ahead, ahead_step = args
    high, wide, nv, vl, col, leave = shape
    vector = ir.VectorType(element, vl)
    entry, first = builder.block, builder.inttoptr(ahead, BYTES)
    step_loop, step_body, step_end, done = (
        builder.append_basic_block(name) for name in ("steps", "step", "step_end", "done")
    )
    builder.branch(step_loop)

    builder.position_at_end(step_loop)
    step, touched = phi_from(builder, INT, entry, INT(0)), phi_from(builder, BYTES, entry, first)
    sums = [phi_from(builder, vector, entry, ir.Constant(vector, None)) for _ in range(high * wide * nv)]
    builder.cbranch(builder.icmp_signed("<", step, count), step_body, done)

    builder.position_at_end(step_body)
    row = builder.mul(step, INT(3))
    tap, start, part = (builder.load(element_at(builder, steps, builder.add(row, INT(i)), INT)) for i in range(3))
    weights = element_at(builder, a, builder.mul(tap, a_tap), element)
    pixels = element_at(builder, b, start, element)
    after = [builder.append_basic_block("whole")]
    choice = builder.switch(part, after[0])

    builder.position_at_end(step_end)
    next_touched = builder.phi(BYTES)
    totals = [builder.phi(vector) for _ in sums]
    for phi, value in zip([step, touched, *sums], [builder.add(step, INT(1)), next_touched, *totals], strict=True):
        phi.add_incoming(value, step_end)
    keep_rolled(builder.module, builder.branch(step_loop), "steps")

    for number, inside in _parts(high, wide, leave).items():
        if number:
            after.append(builder.append_basic_block(f"part{number}"))
            choice.add_case(INT(number), after[-1])
        builder.position_at_end(after[-1])
        starts, sizes = (weights, pixels, touched), (b_row, b_chan, chans, ahead_step)
        end, values = _emit_part(builder, vector, inside, (wide, nv, col), sums, starts, sizes)
        builder.branch(step_end)
        for phi, value in zip([next_touched, *totals], values, strict=True):
            phi.add_incoming(value, end)

    builder.position_at_end(done)
    places = [element_at(builder, c, INT(i * vl), element) for i in range(len(sums))]
    places = [builder.bitcast(place, vector.as_pointer()) for place in places]
    for place, total in zip(places, added(builder, places, sums, add), strict=True):
        builder.store(total, place, align=element_bytes(element))


def _parts(high: int, wide: int, leave: int) -> dict[int, list[int]]:
    """Pixels of each part of a tile, by its number."""
    rows = {ALL_ROWS: range(high)}
    if leave and high == 2:
        rows |= {UPPER: range(1), LOWER: range(1, 2)}
    most = min(leave, wide - 1)
    columns = {(0, 0): range(wide)}
    columns |= {(n, 0): range(n, wide) for n in range(1, most + 1)}
    columns |= {(0, n): range(wide - n) for n in range(1, most + 1)}
    return {part_of(r, *left): [y * wide + x for y in ys for x in xs]
            for r, ys in rows.items() for left, xs in columns.items()}  # fmt: skip


def _emit_part(
    builder: Any, vector: ir.VectorType, inside: list[int], shape: tuple[int, int, int], sums: Any, starts: Any,
    sizes: Any,
) -> tuple[Any, list[Any]]:  # fmt: skip
    """The loop over channels for some pixels of the tile; returns its last block, the line to touch, the sums."""
    wide, nv, col = shape
    b_row, b_chan, chans, ahead_step = sizes
    element, vl = vector.element, vector.count
    before = builder.block
    loop, end = builder.append_basic_block("chans"), builder.append_basic_block("chans_end")
    builder.branch(loop)
    builder.position_at_end(loop)
    chan = phi_from(builder, INT, before, INT(0))
    a_at, b_at, ahead = (phi_from(builder, start.type, before, start) for start in starts)
    own = [pixel * nv + j for pixel in inside for j in range(nv)]
    acc = {i: phi_from(builder, vector, before, sums[i]) for i in own}
    multiply_add = fused(builder.module, vector)
    loaded = [builder.load(builder.bitcast(builder.gep(a_at, [INT(j * vl)]), vector.as_pointer()),
                           align=element_bytes(element)) for j in range(nv)]  # fmt: skip
    touch(builder, ahead)
    rows = [b_at, builder.gep(b_at, [b_row])]
    totals = dict(enumerate(sums))
    for pixel in inside:
        place = builder.gep(rows[pixel // wide], [INT(pixel % wide * col)])
        value = splat(builder, builder.load(place), vector)
        for j, weight in enumerate(loaded):
            i = pixel * nv + j
            totals[i] = builder.call(multiply_add, [weight, value, acc[i]])
    steps = [builder.add(chan, INT(1)), builder.gep(a_at, [INT(nv * vl)]), builder.gep(b_at, [b_chan]),
             builder.gep(ahead, [ahead_step])]  # fmt: skip
    for phi, value in zip([chan, a_at, b_at, ahead, *acc.values()], [*steps, *(totals[i] for i in acc)], strict=True):
        phi.add_incoming(value, loop)
    keep_rolled(builder.module, builder.cbranch(builder.icmp_signed("<", steps[0], chans), loop, end), "chans")
    builder.position_at_end(end)
    return end, [steps[3], *totals.values()]
