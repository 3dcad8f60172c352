"""What the backends on sums of products share: error bound, and how many threads are worth it."""

from __future__ import annotations

import math

import numpy as np

from fastconv import tuning
from fastconv.spec import ConvSpec
from fastconv.threads import worth_sharing


def roundoff(dtype: str) -> float:
    """Largest relative error of one rounding."""
    return float(np.finfo(dtype).eps) / 2


def sequential_bound(spec: ConvSpec, roundings: int | None = None) -> float:
    """Largest error of a sum of products in any order, as a multiple of ``max|x| * max_oc sum|w|``.

    ``roundings`` is the number of roundings on the longest path of one product to the result (default:
    one for the product and one per addition). Source: Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., section 3.1.
    """
    if not spec.acc_dtype.startswith("float"):
        return 0.0
    nu = (spec.terms + 1 if roundings is None else roundings) * roundoff(spec.acc_dtype)
    return nu / (1 - nu)


def walk(terms: int, block: int) -> float:
    """How far the rounding errors of a sum of random terms wander, in u times a term, over the number of terms.

    Partial sums grow like a random walk, first over the terms of a block, then over blocks; so do their errors.
    """
    if not terms:
        return 0.0
    blocks, block = -(-terms // block), min(terms, block)
    return math.sqrt(blocks * block**2 / 2 + block * blocks**2 / 2) / terms


def typical_error(spec: ConvSpec, block: int) -> float:
    """What normal x and w lose with sums in blocks of so many terms, in the unit of `sequential_bound`."""
    if not spec.acc_dtype.startswith("float"):
        return 0.0
    return tuning.LOSS_DIRECT * walk(spec.terms, block) * roundoff(spec.acc_dtype)


def workers(spec: ConvSpec, threads: int) -> int:
    """Threads worth starting for a layer."""
    return threads if worth_sharing(spec) else 1
