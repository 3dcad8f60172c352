"""JAX: one compiled function with the weights as constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case, PoolCase
from fastconv.bench.peers.peer import Call, Peer, aligned, channels_last, common, keep_pages, plain


def _prepare(case: AnyCase, data: Arrays, threads: int) -> Call:
    return _convolution(case, data) if isinstance(case, Case) else _pooling(case, data)


def _convolution(case: Case, data: Arrays) -> Call:
    layer = plain(case)
    import jax
    from jax import lax

    space = "DHW"[3 - layer.ndim :]
    w = np.ascontiguousarray(np.moveaxis(data.w, (0, 1), (-1, -2)))
    bias = 0 if data.bias is None else data.bias

    def function(x: jax.Array) -> jax.Array:
        y = lax.conv_general_dilated(
            x, w, layer.stride, layer.padding, rhs_dilation=layer.dilation, feature_group_count=layer.g,
            dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"), precision=lax.Precision.HIGHEST,
        )  # fmt: skip
        return jax.numpy.add(y, bias)

    call = _compiled(function, channels_last(data.x))
    return lambda: np.moveaxis(call(), -1, 1)


def _pooling(case: PoolCase, data: Arrays) -> Call:
    common(case)
    import jax
    from jax import lax

    spec, mean = case.spec, case.op == "avg_pool"
    window, stride, pads = (1, 1, *spec.kernel_size), (1, 1, *spec.stride), ((0, 0), (0, 0), *spec.pads)
    start, combine = (0.0, lax.add) if mean else (-np.inf, lax.max)
    share = np.float32(1 / np.prod(spec.kernel_size))

    def function(x: jax.Array) -> jax.Array:
        y = lax.reduce_window(x, start, combine, window, stride, pads)
        return y * share if mean else y

    return _compiled(function, aligned(data.x))


def _compiled(function: Callable[..., object], x: np.ndarray) -> Call:
    """``x`` must start on a cache line, else JAX copies it."""
    import jax

    compiled = jax.jit(function)
    return lambda: np.asarray(compiled(x))


def _environment(threads: int) -> dict[str, str]:
    flags = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    return keep_pages(threads) | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}


PEERS = (
    Peer(
        name="jax",
        title="JAX",
        distribution="jax",
        modules=("jax",),
        setting=(
            "jit with the weights as constants, highest precision; convolutions channels last, which XLA would "
            "transpose to in each call, poolings channels first; aligned arrays that it takes without a copy; as many "
            "threads as the process has cores, where XLA deems a layer large enough"
        ),
        prepare=_prepare,
        environment=_environment,
    ),
)
