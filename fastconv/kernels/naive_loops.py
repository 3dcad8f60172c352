"""A convolution and its two gradients as loops: the definitions. Plain Python; Numba compiles them where it is.

x (n, ic, d, h, w), w (oc, icg, kd, kh, kw), y (n, oc, D, H, W), any strides, the result apart from both others.
``*_src[tap, o]`` is the input position that a tap reads for output ``o``, -1 for a zero of the padding. ``zero`` has
the type of the sums; ``x_zero`` stands for 0 in ``x``.
"""

from __future__ import annotations

from typing import Any


def naive_any_loops(x: Any, w: Any, out: Any, d_src: Any, h_src: Any, w_src: Any, zero: Any, x_zero: Any) -> None:
    """Write the sums of products to ``out``, the y of the contract; no bias, no activation."""
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
                                            value = value + x[n, first + c, a, b, e] - x_zero
                                        total = total + value * w[o, c, r, s, t]
                        out[n, o, z, y, p] = total


def naive_grad_input_loops(gy: Any, w: Any, gx: Any, d_src: Any, h_src: Any, w_src: Any, zero: Any) -> None:
    """Write to ``gx`` what each output's gradient ``gy`` sends back along its products to the input."""
    icg = w.shape[1]
    ocg = w.shape[0] * icg // gx.shape[1]
    gx[...] = zero
    for n in range(gy.shape[0]):
        for o in range(gy.shape[1]):
            first = o // ocg * icg
            for z in range(gy.shape[2]):
                for y in range(gy.shape[3]):
                    for p in range(gy.shape[4]):
                        value = zero + gy[n, o, z, y, p]
                        for c in range(icg):
                            for r in range(w.shape[2]):
                                for s in range(w.shape[3]):
                                    for t in range(w.shape[4]):
                                        a, b, e = d_src[r, z], h_src[s, y], w_src[t, p]
                                        if a >= 0 and b >= 0 and e >= 0:
                                            gx[n, first + c, a, b, e] += value * w[o, c, r, s, t]


def naive_grad_weight_loops(x: Any, gy: Any, gw: Any, d_src: Any, h_src: Any, w_src: Any, zero: Any) -> None:
    """Write to ``gw`` what each output's gradient ``gy`` sends back along its products to the weights."""
    icg = gw.shape[1]
    ocg = gw.shape[0] * icg // x.shape[1]
    for o in range(gw.shape[0]):
        first = o // ocg * icg
        for c in range(icg):
            for r in range(gw.shape[2]):
                for s in range(gw.shape[3]):
                    for t in range(gw.shape[4]):
                        total = zero
                        for n in range(gy.shape[0]):
                            for z in range(gy.shape[2]):
                                for y in range(gy.shape[3]):
                                    for p in range(gy.shape[4]):
                                        a, b, e = d_src[r, z], h_src[s, y], w_src[t, p]
                                        value = zero
                                        if a >= 0 and b >= 0 and e >= 0:
                                            value = value + x[n, first + c, a, b, e]
                                        total = total + value * gy[n, o, z, y, p]
                        gw[o, c, r, s, t] = total
