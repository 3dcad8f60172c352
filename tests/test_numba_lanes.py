"""Either kind of Numba's kernels, pixels or output channels in the lanes: the same bits, everywhere."""

import numpy as np
import pytest
from lane_layers import LAYERS, check_padding_meets_weights
from oracle import assert_close, reference

import fastconv

pytest.importorskip("numba", reason="numba is not installed")

from fastconv.adapters import numba_geometry, numba_parallel, tiling
from fastconv.adapters.numba_tables import Layout
from fastconv.bench.cases import CASES
from fastconv.kernels import lanes_ir, vector_ir
from fastconv.kernels.tile_numba import LEAVES, LOWER, PARTS_OF_ROWS, UPPER
from fastconv.lowering import lower
from fastconv.spec import parse_layer


@pytest.fixture
def force(monkeypatch):
    """Take one kind of kernels wherever it can be taken; returns the function that says which."""

    def use(kind):
        def lanes(spec, low, shape):
            return "pixels" if not shape.lanes or shape.unit < shape.vl else kind

        monkeypatch.setattr(numba_geometry, "lanes", lanes)
        numba_geometry.geometry.cache_clear()

    yield use
    monkeypatch.undo()
    numba_geometry.geometry.cache_clear()


def compiled_isa():
    """The instruction set of the other engine, '' where it is not installed."""
    try:
        from fastconv.kernels import _compiled
    except ImportError:
        return ""
    return str(_compiled.isa())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", LAYERS)
def test_both_kinds_give_the_same_bits(force, text, dtype):
    spec = parse_layer(text)
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal(spec.x_shape).astype(dtype), rng.standard_normal(spec.w_shape).astype(dtype)
    bias = rng.standard_normal(spec.oc).astype(dtype)
    options = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g}
    conv = (fastconv.conv1d, fastconv.conv2d, fastconv.conv3d)[spec.ndim - 1]
    layout, last = ("NWC", "NHWC", "NDHWC")[spec.ndim - 1], np.ascontiguousarray(np.moveaxis(x, 1, -1))
    results = [conv(x, w, bias, backend="numba", **options)]
    for kind in ("pixels", "channels"):
        force(kind)
        plan = fastconv.plan(w, x.shape, bias, backend="numba", **options)
        results += [plan(x), plan(x, threads=3), plan(x[::, ::-1].copy()[:, ::-1])]
        turned = fastconv.plan(w, last.shape, bias, backend="numba", layout=layout, **options)(last)
        results.append(np.moveaxis(turned, -1, 1))
    if "avx" in compiled_isa():
        results.append(fastconv.plan(w, x.shape, bias, backend="cython", **options)(x))
    expected = reference(x, w, bias, **options)
    assert_close(results[0], expected, np.abs(expected).max() * (1e-5 if dtype == "float32" else 1e-13))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("kind", ["pixels", "channels"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_padding_times_a_weight_that_is_not_finite_is_nan(force, rng, kind, value):
    force(kind)
    check_padding_meets_weights("numba", rng, value)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("kind", ["pixels", "channels"])
def test_padding_with_pixels(force, rng, kind, mode):
    force(kind)
    x, w = rng.standard_normal((2, 9, 8, 7)), rng.standard_normal((40, 9, 5, 3))
    options = {"padding": (2, 1), "stride": (2, 1), "padding_mode": mode}
    result = fastconv.plan(w, x.shape, backend="numba", **options)(x)
    assert_close(result, reference(x, w, **options), 1e-10)


@pytest.mark.parametrize("kind", ["pixels", "channels"])
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "silu", "gelu", "gelu_tanh", "hardswish", "leaky_relu"])
def test_epilogues(force, rng, kind, activation):
    force(kind)
    x, w, bias = rng.standard_normal((2, 9, 11, 17)), rng.standard_normal((37, 9, 3, 3)), rng.standard_normal(37)
    residual = rng.standard_normal((2, 37, 11, 17))
    for shift in (None, bias):
        plan = fastconv.plan(w, x.shape, shift, padding=1, activation=activation, backend="numba")
        for added in (None, residual, np.broadcast_to(residual[:1, :1, :1, :1], residual.shape)):
            expected = reference(x, w, shift, padding=1, residual=added, activation=activation)
            assert_close(plan(x, residual=added), expected, 1e-10)


@pytest.mark.parametrize("kind", ["pixels", "channels"])
def test_any_strides_of_x_and_out(force, rng, kind):
    force(kind)
    whole, w = rng.standard_normal((2, 40, 26, 30)), rng.standard_normal((32, 20, 3, 3))
    for x in (whole[:, ::2, ::-1, ::2], whole[:, 39:19:-1, 3:20, 4:29], whole.transpose(0, 1, 3, 2)[:, :20]):
        expected = reference(x, w, padding=1)
        room = np.full((2, 64, *[2 * n for n in expected.shape[2:]]), 7.0)
        out = room[:, ::2, ::2, 1::2]
        fastconv.plan(w, x.shape, padding=1, backend="numba")(x, out=out)
        assert_close(out, expected, 1e-10)
        out[...] = 7
        assert (room == 7).all()


@pytest.mark.parametrize("layer", ["ic256ih14oc256k3p1", "ic512ih7oc512k3p1"])
def test_narrow_rows_put_channels_in_the_lanes(layer):
    spec = parse_layer(layer)
    shape = numba_parallel.block_shape(spec, False)
    assert numba_geometry.lanes(spec, lower(spec), shape) == "channels"
    wide = parse_layer("ih90iw160k3")
    assert numba_geometry.lanes(wide, lower(wide), shape._replace(unit=1)) == "pixels"


def test_the_kind_depends_on_neither_batch_nor_threads():
    for case in CASES:
        if case.op != "conv" or not case.dtype.startswith("float"):
            continue
        kinds = {
            numba_geometry.geometry(spec, numba_parallel.block_shape(spec, False), threads, None, layout).part.loops
            for spec in (case.spec, case.spec.with_shape(case.spec.n + 3, case.spec.input_size))
            for threads in (1, 2, 7)
            for layout in (Layout(), Layout(finite=True, joined=True))
        }
        assert len(kinds) == 1, case.name


@pytest.mark.parametrize("text", LAYERS)
@pytest.mark.parametrize("most", [6, 14])
def test_tiles_cover_each_output_once_and_every_product_but_those_with_padding(text, most):
    low = lower(parse_layer(text))
    reach = tuple(tiling.reached(axis, 0, axis.out, True) for axis in low.axes)[1:]
    depth = tiling.reached(low.d, 0, 1, True)
    tiles = tiling.tile_task(low, low.h.out, low.w.out, (depth, *reach), most)
    covered = np.zeros((low.taps, low.h.out, low.w.out), int)
    seen = np.zeros((low.h.out, low.w.out), int)
    for tile in tiles.tiles:
        seen[tile.y : tile.y + tile.high, tile.x : tile.x + tile.wide] += 1
        for tap, part in tile.steps:
            rows, columns = divmod(part, PARTS_OF_ROWS)
            left, right = (columns, 0) if columns <= LEAVES else (0, columns - LEAVES)
            upper, lower_end = (rows == LOWER) * 1, (rows == UPPER) * 1
            covered[
                tap, tile.y + upper : tile.y + tile.high - lower_end, tile.x + left : tile.x + tile.wide - right
            ] += 1
    assert (seen == 1).all()
    inside = [
        np.array(
            [axis.source[axis.tap_position(tap) + axis.stride * np.arange(axis.out)] >= 0 for tap in range(axis.taps)]
        )
        for axis in low.axes
    ]
    needed = inside[0][:, None, None, :1, None] & inside[1][:, None, :, None] & inside[2][:, None]
    needed = needed.reshape(low.taps, low.h.out, low.w.out)
    assert (covered[needed] == 1).all() and covered.max() == 1
    assert not tiles.exact or (covered == needed).all()


def test_scratch_stays_below_its_bound_whatever_the_image():
    texts = ["ic64ih4096oc64k3p1", "ic2048ih64oc8k3p1", "ic64ih4096oc64k1", "ic3iw10000000oc8k9"]
    for text in texts:
        spec = parse_layer(text)
        for threads in (1, 2, 8):
            plan = numba_geometry.geometry(spec, numba_parallel.block_shape(spec, False), threads, None, Layout())
            assert plan.scratch_bytes <= threads * 2**21 + 2**16, text


def test_a_plan_called_with_plain_arrays_gives_what_it_gives_for_others(rng):
    x, w, bias = rng.standard_normal((3, 20, 12, 13)), rng.standard_normal((33, 20, 3, 3)), rng.standard_normal(33)
    plan = fastconv.plan(w, x.shape, bias, padding=1, activation="relu", backend="numba")
    expected = plan(x[:, :, ::-1][:, :, ::-1], residual=np.zeros(plan.out_shape))
    out = np.empty(plan.out_shape)
    assert plan(x, out=out) is out
    for result in (out, plan(x), plan(np.asfortranarray(x)), plan(x.copy()[:, :, :, ::-1][:, :, :, ::-1])):
        np.testing.assert_array_equal(result, expected)


def test_the_quick_way_refuses_what_the_other_one_refuses(rng):
    w, x = rng.standard_normal((16, 16, 3, 3)), rng.standard_normal((1, 16, 9, 9))
    plan = fastconv.plan(w, x.shape, padding=1, backend="numba")
    fixed, narrow = np.empty_like(x), np.empty((1, 16, 9, 8))
    fixed.setflags(write=False)
    for bad in (x, fixed, narrow, np.empty(x.shape, "float32"), "out"):
        with pytest.raises((ValueError, TypeError)):
            plan(x, out=bad)
    for bad in (x.astype("float32"), x[0], np.empty((2, 16, 9, 9)), None):
        with pytest.raises((ValueError, TypeError)):
            plan(bad, out=np.empty_like(x))


@pytest.mark.parametrize("item", [4, 8])
def test_a_square_of_lanes_is_transposed(item):
    numba = pytest.importorskip("numba")
    count = vector_ir.host_vector_bytes() // item
    dtype = "float32" if item == 4 else "float64"

    @numba.njit
    def turn(to, source, row):
        lanes_ir.transpose_lanes(vector_ir.zero_of(item), to, source, row)

    source = np.arange(count * (count + 3), dtype=dtype).reshape(count, count + 3)
    result = np.empty((count, count), dtype)
    turn(result.ctypes.data, source.ctypes.data, count + 3)
    np.testing.assert_array_equal(result, source[:, :count].T)
