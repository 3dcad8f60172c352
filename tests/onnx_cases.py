"""ONNX's node cases by the operator that they hold. onnx itself is imported when a case is asked for."""

import warnings
from functools import cache

import numpy as np

AUTO_PAD = {"NOTSET": None, "VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}


@cache
def every():
    """All node cases. A second call of collect_testcases in one process returns the list of the first."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own cases divide by zero
        return tuple(collect_testcases(None))


def cases(op_type):
    """Name -> case of those whose graph has a node of that operator."""
    return {c.name: c for c in every() if any(node.op_type == op_type for node in c.model.graph.node)}


def attributes(case):
    """The attributes of the only node of a case, texts as str."""
    from onnx.helper import get_attribute_value

    (node,) = case.model.graph.node
    found = {a.name: get_attribute_value(a) for a in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def padding(ndim, auto_pad="NOTSET", pads=None):
    """ONNX's attributes as the argument ``padding``."""
    named = AUTO_PAD[auto_pad or "NOTSET"]
    pads = pads or [0] * (2 * ndim)
    return named or list(zip(pads[:ndim], pads[ndim:], strict=True))


def same(result, right, rtol=1e-3):
    """Shape and dtype alike, numbers within ``rtol`` of each other or of the largest; as ONNX's own runner has it."""
    assert result.shape == right.shape and result.dtype == right.dtype
    np.testing.assert_allclose(result, right, rtol=rtol, atol=1e-2 * rtol * np.abs(right).max(initial=0))
