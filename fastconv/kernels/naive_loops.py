"""The definition of a convolution as loops. Runs as plain Python; Numba compiles it where it is installed."""

from __future__ import annotations

from typing import Any


def naive_any_loops(x: Any, w: Any, out: Any, d_src: Any, h_src: Any, w_src: Any, zero: Any) -> None:
    """Write the sums of products to ``out``; no bias, no activation.

    x (n, ic, d, h, w), w (oc, icg, kd, kh, kw), out (n, oc, D, H, W), any strides, out apart from both.
    ``*_src[tap, o]`` is the input position that a tap reads for output ``o``, -1 for a zero of the padding.
    ``zero`` has the type of the sums.
    """
    icg = w.shape[1]
    ocg = w.shape[0] * icg // x.shape[1]
    for n in range(out.shape[0]):
        for o in range(out.shape[1]):
            first = o // ocg * icg
            for z in range(out.shape[2]):
                for y in range(out.shape[3]):
                    for p in range(out.shape[4]):
                        total = zero
                        for c in range(icg):
                            for r in range(w.shape[2]):
                                for s in range(w.shape[3]):
                                    for t in range(w.shape[4]):
                                        a, b, e = d_src[r, z], h_src[s, y], w_src[t, p]
                                        value = zero
                                        if a >= 0 and b >= 0 and e >= 0:
                                            value = value + x[n, first + c, a, b, e]
                                        total = total + value * w[o, c, r, s, t]
                        out[n, o, z, y, p] = total
