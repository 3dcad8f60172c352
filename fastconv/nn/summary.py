"""A network as a table: output shape, parameters, operations and receptive field of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastconv import receptive
from fastconv.receptive import State
from fastconv.windows import Number, times

if TYPE_CHECKING:
    from fastconv.nn.module import Module

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer of a summary. ``size`` and ``stride`` of the receptive field are None where there is none."""

    name: str
    layer: str
    output_shape: Shape
    parameters: int
    flops: int
    size: tuple[Number, ...] | None
    stride: tuple[Number, ...] | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What each layer makes of an input; prints as a table.

    ``flops`` are operations of the direct algorithm: two for each product. ``size`` and ``stride`` are the
    receptive field, as in `fastconv.receptive_field`.
    """

    input_shape: Shape
    rows: tuple[Row, ...]
    output_shape: Shape

    @property
    def parameters(self) -> int:
        """Numbers in all parameters; buffers not counted."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Operations of all layers."""
        return sum(row.flops for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, for JSON; fractions are text."""
        return {
            "input_shape": list(self.input_shape),
            "output_shape": list(self.output_shape),
            "parameters": self.parameters,
            "flops": self.flops,
            "layers": [
                {
                    "name": row.name,
                    "layer": row.layer,
                    "output_shape": list(row.output_shape),
                    "parameters": row.parameters,
                    "flops": row.flops,
                    "receptive_field": _json(row.size),
                    "stride": _json(row.stride),
                }
                for row in self.rows
            ],
        }

    def __str__(self) -> str:
        head = ("name", "layer", "output shape", "parameters", "FLOPs", "sees", "stride")
        body = [
            (r.name, r.layer, _shape(r.output_shape), f"{r.parameters:,}", f"{r.flops:,}", times(r.size or ()),
             times(r.stride or ()))
            for r in self.rows
        ]  # fmt: skip
        last = ("total", "", _shape(self.output_shape), f"{self.parameters:,}", f"{self.flops:,}", "", "")
        widths = [max(map(len, column)) for column in zip(head, *body, last, strict=True)]
        rule = "  ".join("-" * width for width in widths)
        lines = [_line(head, widths), rule, *(_line(row, widths) for row in body), rule, _line(last, widths)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a summary has come: the shape of the array there, and what its elements see."""

    shape: Shape
    field: State | None  # None from where paths of different strides meet

    def through(self, module: Module) -> Reached:
        """The same after one more layer without layers within."""
        field = None if self.field is None else receptive.advance(self.field, module)
        return Reached(module.output_shape(self.shape), field)

    def row(self, name: str, layer: str, parameters: int = 0, flops: int = 0) -> Row:
        seen = (None, None) if self.field is None else (self.field.size, self.field.stride)
        return Row(name, layer, self.shape, parameters, flops, *seen)


def meet(ends: list[Reached]) -> Reached:
    """Where paths to arrays of one shape meet."""
    fields = [end.field for end in ends if end.field is not None]
    alike = len(fields) == len(ends) and len({field.stride for field in fields}) == 1
    return Reached(ends[0].shape, receptive.join(fields, "the block") if alike else None)


def summarize(module: Module, input_shape: Shape) -> Summary:
    """Follow a shape and a receptive field through a layer and all layers within."""
    output_shape = module.output_shape(input_shape)
    ndim = max(len(input_shape) - 2, 0) if module.ndim is None else module.ndim
    last = len(input_shape) - (1 if (module.layout or "").endswith("C") else 0)
    rows: list[Row] = []
    module._follow("", Reached(input_shape, receptive.start(input_shape[last - ndim : last])), rows)
    return Summary(input_shape, tuple(rows), output_shape)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Text to the left, numbers to the right."""
    padded = [cell.rjust(w) if i > 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(padded).rstrip()


def _shape(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"


def _json(values: tuple[Number, ...] | None) -> list[int | str] | None:
    return None if values is None else [v if isinstance(v, int) else str(v) for v in values]
