"""The transforms of Winograd's F(m, r) from their interpolation points, by exact rational arithmetic.

Toom-Cook: a product of polynomials is known from its values at m + r - 2 points and infinity; transposed, it
computes m outputs of a filter of r taps from m + r - 1 inputs with as many products:

    y = A^T [(G w) * (B^T d)]

Source: Blahut, Fast Algorithms for Signal Processing, ch. 5; Lavin, Gray, arXiv:1509.09308.
"""

from __future__ import annotations

from fractions import Fraction as F
from functools import cache

Matrix = tuple[tuple[F, ...], ...]

POINTS: dict[tuple[int, int], tuple[F, ...]] = {
    (2, 3): (F(1),),
    (4, 3): (F(2, 3), F(3, 2)),
    (6, 3): (F(1, 2), F(1), F(2)),
    (2, 5): (F(2, 3), F(3, 2)),
    (4, 5): (F(1, 2), F(1), F(2)),
}
"""(m, r) -> the positive ones among the points 0, +-p, +-q.. of F(m, r); docs/numerics.md has what they lose."""


@cache
def matrices(m: int, r: int) -> tuple[Matrix, Matrix, Matrix]:
    """A^T (m x alpha), G (alpha x r) and B^T (alpha x alpha) of F(m, r), alpha = m + r - 1; of F(1, 1) three ones.

    >>> at, g, bt = matrices(2, 3)
    >>> [[str(v) for v in row] for row in bt]
    [['-1', '0', '1', '0'], ['0', '1', '1', '0'], ['0', '-1', '1', '0'], ['0', '-1', '0', '1']]
    """
    if m == r == 1:
        return ((F(1),),), ((F(1),),), ((F(1),),)
    points, alpha = (F(0), *(sign * p for p in POINTS[m, r] for sign in (1, -1))), m + r - 1
    at = tuple(tuple(p**i for p in points) + (F(i == m - 1),) for i in range(m))
    # Row j of B^T holds the coefficients of the product of (x - p) over the other points; G divides by its value
    # at point j. The last row, at infinity, is the product over all points.
    bt, g = [], []
    for j, point in enumerate(points):
        others = [p for i, p in enumerate(points) if i != j]
        scale = F(1)
        for p in others:
            scale *= point - p
        bt.append((*_product(others), *[F(0)] * (alpha - len(others) - 1)))
        g.append(tuple(point**k / scale for k in range(r)))
    bt.append(tuple(_product(list(points))))
    g.append(tuple(F(k == r - 1) for k in range(r)))
    return at, tuple(g), tuple(bt)


def _product(roots: list[F]) -> list[F]:
    """Coefficients, lowest first, of the product of (x - root)."""
    result = [F(1)]
    for root in roots:
        shifted = [F(0), *result]
        for i, c in enumerate(result):
            shifted[i] -= root * c
        result = shifted
    return result
