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
        return INT(host_vector(args[0].type).count)

    return types.int64(zero), generate


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
    """Call the compiled function at ``address`` with a tuple of int64; it returns nothing and raises nothing.

    By address and not by name: Numba compiles a named callee again into every caller. The address is that of the
    function itself, which Numba gives two places first, for a result and for an exception. Literal arguments at the
    end of the callee's list are left out: they are part of its type, and it never reads them.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[1])
        places = [cgutils.alloca_once(builder, BYTES) for _ in range(2)]
        function = ir.FunctionType(ir.IntType(32), [BYTES.as_pointer()] * 2 + [INT] * len(values)).as_pointer()
        builder.call(builder.inttoptr(args[0], function), [*places, *values])
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, len(arguments))), generate


def element_bytes(element: ir.Type) -> int:
    return 4 if isinstance(element, ir.FloatType) else 8


def host_vector(element: ir.Type) -> ir.VectorType:
    return ir.VectorType(element, host_vector_bytes() // element_bytes(element))


def mangled(vector: ir.VectorType) -> str:
    return f"v{vector.count}f{8 * element_bytes(vector.element)}"


def load_vector(builder: Any, base: Any, index: Any, element: ir.Type, vector: ir.VectorType) -> Any:
    """Unaligned load of ``base[index : index + lanes]``."""
    place = builder.bitcast(element_at(builder, base, index, element), vector.as_pointer())
    return builder.load(place, align=element_bytes(element))


def touch(builder: Any, place: Any, near: int = 2, write: int = 0) -> None:
    """Prefetch a line into L1 (``near`` 3) or L2 (2), to ``write`` to it or to read."""
    kind = ir.FunctionType(ir.VoidType(), [BYTES, *[ir.IntType(32)] * 3])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(place, BYTES), *map(ir.IntType(32), (write, near, 1))])


def splat(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    """The number in every lane: the form that instruction selection folds into a broadcasting load."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.IntType(32)(0))
    first_lane = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(first, undefined, first_lane)
