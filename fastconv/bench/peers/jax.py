"""JAX: one compiled function with the weights as constants."""

from __future__ import annotations

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case
from fastconv.bench.peers.peer import Call, Peer, aligned, common, plain


def _prepare(case: AnyCase, data: Arrays, threads: int) -> Call:
    if isinstance(case, Case):
        plain(case)
    common(case)
    import jax
    from jax import lax

    if isinstance(case, Case):
        layer = case.spec
        w = jax.numpy.asarray(data.w)
        bias = None if data.bias is None else jax.numpy.asarray(data.bias).reshape(-1, *[1] * layer.ndim)

        def function(x: jax.Array) -> jax.Array:
            y = lax.conv_general_dilated(
                x, w, layer.stride, layer.padding, rhs_dilation=layer.dilation, feature_group_count=layer.g,
                precision=lax.Precision.HIGHEST,
            )  # fmt: skip
            return y if bias is None else jax.numpy.add(y, bias)
    else:
        spec, mean = case.spec, case.op == "avg_pool"
        window, stride, pads = (1, 1, *spec.kernel_size), (1, 1, *spec.stride), ((0, 0), (0, 0), *spec.pads)
        start, combine = (0.0, lax.add) if mean else (-np.inf, lax.max)
        share = np.float32(1 / np.prod(spec.kernel_size)) if mean else np.float32(1)

        def function(x: jax.Array) -> jax.Array:
            y = lax.reduce_window(x, start, combine, window, stride, pads)
            return y * share if mean else y

    compiled = jax.jit(function)
    given = aligned(data.x)  # JAX takes an array that starts on a cache line without a copy

    def call() -> np.ndarray:
        return np.asarray(compiled(jax.numpy.asarray(given, copy=False)))

    return call


def _environment(threads: int) -> dict[str, str]:
    return {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"}


PEERS = (
    Peer(
        name="jax",
        title="JAX",
        distribution="jax",
        modules=("jax",),
        setting=(
            "jit with the weights as constants, NCHW, highest precision, aligned arrays that it takes without a "
            "copy; as many threads as the process has cores"
        ),
        prepare=_prepare,
        environment=_environment,
    ),
)
