"""Zero points: exact sums of ``(x - x_zero_point) * (w - w_zero_point)`` of 8-bit integers; padding adds nothing."""

import re

import numpy as np
import pytest
from oracle import convolve as exact

import fastconv
from fastconv import registry
from fastconv.errors import UnsupportedConv

CONVOLUTIONS = {1: fastconv.conv1d, 2: fastconv.conv2d, 3: fastconv.conv3d}
ABLE = [b.name for b in registry.BACKENDS if b.capabilities.zero_point]
any_backend = pytest.mark.parametrize("backend", ABLE)
DTYPES = pytest.mark.parametrize(
    ("x_dtype", "w_dtype"), [("int8", "int8"), ("uint8", "uint8"), ("uint8", "int8"), ("int8", "uint8")]
)
LAYERS = {
    "plain": ((2, 3, 5, 6), (4, 3, 3, 2), {}),
    "padding": ((1, 3, 5, 6), (4, 3, 3, 3), {"padding": [(2, 0), (1, 3)]}),
    "padding-beyond-image": ((1, 1, 2, 2), (2, 1, 2, 2), {"padding": 4}),
    "stride-dilation-groups": (
        (2, 4, 7, 8), (6, 2, 3, 2), {"stride": (2, 1), "dilation": (1, 2), "padding": [(1, 0), (2, 1)], "groups": 2},
    ),
    "depthwise": ((1, 4, 5, 5), (4, 1, 3, 3), {"groups": 4, "padding": 1}),
    "reflect": ((1, 2, 5, 6), (3, 2, 3, 3), {"padding": 2, "padding_mode": "reflect"}),
    "replicate": ((1, 2, 5, 6), (3, 2, 3, 3), {"padding": 2, "padding_mode": "replicate", "stride": 2}),
    "circular": ((1, 2, 5, 6), (3, 2, 3, 3), {"padding": [(1, 2), (2, 0)], "padding_mode": "circular"}),
    "1d": ((2, 3, 9), (4, 3, 3), {"padding": 1, "stride": 2}),
    "3d": ((1, 2, 3, 4, 4), (3, 2, 2, 3, 2), {"padding": 1, "dilation": (1, 1, 2)}),
}  # fmt: skip


def whole_range(rng, shape, dtype):
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    values.flat[:2] = limits.min, limits.max
    return values


def less(array, zero):
    """``array - zero`` in Python ints."""
    zero = np.asarray(zero).astype(object)
    return array.astype(object) - (zero.reshape(-1, *[1] * (array.ndim - 1)) if zero.ndim else zero)


def zeros_of(dtype, channels):
    """Zero points at both ends of the range and one for each output channel."""
    limits = np.iinfo(dtype)
    return limits.min, limits.max, np.linspace(limits.min, limits.max, channels).astype(dtype)


@any_backend
@DTYPES
@pytest.mark.parametrize("layer", LAYERS)
def test_sums_are_exact(backend, x_dtype, w_dtype, layer, rng):
    x_shape, w_shape, options = LAYERS[layer]
    x, w, call = whole_range(rng, x_shape, x_dtype), whole_range(rng, w_shape, w_dtype), CONVOLUTIONS[len(x_shape) - 2]
    for x_zero in (0, *zeros_of(x_dtype, 1)[:2], 3):
        for w_zero in (0, *zeros_of(w_dtype, len(w)), 5):
            y = call(x, w, x_zero_point=x_zero, w_zero_point=w_zero, backend=backend, **options)
            assert y.dtype == "int32"
            assert y.tolist() == exact(less(x, x_zero), less(w, w_zero), **options).tolist()


@any_backend
def test_padding_adds_nothing(backend):
    x, w = np.full((1, 1, 3), 7, "uint8"), np.ones((1, 1, 3), "uint8")
    assert fastconv.conv1d(x, w, padding=5, x_zero_point=7, backend=backend).tolist() == [[[0] * 11]]
    assert fastconv.conv1d(x, w, padding=1, x_zero_point=6, backend=backend).tolist() == [[[2, 3, 2]]]


@any_backend
def test_bias_residual_and_activation(backend, rng):
    x, w = whole_range(rng, (1, 2, 5, 5), "uint8"), whole_range(rng, (3, 2, 2, 2), "int8")
    bias, residual = rng.integers(-9999, 9999, 3, "int32"), rng.integers(-9999, 9999, (1, 3, 4, 4), "int32")
    y = fastconv.conv2d(x, w, bias, residual=residual, activation="relu", x_zero_point=128, w_zero_point=-3,
                        backend=backend)  # fmt: skip
    total = exact(less(x, 128), less(w, -3)) + bias[:, None, None].astype(object) + residual.astype(object)
    assert y.tolist() == np.maximum(total, 0).tolist()


@any_backend
def test_channels_last_flipped_kernel_and_out(backend, rng):
    x, w = whole_range(rng, (2, 5, 6, 3), "int8"), whole_range(rng, (4, 3, 3, 2), "int8")
    zero = np.array([1, -2, 3, -4], "int8")
    right = exact(less(x, 9), less(w, zero)[:, :, ::-1, ::-1], channels_last=True)
    out = np.zeros((*right.shape[:-1], 8), "int32")[..., ::2]
    y = fastconv.conv2d(x, w, x_zero_point=9, w_zero_point=zero, layout="NHWC", flip_kernel=True, out=out,
                        backend=backend)  # fmt: skip
    assert y is out and y.tolist() == right.tolist()


@any_backend
def test_plain_image_and_kernel(backend):
    x, w = np.array([1, 2, 3], "uint8"), np.array([4, 5], "uint8")
    y = fastconv.conv1d(x, w, x_zero_point=2, w_zero_point=np.array([3], "uint8"), backend=backend)
    assert y.tolist() == [-1, 2]


@any_backend
@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.array])
def test_kinds_of_ints(backend, kind):
    x, w = np.array([1, 2, 3], "uint8"), np.array([4, 5], "uint8")
    assert fastconv.conv1d(x, w, x_zero_point=kind(2), w_zero_point=kind(3), backend=backend).tolist() == [-1, 2]


@any_backend
def test_plan_does_what_the_call_does(backend, rng):
    x, w = whole_range(rng, (2, 4, 7, 8), "uint8"), whole_range(rng, (6, 4, 3, 2), "int8")
    options = {"x_zero_point": 100, "w_zero_point": np.arange(-3, 3), "padding": 1, "backend": backend}
    plan = fastconv.plan(w, x.shape, dtype="uint8", **options)
    right = fastconv.conv2d(x, w, **options)
    options["w_zero_point"][:] = w[:] = 0  # the plan has its own
    assert np.array_equal(plan(x), right)
    assert np.array_equal(plan.for_shape((1, 4, 7, 8))(x[1:]), right[1:])
    assert plan.spec.x_zero_point == 100 and plan.error_bound == 0


@any_backend
def test_small_workspace_gives_the_same(backend, rng):
    x, w = whole_range(rng, (1, 4, 20, 20), "uint8"), whole_range(rng, (6, 4, 3, 3), "int8")
    options = {"x_zero_point": 100, "w_zero_point": 7, "padding": 1, "backend": backend}
    assert np.array_equal(fastconv.conv2d(x, w, max_workspace=2000, **options), fastconv.conv2d(x, w, **options))


def test_explain_names_who_can_and_who_cannot():
    x, w = np.zeros((1, 2, 5, 5), "uint8"), np.zeros((3, 2, 3, 3), "uint8")
    rows = {r.backend: r for r in fastconv.explain(x, w, x_zero_point=7, w_zero_point=1).rows}
    assert (
        sorted(n for n, r in rows.items() if r.verdict in ("chosen", "possible")) == ["im2col", "naive"] == sorted(ABLE)
    )
    for name in set(rows) - set(ABLE):
        assert rows[name].verdict == "refused" and "got uint8" in rows[name].because


def test_why_not_names_the_zero_point_of_a_backend_that_takes_bytes():
    spec = fastconv.explain((1, 1, 4), np.zeros((1, 1, 2), "int8"), x_zero_point=-5).spec
    takes = registry.Capabilities(dtypes=("int8",))
    assert registry.why_not(takes, spec) == "takes no zero point; got -5"


@pytest.mark.parametrize("name", [b.name for b in registry.BACKENDS if not b.capabilities.zero_point])
@pytest.mark.parametrize("which", ["x_zero_point", "w_zero_point"])
def test_other_backends_refuse_by_name(name, which):
    x = np.zeros((1, 1, 5, 5), "int8")
    with pytest.raises(UnsupportedConv, match=f"'{name}'.*Backends that can: im2col, naive"):
        fastconv.conv2d(x, x[:, :, :3, :3], backend=name, **{which: 1})


def conv(x_dtype="int8", w_dtype=None, **options):
    return fastconv.conv2d(np.zeros((1, 2, 4, 4), x_dtype), np.zeros((3, 2, 2, 2), w_dtype or x_dtype), **options)


def plan(x_dtype="int8", w_dtype=None, **options):
    return fastconv.plan(np.zeros((3, 2, 2, 2), w_dtype or x_dtype), (1, 2, 4, 4), dtype=x_dtype, **options)


def explain(x_dtype="int8", w_dtype=None, **options):
    return fastconv.explain(np.zeros((1, 2, 4, 4), x_dtype), np.zeros((3, 2, 2, 2), w_dtype or x_dtype), **options)


@pytest.fixture(params=[conv, plan, explain])
def entrance(request):
    return request.param


def refuses(error, *words):
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(w)})" for w in words))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("name", ["x", "w"])
def test_other_dtypes(entrance, name, dtype):
    with refuses(TypeError, "_zero_point is for int8 and uint8", f"has dtype {dtype}", "subtract it"):
        entrance(dtype, **{f"{name}_zero_point": 1})


@pytest.mark.parametrize(("dtype", "value"), [("int8", 128), ("int8", -129), ("uint8", -1), ("uint8", 256)])
@pytest.mark.parametrize("name", ["x", "w"])
def test_numbers_out_of_range(entrance, name, dtype, value):
    with refuses(ValueError, f"{name}_zero_point={value}", f"no number of {dtype}"):
        entrance(dtype, **{f"{name}_zero_point": value})


def test_range_is_that_of_the_array_that_it_belongs_to(entrance):
    entrance("uint8", "int8", x_zero_point=255, w_zero_point=-128)
    with refuses(ValueError, "x_zero_point=-1", "uint8"):
        entrance("uint8", "int8", x_zero_point=-1)
    with refuses(ValueError, "w_zero_point=255", "int8"):
        entrance("uint8", "int8", w_zero_point=255)


def test_one_number_per_channel_out_of_range(entrance):
    with refuses(ValueError, "w_zero_point=[0, 200, 0]", "no number of int8"):
        entrance(w_zero_point=np.array([0, 200, 0]))


@pytest.mark.parametrize("shape", [(0,), (2,), (4,), (1, 3), (3, 1, 1, 1)])
@pytest.mark.parametrize("value", [0, 1])
def test_w_zero_point_of_another_shape(entrance, shape, value):
    with refuses(ValueError, f"w_zero_point has shape {shape}", "one per output channel"):
        entrance(w_zero_point=np.full(shape, value, "int8"))


@pytest.mark.parametrize("value", [1.0, 0.0, True, "1", None, np.float32(2), [1, 2, 3]], ids=repr)
@pytest.mark.parametrize("name", ["x_zero_point", "w_zero_point"])
def test_other_types_where_an_int_belongs(entrance, name, value):
    with refuses(TypeError, name, "must be an int"):
        entrance(**{name: value})


@pytest.mark.parametrize("value", [0, 1])
def test_w_zero_points_that_are_no_ints(entrance, value):
    with refuses((TypeError, ValueError), "w_zero_point"):
        entrance(w_zero_point=np.full(3, value, "float32"))


def test_layer_without_output_channels_takes_zero_points_for_none_of_them():
    x, w = np.zeros((1, 2, 4, 4), "int8"), np.zeros((0, 2, 2, 2), "int8")
    assert fastconv.conv2d(x, w, x_zero_point=1, w_zero_point=np.zeros(0, "int8")).shape == (1, 0, 3, 3)


@pytest.mark.parametrize(
    ("x_zero", "w_zero", "most"),
    [(0, 0, (2**31 - 1) // (128 * 128)), (1, 0, (2**31 - 1) // (255 * 128)), (0, 1, (2**31 - 1) // (128 * 255)),
     (1, 1, (2**31 - 1) // (255 * 255))],
)  # fmt: skip
def test_sums_that_can_exceed_int32_are_refused(x_zero, w_zero, most):
    options = {"x_zero_point": x_zero, "w_zero_point": w_zero, "backend": "im2col"}
    fastconv.conv1d(np.zeros((1, most, 1), "int8"), np.zeros((1, most, 1), "int8"), **options)
    with refuses(ValueError, f"{most + 1} products", "can exceed int32 sums", "int16"):
        fastconv.conv1d(np.zeros((1, most + 1, 1), "int8"), np.zeros((1, most + 1, 1), "int8"), **options)


@any_backend
def test_largest_sum_that_is_taken_is_exact(backend):
    most = (2**31 - 1) // (255 * 255)
    x, w = np.full((1, most, 1), 127, "int8"), np.full((1, most, 1), -128, "int8")
    y = fastconv.conv1d(x, w, x_zero_point=-128, w_zero_point=127, backend=backend)
    assert y.item() == -most * 255 * 255
