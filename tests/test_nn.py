"""Layers: shapes, results against the definition, what is fixed, what is shared, and what errors say."""

import copy
import json
import pickle
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from oracle import activate, assert_close, reference

import fastconv
from fastconv import nn, tuning

SMALL = (2, 3, 8, 9)


def block(**options):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, rng=1, **options),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Residual(
            nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, rng=2), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, rng=3)),
            nn.Conv2d(8, 16, 1, 2, rng=4),
            nn.ReLU(),
        ),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5, rng=5),
        nn.Softmax(-1),
    )


@pytest.fixture
def x(rng):
    return rng.standard_normal(SMALL).astype("float32")


# The lecture's shapes


def test_lecture_1x1_convolution():
    layer = nn.Conv2d(128, 192, 1, 1)
    x = np.zeros((16, 128, 26, 26), "float32")
    assert layer.output_shape(x.shape) == layer(x).shape == (16, 192, 26, 26)


def test_lecture_pool():
    layer = nn.AvgPool2d(3, 2, 1)
    x = np.zeros((16, 192, 26, 26), "float32")
    assert layer.output_shape(x.shape) == layer(x).shape == (16, 192, 13, 13)


def test_lecture_weights():
    assert nn.Conv2d(128, 192, 3).weight.shape == (192, 128, 3, 3)


# Convolutions


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 2, "same", ((0, 1), (2, 0))])
def test_convolution_by_definition(x, stride, padding):
    layer = nn.Conv2d(3, 4, 3, stride, padding, rng=0)
    y = layer(x)
    pairs = padding
    if padding == "same":
        totals = [max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in x.shape[2:]]
        pairs = tuple((t // 2, t - t // 2) for t in totals)
    assert_close(y, reference(x, layer.weight, layer.bias, stride=stride, padding=pairs), 1e-5)
    assert layer.output_shape(x.shape) == y.shape


@pytest.mark.parametrize(("make", "shape"), [(nn.Conv1d, (2, 3, 9)), (nn.Conv3d, (2, 3, 5, 6, 7))])
def test_convolution_in_1d_and_3d(rng, make, shape):
    layer = make(3, 4, 3, padding=1, rng=0)
    x = rng.standard_normal(shape).astype("float32")
    assert_close(layer(x), reference(x, layer.weight, layer.bias, padding=1), 1e-5)


def test_channels_last(x):
    first, last = nn.Conv2d(3, 4, 3, rng=0), nn.Conv2d(3, 4, 3, rng=0, layout="NHWC")
    y = last(np.ascontiguousarray(np.moveaxis(x, 1, -1)))
    assert_close(np.moveaxis(y, -1, 1), first(x), 1e-5)
    assert last.output_shape((2, 8, 9, 3)) == y.shape == (2, 6, 7, 4)


def test_unbatched_input(x):
    layer = nn.Conv2d(3, 4, 3)
    assert layer.output_shape(x.shape[1:]) == (4, 6, 7)
    np.testing.assert_array_equal(layer(x[0]), layer(x[:1])[0])


def test_float64(x):
    layer = nn.Conv2d(3, 4, 3, dtype="float64", backend="naive")
    assert layer(x.astype("float64")).dtype == np.float64


def test_no_bias():
    layer = nn.Conv2d(3, 4, 3, bias=False)
    assert layer.bias is None and list(layer.state()) == ["weight"]


def test_transposed_convolution_has_an_output_size():
    layer = nn.ConvTranspose2d(3, 4, 3, stride=2)
    x = np.ones((1, 3, 5, 5), "float32")
    assert [layer(x, n).shape[-1] for n in (None, 11, 12)] == [11, 11, 12]
    with pytest.raises(ValueError, match=r"output_size=\(13, 13\) must be between \(11, 11\) and \(12, 12\)"):
        layer(x, output_size=13)


@pytest.mark.parametrize("make", [nn.Conv2d, nn.ConvTranspose2d])
def test_first_weights_lie_within_pytorchs_bound(make):
    layer = make(8, 16, 3, rng=0)
    bound = 1 / np.sqrt(np.prod(layer.weight.shape[1:]))
    assert 0.9 * bound < np.abs(layer.weight).max() <= bound * (1 + 1e-6)
    assert np.abs(layer.bias).max() <= bound * (1 + 1e-6)


def test_seed_decides_the_first_weights():
    one, same, other = (nn.Conv2d(3, 4, 3, rng=seed) for seed in (1, np.random.default_rng(1), 2))
    np.testing.assert_array_equal(one.weight, same.weight)
    assert (one.weight != other.weight).any()


# Plans


def test_weights_are_packed_once_for_all_shapes(monkeypatch, rng):
    layer = nn.Conv2d(3, 4, 3, backend="im2col")
    module = fastconv.registry.find("im2col").load()
    packed = []
    prepare = module.prepare
    monkeypatch.setattr(module, "prepare", lambda *args: packed.append(1) or prepare(*args))
    for size in (8, 9, 8, 12):
        x = rng.standard_normal((2, 3, size, size)).astype("float32")
        assert_close(layer(x), reference(x, layer.weight, layer.bias), 1e-5)
    assert len(packed) == 1


def test_results_do_not_depend_on_the_shapes_that_came_before(rng):
    images = [rng.standard_normal((1, 32, n, n)).astype("float32") for n in (7, 32, 15)]
    fresh = [nn.Conv2d(32, 32, 3, rng=0)(image) for image in images]
    layer = nn.Conv2d(32, 32, 3, rng=0)
    for image, right in zip(images[::-1], fresh[::-1], strict=True):
        np.testing.assert_array_equal(layer(image), right)


def test_plans_are_bounded(monkeypatch):
    monkeypatch.setattr(tuning, "NN_PLANS", 3)
    layer = nn.Conv1d(1, 1, 1, backend="naive")
    for n in range(1, 9):
        layer(np.zeros((1, n), "float32"))
    assert len(layer._plans._plans) == 3


def test_assigned_weights_are_used(x):
    layer = nn.Conv2d(3, 4, 3, bias=False)
    layer(x)
    w = np.ones((4, 3, 3, 3), "float32")
    layer.weight = w
    w[...] = 7  # the layer has a copy
    assert_close(layer(x), reference(x, np.ones_like(w)), 1e-5)


def test_parameters_are_read_only():
    layer = nn.Conv2d(3, 4, 3)
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0] = 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((4, 3, 3, 2), "float32"), "weight has shape (4, 3, 3, 2); the layer has (4, 3, 3, 3)"),
        (np.zeros((4, 3, 3, 3)), "weight has dtype float64, which float32 does not hold exactly; convert it with "),
        (np.zeros((4, 3, 3, 3), int), "weight has dtype int64, where float32 belongs; convert it with "),
    ],
)
def test_weights_that_do_not_fit_are_refused(value, message):
    layer = nn.Conv2d(3, 4, 3)
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.weight = value


def test_bias_of_a_layer_without_is_refused():
    with pytest.raises(ValueError, match=r"bias=False\) has no bias"):
        nn.Conv2d(3, 4, 3, bias=False).bias = np.zeros(4, "float32")


def test_options_are_fixed():
    layer = nn.Conv2d(3, 4, 3)
    with pytest.raises(AttributeError, match="stride of .* is fixed; make a new layer"):
        layer.stride = 2


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_compute_the_same(x, clone):
    net = block()
    right = net(x)
    twin = clone(net)
    np.testing.assert_array_equal(twin(x), right)
    assert not any(array.flags.writeable for array in twin.parameters())


def test_deep_copy_has_weights_of_its_own(x):
    net = block()
    right = net(x)
    twin = copy.deepcopy(net)
    twin[0].weight = np.zeros((8, 3, 3, 3), "float32")
    np.testing.assert_array_equal(net(x), right)


def test_calls_from_8_threads_at_once(rng):
    net = block()
    images = [rng.standard_normal((2, 3, 6 + i % 3, 8)).astype("float32") for i in range(24)]
    right = [copy.deepcopy(net)(image) for image in images]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(net, images))
    for result, expected in zip(results, right, strict=True):
        assert_close(result, expected, 1e-6)


def test_new_weights_while_others_call(x):
    layer, stop = nn.Conv2d(3, 4, 3, bias=False, backend="naive"), threading.Event()
    values = [np.full((4, 3, 3, 3), v, "float32") for v in (0, 1)]
    layer.weight = values[0]
    right = [reference(x, w) for w in values]

    def call():
        while not stop.is_set():
            y = layer(x)
            assert min(np.abs(y - r).max() for r in right) < 1e-4

    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(call) for _ in range(3)]
        for i in range(60):
            layer.weight = values[i % 2]
            assert_close(layer(x), right[i % 2], 1e-4)
        stop.set()
        [done.result() for done in calls]


# Elementwise layers and the rest


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU6(), "relu6"),
        (nn.LeakyReLU(0.2), ("leaky_relu", 0.2)),
        (nn.SiLU(), "silu"),
        (nn.GELU(), "gelu"),
        (nn.GELU("tanh"), "gelu_tanh"),
        (nn.Hardswish(), "hardswish"),
    ],
)
def test_activations_by_their_formulas(layer, name):
    v = np.linspace(-8, 8, 101)
    assert_close(layer(v), activate(v, name), 1e-12)


def test_sigmoid_and_tanh():
    v = np.array([-1000.0, -1.0, 0.0, 1.0, 1000.0])
    e = np.e
    assert_close(nn.Sigmoid()(v), np.array([0, 1 / (1 + e), 0.5, e / (1 + e), 1]), 1e-12)
    assert_close(nn.Tanh()(v), np.array([-1, (1 / e - e) / (e + 1 / e), 0, (e - 1 / e) / (e + 1 / e), 1]), 1e-12)


@pytest.mark.parametrize(
    ("dim", "shape", "axis"), [(0, (3, 4), 0), (-1, (3, 4), 1), (None, (3, 4), 1), (None, (3, 4, 5), 0)]
)
def test_softmax_sums_to_one(rng, dim, shape, axis):
    x = rng.standard_normal(shape) * 300
    y = nn.Softmax(dim)(x)
    assert_close(y.sum(axis), np.ones(y.sum(axis).shape), 1e-12)
    np.testing.assert_array_equal(y.argmax(axis), x.argmax(axis))


def test_nan_passes_through_without_a_warning():
    v = np.array([np.nan, np.inf, -np.inf])
    for layer in (nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Softmax(0), nn.GELU(), nn.SiLU()):
        assert np.isnan(layer(v)[0])


@pytest.mark.parametrize("layer", [nn.ReLU(True), nn.SiLU(True), nn.Dropout(0.5, True), nn.Hardswish(inplace=True)])
def test_inplace_leaves_the_callers_array_alone(layer):
    v = np.array([-1.0, 2.0])
    layer(v)
    np.testing.assert_array_equal(v, [-1, 2])


def test_batch_norm_by_definition(x):
    layer = nn.BatchNorm2d(3)
    mean, var, w, b = np.float32([[1, 2, 3], [4, 5, 6], [-1, 0, 1], [7, 8, 9]])
    layer.load_state(
        {"weight": w, "bias": b, "running_mean": mean, "running_var": var, "num_batches_tracked": np.array(3)}
    )
    mean, var, w, b = (v[:, None, None].astype(float) for v in (mean, var, w, b))
    right = (x - mean) / np.sqrt(var + 1e-5) * w + b
    assert_close(layer(x), right, 1e-5)
    assert_close(layer(x[0]), right[0], 1e-5)


def test_batch_norm_channels_last(x):
    layer = nn.BatchNorm2d(3, layout="NHWC")
    layer.running_mean = np.float32([1, 2, 3])
    y = layer(np.moveaxis(x, 1, -1))
    assert_close(y, (np.moveaxis(x, 1, -1) - np.array([1, 2, 3])) / np.sqrt(1 + 1e-5), 1e-5)


def test_linear_by_definition(rng):
    layer = nn.Linear(5, 3, rng=0)
    x = rng.standard_normal((2, 4, 5)).astype("float32")
    right = np.einsum("nti,oi->nto", x.astype(float), layer.weight.astype(float)) + layer.bias
    assert_close(layer(x), right, 1e-5)
    assert layer.output_shape(x.shape) == right.shape


@pytest.mark.parametrize(
    ("start", "end", "shape"), [(1, -1, (2, 60)), (0, 1, (6, 4, 5)), (2, 3, (2, 3, 20)), (-2, -1, (2, 3, 20))]
)
def test_flatten(start, end, shape):
    layer = nn.Flatten(start, end)
    assert layer.output_shape((2, 3, 4, 5)) == layer(np.zeros((2, 3, 4, 5))).shape == shape


def test_pool_and_its_way_back():
    x = np.arange(32.0).reshape(1, 2, 4, 4)
    maxima, indices = nn.MaxPool2d(2, return_indices=True)(x)
    back = nn.MaxUnpool2d(2)(maxima, indices)
    assert back.shape == nn.MaxUnpool2d(2).output_shape(maxima.shape) == x.shape
    np.testing.assert_array_equal(back[back > 0], maxima.ravel())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.MaxPool1d(3, 2, 1), (2, 3, 11)),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 9, 10)),
        (nn.MaxPool3d(2, dilation=2), (2, 3, 5, 6, 7)),
        (nn.AvgPool1d(3, 2, 1, True), (2, 3, 10)),
        (nn.AvgPool2d((3, 2), count_include_pad=False), (3, 9, 10)),
        (nn.AvgPool3d(2, divisor_override=3), (2, 3, 5, 6, 7)),
        (nn.LPPool1d(2, 3), (2, 3, 10)),
        (nn.LPPool2d(2, 3, 2, True), (2, 3, 9, 10)),
        (nn.LPPool3d(1, 2), (2, 3, 5, 6, 7)),
        (nn.AdaptiveAvgPool1d(4), (2, 3, 10)),
        (nn.AdaptiveAvgPool2d((None, 3)), (2, 3, 9, 10)),
        (nn.AdaptiveAvgPool3d(2), (3, 5, 6, 7)),
        (nn.AdaptiveMaxPool1d(4), (2, 3, 10)),
        (nn.AdaptiveMaxPool2d(1), (2, 3, 9, 10)),
        (nn.AdaptiveMaxPool3d((1, 2, 3)), (2, 3, 5, 6, 7)),
        (nn.MaxPool2d(2, layout="NHWC"), (2, 8, 9, 3)),
        (nn.AdaptiveAvgPool2d(2, layout="NHWC"), (2, 8, 9, 3)),
    ],
    ids=repr,
)
def test_output_shape_of_pools(layer, shape):
    assert layer.output_shape(shape) == layer(np.ones(shape)).shape


# Containers


def test_sequential_calls_one_after_the_other(x):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, rng=0), nn.ReLU())
    np.testing.assert_array_equal(net(x), np.maximum(net[0](x), 0))


def test_sequential_by_number_name_and_slice():
    net = nn.Sequential({"conv": nn.Conv2d(3, 4, 3), "act": nn.ReLU(), "flat": nn.Flatten()})
    assert net[0] is net["conv"] and net[-1] is net["flat"] and len(net) == 3 and list(net)[1] is net["act"]
    assert list(net[1:].state()) == [] and net[1:]["flat"] is net["flat"]


def test_slice_of_numbered_layers_is_numbered_anew():
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3))
    assert list(net[1:].state()) == ["0.weight", "0.bias"]


def test_residual_adds(x):
    body, shortcut = nn.Conv2d(3, 4, 3, padding=1, rng=0), nn.Conv2d(3, 4, 1, rng=1)
    y = nn.Residual(body, shortcut, nn.ReLU())(x)
    assert_close(y, np.maximum(body(x) + shortcut(x), 0), 1e-6)


def test_residual_without_a_shortcut_adds_its_input(x):
    body = nn.Conv2d(3, 3, 3, padding=1)
    assert_close(nn.Residual(body)(x), body(x) + x, 1e-6)


def test_empty_sequential_is_the_identity(x):
    assert nn.Sequential()(x) is x and nn.Sequential().output_shape((2, 3)) == (2, 3)


def test_parameters_have_pytorchs_names():
    names = [name for name, _ in block().named_parameters()]
    assert names[:5] == ["0.weight", "0.bias", "1.weight", "1.bias", "3.body.0.weight"]
    assert [array.size for array in block().parameters()][0] == 8 * 3 * 9


def test_prints_like_a_constructor():
    assert repr(nn.Conv2d(3, 64, 7, 2, 3)) == "Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3))"
    assert repr(nn.Conv2d(3, 4, 1, bias=False, groups=1)) == "Conv2d(3, 4, kernel_size=(1, 1), bias=False)"
    assert repr(nn.BatchNorm2d(3, affine=False)) == "BatchNorm2d(num_features=3, affine=False, bias=False)"
    assert repr(nn.GELU("tanh")) == "GELU(approximate='tanh')"
    assert repr(nn.Sequential(nn.Sequential(nn.ReLU()))) == ("Sequential(\n  (0): Sequential(\n    (0): ReLU()\n  )\n)")


# Summary


def test_summary_counts():
    summary = block().summary((2, 3, 16, 16))
    rows = {row.name: row for row in summary.rows}
    assert summary.output_shape == (2, 5)
    assert rows["0"].parameters == 8 * 3 * 9 + 8
    assert rows["0"].flops == 2 * 2 * 8 * 16 * 16 * 3 * 9
    assert rows["6"].flops == 2 * 2 * 16 * 5
    assert summary.parameters == sum(array.size for array in block().parameters())
    assert summary.flops == sum(row.flops for row in summary.rows) == block().flops((2, 3, 16, 16))
    assert [rows[name].output_shape for name in ("3.body.0", "3.shortcut", "3", "4")] == [
        (2, 16, 8, 8), (2, 16, 8, 8), (2, 16, 8, 8), (2, 16, 1, 1)]  # fmt: skip


def test_summary_sees_as_receptive_field():
    net = block()
    rows = {row.name: row for row in net.summary((2, 3, 16, 16)).rows}
    fields = fastconv.receptive_field(net, 16)
    assert rows["3"].size == fields[3].size == (9, 9) and rows["3"].stride == fields[3].stride == (2, 2)
    assert rows["3.body.0"].size == (5, 5) and rows["3.shortcut"].size == (3, 3)


def test_summary_prints_an_aligned_table():
    lines = str(block().summary((2, 3, 16, 16))).splitlines()
    assert lines[0].split() == ["name", "layer", "output", "shape", "parameters", "FLOPs", "sees", "stride"]
    assert any(line.startswith("3.body.2 ") and "(2, 16, 8, 8)" in line and "2,320" in line for line in lines)
    assert lines[-1].startswith("total")
    ends = [line.index("parameters") + len("parameters") for line in lines[:1]]
    assert all(line[ends[0] - 1] in "0123456789-s" for line in lines)


def test_summary_as_plain_data():
    data = json.loads(json.dumps(block().summary((2, 3, 16, 16)).to_dict(), allow_nan=False))
    assert data["layers"][0] == {
        "name": "0", "layer": "Conv2d", "output_shape": [2, 8, 16, 16], "parameters": 224, "flops": 221184,
        "receptive_field": [3, 3], "stride": [1, 1],
    }  # fmt: skip


def test_summary_of_a_single_layer_and_channels_last():
    (row,) = nn.Conv2d(3, 4, 3, layout="NHWC").summary((1, 8, 9, 3)).rows
    assert (row.output_shape, row.size) == ((1, 6, 7, 4), (3, 3))


def test_summary_without_spatial_axes():
    summary = nn.Sequential(nn.Linear(10, 4), nn.BatchNorm1d(4), nn.ReLU()).summary((7, 10))
    assert summary.parameters == 52 and summary.rows[0].size == ()


def test_summary_of_paths_of_different_strides_leaves_the_field_out():
    down_and_up = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.AdaptiveAvgPool2d(9))
    dropping = nn.Residual(nn.Conv2d(1, 1, 2), nn.AdaptiveAvgPool2d(9))
    assert nn.Residual(nn.Conv2d(1, 1, 2), down_and_up).summary((1, 1, 10, 10)).rows[-1].size is None
    assert dropping.summary((1, 1, 10, 10)).output_shape == (1, 1, 9, 9)


def test_summary_of_resnet18_has_the_published_numbers():
    def basic(ic, oc, s):
        first = nn.Conv2d(ic, oc, 3, s, 1, bias=False)
        second = nn.Conv2d(oc, oc, 3, 1, 1, bias=False)
        body = nn.Sequential(first, nn.BatchNorm2d(oc), nn.ReLU(), second, nn.BatchNorm2d(oc))
        shortcut = None if s == 1 else nn.Sequential(nn.Conv2d(ic, oc, 1, s, bias=False), nn.BatchNorm2d(oc))
        return nn.Residual(body, shortcut, nn.ReLU())

    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = [basic(ic, oc, 1 if ic == oc else 2) for ic, oc in zip(widths, widths[1:], strict=False)]
    net = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))
    summary = net.summary((1, 3, 224, 224))
    assert summary.parameters == 11_689_512
    assert round(summary.flops / 2e9, 2) == 1.81  # multiply-adds
    assert summary.rows[-4].size == (435, 435)


# Receptive fields of layers


def test_layers_are_known_to_receptive_field():
    net = nn.Sequential(nn.Conv2d(1, 1, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.ConvTranspose2d(1, 1, 2, 2))
    sizes = [f.size[0] for f in fastconv.receptive_field(net)]
    assert sizes == [7, 7, 11, 13] and fastconv.receptive_field(net)[-1].stride == (2, 2)


def test_same_padding_with_a_stride_needs_the_size():
    net = [nn.Conv2d(1, 1, 3, 2, "same")]
    with pytest.raises(ValueError, match="depends on the size of the image; pass input_size"):
        fastconv.receptive_field(net)
    assert fastconv.receptive_field(net, 8)[0].offset == (0, 0)
    assert fastconv.receptive_field(net, 9)[0].offset == (-1, -1)


def test_linear_needs_the_size_and_sees_everything():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(ValueError, match="Linear.*pass input_size"):
        fastconv.receptive_field(net)
    assert fastconv.receptive_field(net, 8)[-1].region((0, 0)) == (slice(0, 8), slice(0, 8))


# Errors


CONV = nn.Conv2d(3, 4, 3)
BAD_CALLS = [
    (CONV, (2, 5, 8, 9), "Conv2d(3, 4, kernel_size=(3, 3)): x has shape (2, 5, 8, 9): it has 5 channels; the layer "),
    (CONV, (8, 9), "x has shape (8, 9): expected (n, c, h, w) or (c, h, w)"),
    (CONV, (1, 3, 2, 9), "the kernel spans 3 elements along h but the padded input has 2"),
    (nn.ConvTranspose2d(3, 4, 3), (2, 5, 8, 9), "ConvTranspose2d(3, 4, kernel_size=(3, 3)): x has shape (2, 5, 8, 9)"),
    (nn.MaxPool2d(3), (1, 3, 2, 9), "MaxPool2d(kernel_size=(3, 3), stride=(3, 3)): x has shape (1, 3, 2, 9)"),
    (nn.AvgPool1d(3), (9,), "x has shape (9,): expected (n, c, w) or (c, w)"),
    (nn.AdaptiveAvgPool2d(1), (3, 0, 9), "every spatial axis needs at least one element"),
    (nn.BatchNorm2d(3), (2, 5, 8, 9), "BatchNorm2d(num_features=3): x has shape (2, 5, 8, 9): it has 5 channels"),
    (nn.BatchNorm2d(3), (2, 3), "expected rank 3 or 4"),
    (nn.Linear(5, 2), (2, 4), "Linear(in_features=5, out_features=2): x has shape (2, 4): its last axis must have 5"),
    (nn.Flatten(3), (2, 4), "start_dim=3 and end_dim=-1 are no run of its 2 axes"),
    (nn.Softmax(2), (2, 4), "Softmax(dim=2): x has shape (2, 4): dim=2 is no axis of it"),
    (nn.Residual(nn.Conv2d(3, 3, 3)), (1, 3, 8, 8), "body returns shape (1, 3, 6, 6) and the shortcut (1, 3, 8, 8)"),
    (nn.Sequential(CONV, nn.Linear(3, 2)), (1, 3, 8, 8), "out_features=2): x has shape (1, 4, 6, 6)"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape", "message"), BAD_CALLS, ids=lambda v: None)
def test_bad_input_names_layer_and_shape(layer, shape, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(np.zeros(shape, "float32"))
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.output_shape(shape)


def test_errors_say_where_in_the_network():
    with pytest.raises(ValueError) as caught:
        nn.Sequential(nn.ReLU(), nn.Residual(CONV))(np.zeros((1, 5, 8, 8), "float32"))
    assert caught.value.__notes__ == ["in layer 'body'", "in layer '1'"]


@pytest.mark.parametrize("layer", [CONV, nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(3)])
def test_other_dtype_names_both(layer):
    with pytest.raises(
        TypeError, match=r"x has dtype float64 and the parameters float32; convert with x.astype\('float32'\)"
    ):
        layer(np.zeros((1, 3, 8, 8)))


def test_integers_have_no_sigmoid():
    with pytest.raises(TypeError, match=r"Sigmoid\(\): x has dtype int64"):
        nn.Sigmoid()(np.arange(3))


BAD_OPTIONS = [
    (lambda: nn.Conv2d(0, 4, 3), ValueError, "in_channels=0 must be at least 1"),
    (lambda: nn.Conv2d(3, 4.0, 3), TypeError, "out_channels=4.0 must be an int"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups=2 must divide in_channels=3 and out_channels=4"),
    (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ValueError, "kernel_size=(3, 3, 3) has 3 entries"),
    (lambda: nn.Conv2d(3, 4, 0), ValueError, "kernel_size=(0, 0) must be at least 1"),
    (lambda: nn.Conv2d(3, 4, 3, stride=0), ValueError, "stride=(0, 0) has 0"),
    (lambda: nn.Conv2d(3, 4, 3, padding="some"), ValueError, "padding='some' is unknown"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="some"), ValueError, "padding_mode='some' is unknown"),
    (
        lambda: nn.Conv2d(3, 4, 3, dtype="int8"),
        TypeError,
        "dtype='int8': layers have 'float32' or 'float64' parameters",
    ),
    (lambda: nn.Linear(3, 4, dtype="half float"), TypeError, "dtype='half float': layers have 'float32'"),
    (lambda: nn.Conv2d(3, 4, 3, bias=1), TypeError, "bias=1 must be True or False"),
    (lambda: nn.Conv2d(3, 4, 3, layout="NCW"), ValueError, "layout='NCW' does not fit 2 spatial axes"),
    (lambda: nn.Conv2d(3, 4, 3, backend="mkl"), ValueError, "mkl"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), ValueError, "padding_mode='reflect'"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=1), ValueError, "output_padding=(1, 1)"),
    (lambda: nn.MaxPool2d(2, padding=2), ValueError, "padding=(2, 2)"),
    (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), ValueError, "output_size=(1, 2, 3) has 3 entries; expected 2"),
    (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "output_size=0 must be at least 1"),
    (lambda: nn.GELU("fast"), ValueError, "approximate='fast' is unknown; choose 'none' or 'tanh'"),
    (lambda: nn.Dropout(2), ValueError, "p=2 must be between 0 and 1"),
    (lambda: nn.Sequential(lambda v: v), TypeError, "'0' is of type function; pass layers of fastconv.nn"),
    (lambda: nn.Sequential({"a.b": nn.ReLU()}), ValueError, "'a.b' is no name for a layer"),
    (lambda: nn.Residual(None), TypeError, "body is of type NoneType"),
]


@pytest.mark.parametrize(("make", "kind", "message"), BAD_OPTIONS, ids=[message for *_, message in BAD_OPTIONS])
def test_bad_options_are_named(make, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        make()


def test_several_arrays_only_at_the_end(x):
    with pytest.raises(ValueError, match="layer '1' gets 2 arrays"):
        nn.Sequential(nn.MaxPool2d(2, return_indices=True), nn.ReLU())(x)


def test_unpool_without_indices():
    with pytest.raises(TypeError, match="needs the indices of the pool too"):
        nn.MaxUnpool2d(2)(np.zeros((1, 2, 2)))


# The module


def test_nn_is_loaded_when_it_is_asked_for():
    code = "import sys, fastconv; print('fastconv.nn' in sys.modules); print(fastconv.nn.ReLU())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["False", "ReLU()"]


def test_unknown_name_of_the_package():
    with pytest.raises(AttributeError, match="module 'fastconv' has no attribute 'nm'"):
        fastconv.nm  # noqa: B018
