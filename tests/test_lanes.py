"""What the lanes of a vector are, pixels or output channels: the same bits, on every instruction set and layout."""

import numpy as np
import pytest
from lane_layers import LAYERS, check_padding_meets_weights
from oracle import assert_close, reference

import fastconv
from fastconv import known, tuning

compiled = pytest.importorskip("fastconv.kernels._compiled", reason="the compiled extension is not installed")

from fastconv.adapters import cython_tiled  # noqa: E402
from fastconv.bench.cases import CASES  # noqa: E402
from fastconv.lowering import lower  # noqa: E402
from fastconv.spec import Epilogue, Problem, parse_layer  # noqa: E402


@pytest.fixture
def force(monkeypatch):
    """Take one kind of kernels wherever it can be taken, or ('other') the chosen one; returns what says which."""
    chosen = cython_tiled._lanes

    def use(kind):
        def lanes(spec, low, blocks, isa, item):
            if kind == "other":
                return chosen(spec, low, blocks, isa, item)
            return "pixels" if blocks.unit < compiled.vector_lanes(isa, item) else kind

        monkeypatch.setattr(cython_tiled, "_lanes", lanes)
        cython_tiled._layer.cache_clear()
        known.calls.clear()

    yield use
    monkeypatch.setattr(cython_tiled, "_lanes", chosen)
    cython_tiled._layer.cache_clear()
    known.calls.clear()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", LAYERS)
def test_all_kinds_give_the_same_bits(isa, force, text, dtype):
    spec = parse_layer(text)
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal(spec.x_shape).astype(dtype), rng.standard_normal(spec.w_shape).astype(dtype)
    bias = rng.standard_normal(spec.oc).astype(dtype)
    options = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g}
    conv = (fastconv.conv1d, fastconv.conv2d, fastconv.conv3d)[spec.ndim - 1]
    expected, results = reference(x, w, bias, **options), []
    for kind in ("pixels", "channels", "other"):
        force(kind)
        plan = fastconv.plan(w, x.shape, bias, backend="cython", **options)
        results += [plan(x), conv(x, w, bias, backend="cython", **options), plan(x, threads=3)]
        last = np.moveaxis(conv(np.ascontiguousarray(np.moveaxis(x, 1, -1)), w, bias, backend="cython",
                                layout=("NWC", "NHWC", "NDHWC")[spec.ndim - 1], **options), -1, 1)  # fmt: skip
        results.append(last)
    assert_close(results[0], expected, np.abs(expected).max() * (1e-5 if dtype == "float32" else 1e-13))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("kind", ["pixels", "channels"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_padding_times_a_weight_that_is_not_finite_is_nan(isa, force, rng, kind, value):
    force(kind)
    check_padding_meets_weights("cython", rng, value)


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "silu", "gelu", "gelu_tanh", "hardswish", "leaky_relu"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_epilogues_of_a_tile_of_channels(isa, force, rng, activation, layout):
    force("channels")
    x, w, bias = rng.standard_normal((2, 9, 11, 17)), rng.standard_normal((37, 9, 3, 3)), rng.standard_normal(37)
    residual = rng.standard_normal((2, 37, 11, 17))
    expected = reference(x, w, bias, padding=1, residual=residual, activation=activation)
    if layout == "NHWC":
        x, residual = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, residual))
        expected = np.moveaxis(expected, 1, -1)
    options = {"padding": 1, "layout": layout, "activation": activation, "backend": "cython"}
    assert_close(fastconv.conv2d(x, w, bias, residual=residual, **options), expected, 1e-10)
    assert compiled.last_kernel().startswith("channels_")


@pytest.mark.parametrize("kind", ["pixels", "channels"])
def test_any_strides_of_x_and_out(isa, force, rng, kind):
    force(kind)
    whole, w = rng.standard_normal((2, 40, 26, 30)), rng.standard_normal((32, 20, 3, 3))
    for x in (whole[:, ::2, ::-1, ::2], whole[:, 39:19:-1, 3:20, 4:29], whole.transpose(0, 1, 3, 2)[:, :20]):
        expected = reference(x, w, padding=1)
        room = np.full((2, 64, *[2 * n for n in expected.shape[2:]]), 7.0)
        out = room[:, ::2, ::2, 1::2]
        fastconv.conv2d(x, w, padding=1, backend="cython", out=out)
        assert_close(out, expected, 1e-10)
        out[...] = 7
        assert (room == 7).all()


def test_narrow_rows_put_channels_in_the_lanes_and_few_channels_pixels(rng):
    for text, kind in [
        ("ic256ih14oc256k3p1", "channels"),
        ("ic512ih7oc512k3p1", "channels"),
        ("ic3ih90iw160oc16k3", "pixels"),
        ("ih90iw160k3", "depthwise"),
        ("g32ic32ih30oc32k3p1", "depthwise"),
    ]:
        spec = parse_layer(text)
        w = rng.standard_normal(spec.w_shape).astype("float32")
        plan = fastconv.plan(w, spec.x_shape, padding=spec.padding, groups=spec.g, backend="cython")
        plan(np.ones(spec.x_shape, "float32"))
        assert compiled.last_kernel().startswith(f"{kind}_")


def test_the_kind_depends_on_neither_batch_nor_threads():
    for case in CASES:
        if case.op != "conv":
            continue
        spec = case.spec
        low = lower(spec)
        for isa in compiled.isas_present():
            blocks = cython_tiled._blocks(spec, isa)
            kinds = {
                cython_tiled._layer(s, Epilogue(), isa, threads, False).kernel_name
                for s in (spec, spec.with_shape(spec.n + 3, spec.input_size))
                for threads in (1, 2, 7)
            }
            assert len(kinds) == 1, (case.name, kinds)
            assert sum(blocks.widths(max(low.ocg, 1))) >= low.ocg


def test_scratch_stays_below_its_bound_whatever_the_image():
    layers = [case.spec for case in CASES if case.op == "conv"]
    texts = ["ic64ih4096oc64k3p1", "ic2048ih64oc8k3p1", "ic64ih4096oc64k1", "ic3iw10000000oc8k9"]
    layers += map(parse_layer, texts)
    last = ["ic64ih4096oc64k3p1", "ic64ih4096oc64k3p1g64", "ic64ih4096oc64k5s2g64", "ic8ih4096oc8k4g8"]
    layers += [parse_layer(text, layout="NHWC") for text in last]
    for spec in layers:
        for threads in (1, 2, 8):
            problem = Problem(spec, Epilogue(), cython_tiled.algorithm(spec), None)
            assert cython_tiled.workspace_bytes(problem, threads) <= threads * 2**21 + 2**16, spec.text


def test_a_plan_called_with_plain_arrays_gives_what_it_gives_for_others(rng):
    x, w, bias = rng.standard_normal((3, 20, 12, 13)), rng.standard_normal((33, 20, 3, 3)), rng.standard_normal(33)
    for backend in ("cython", "winograd"):
        plan = fastconv.plan(w, x.shape, bias, padding=1, activation="relu", backend=backend)
        expected = plan(x[:, :, ::-1][:, :, ::-1], residual=np.zeros(plan.out_shape))
        out = np.empty(plan.out_shape)
        assert plan(x, out=out) is out
        for result in (out, plan(x), plan(np.asfortranarray(x)), plan(x.copy()[:, :, :, ::-1][:, :, :, ::-1])):
            np.testing.assert_array_equal(result, expected)
        holes = np.empty((3, 33, 12, 26))[..., ::2]
        np.testing.assert_array_equal(plan(x, out=holes), expected)


def test_the_quick_way_refuses_what_the_other_one_refuses(rng):
    w = rng.standard_normal((16, 16, 3, 3))
    plan = fastconv.plan(w, (1, 16, 9, 9), padding=1, backend="cython")
    x = rng.standard_normal((1, 16, 9, 9))
    fixed = np.empty_like(x)
    fixed.setflags(write=False)
    room = np.empty(2 * x.size)
    overlapping, narrow = room[: x.size].reshape(x.shape), np.empty((1, 16, 9, 8))
    for bad in (x, overlapping, fixed, narrow, np.empty(x.shape, "float32"), "out"):
        source = room[8 : 8 + x.size].reshape(x.shape) if bad is not x else x
        with pytest.raises((ValueError, TypeError)):
            plan(source, out=bad)
    for bad in (x.astype("float32"), x[0], np.empty((2, 16, 9, 9)), None):
        with pytest.raises((ValueError, TypeError)):
            plan(bad, out=np.empty_like(x))


def test_a_small_layer_takes_one_thread_whatever_there_are(rng, monkeypatch):
    monkeypatch.setattr(tuning, "PARALLEL_FLOPS", 10**9)
    x, w = rng.standard_normal((1, 8, 12, 12)), rng.standard_normal((9, 8, 3, 3))
    plan = fastconv.plan(w, x.shape, padding=1, backend="cython")
    first = plan(x)
    monkeypatch.setattr(fastconv.planning, "get_num_threads", None)  # nobody asks any more
    np.testing.assert_array_equal(plan(x), first)
    assert_close(first, reference(x, w, padding=1), 1e-12)
    with pytest.raises(ValueError, match="threads=0"):
        plan(x, threads=0)


def test_scratch_is_kept_up_to_a_bound_and_can_be_freed(rng):
    x, w = rng.standard_normal((1, 64, 30, 30)), rng.standard_normal((64, 64, 3, 3))
    fastconv.conv2d(x, w, backend="cython")
    assert compiled.kept_bytes() > 0
    try:
        compiled.keep_at_most(0)
        assert compiled.kept_bytes() == 0
        fastconv.conv2d(x, w, backend="cython")
        assert compiled.kept_bytes() == 0
    finally:
        compiled.keep_at_most(2**28)
