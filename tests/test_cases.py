"""The named cases: that they are what they say, that fastconv takes them, and that their reference is right."""

import math
from collections import Counter

import numpy as np
import oracle
import pytest

import fastconv
from fastconv.bench import cases, reference
from fastconv.bench.cases import CASES, PROBLEMS, STANDARD, Case, PoolCase
from fastconv.spec import parse_layer

CONVOLUTIONS = [case for case in CASES if case.op == "conv"]
POOLS = [case for case in CASES if case.op != "conv"]


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def multiply_adds(*prefixes):
    """Of all layers of a network, each as often as the network has it."""
    batch_1 = [c for c in CONVOLUTIONS if c.name.startswith(prefixes) and c.spec.n == 1]
    return sum(c.times * c.flops for c in batch_1) // 2


def repeated(values):
    return [value for value, times in Counter(values).items() if times > 1]


def test_names_are_unique():
    assert repeated(case.name for case in (*CASES, *PROBLEMS)) == []


def test_no_layer_is_timed_twice():
    assert repeated((case.op, case.layer) for case in CASES) == []


@named(CASES)
def test_a_layer_is_written_as_it_prints(case):
    assert parse_layer(case.layer).text == case.layer


def test_every_case_has_a_source_and_a_short_name():
    assert all(case.source and case.group and len(case.name) <= 32 and case.name == case.name.lower() for case in CASES)


def test_the_standard_cases_are_some_of_every_group():
    standard = [case for case in CASES if case.name in STANDARD]
    assert len(standard) == len(STANDARD) <= 35
    assert {case.group for case in standard} == {case.group for case in CASES}


def test_a_case_is_found_by_its_name_and_nothing_else_is():
    assert cases.find("lecture-3x3").layer == "n16ic128ih26oc192k3p1"
    assert cases.find("plain-3x3") in PROBLEMS
    with pytest.raises(KeyError, match="no-such-case"):
        cases.find("no-such-case")


def test_resnet_50_has_the_multiply_adds_that_are_published():
    assert multiply_adds("resnet-") + 2048 * 1000 == 4_089_184_256  # with the classifier; "4.09 GFLOPS" of torchvision


def test_vgg_16_has_the_multiply_adds_that_are_published():
    classifier = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    assert multiply_adds("vgg-") + classifier == 15_470_264_320  # "15.47 GFLOPS" of torchvision


def test_mobilenet_v2_has_the_multiply_adds_that_are_published():
    assert multiply_adds("mobilenet2-", "mobilenet-") + 1280 * 1000 == 300_774_272  # "300M", table 4 of the paper


def test_mobilenet_v3_has_the_multiply_adds_that_are_published():
    shared = 5 * cases.find("mobilenet2-160to960x7-1x1").flops // 2  # with 960->160; V2 has them, too
    squeeze = sum(2 * c * r for c, r in ((72, 24), *[(120, 32)] * 2, (480, 120), *[(672, 168)] * 2, *[(960, 240)] * 2))
    total = multiply_adds("mobilenet3-") + shared + squeeze + 960 * 1280 + 1280 * 1000
    assert total == pytest.approx(219e6, rel=0.015)  # table 3 of the paper


def test_batch_16_is_resnet_50_again():
    once, many = ([c for c in CONVOLUTIONS if c.group == group] for group in ("resnet-50", "resnet-50-n16"))
    assert [(f"{c.name}-n16", f"n16{c.layer}", c.times) for c in once] == [(c.name, c.layer, c.times) for c in many]


@named(CONVOLUTIONS)
def test_fastconv_takes_the_layer_and_means_the_same_by_it(case):
    w = np.broadcast_to(np.float32(1), case.spec.w_shape)
    explained = fastconv.explain(case.spec.x_shape, w, np.ones(case.spec.oc, "float32"), **case.options)
    assert explained.spec == case.spec and explained.chosen


@named(POOLS)
def test_fastconv_pools_to_the_shape_that_the_case_says(case):
    spec = case.spec
    pool = getattr(fastconv, f"{case.op}{len(spec.input_size)}d")
    out = pool(np.ones((1, 1, *spec.input_size), "float32"), spec.kernel_size, spec.stride, spec.padding)
    assert (spec.n, spec.c, *out.shape[2:]) == case.out_shape


def test_operations_and_bytes_are_counted_by_the_direct_algorithm():
    case = Case("some", "n2ic3ih5oc4k3", "test", "")
    assert (case.flops, case.bytes) == (2 * 2 * 4 * 9 * 27, 4 * (2 * 3 * 25 + 4 * 27 + 2 * 4 * 9))
    pool = PoolCase("some", "n2ic3ih6k2s2", "test", "", "max_pool")
    assert (pool.flops, pool.bytes, pool.out_shape) == (2 * 3 * 9 * 4, 4 * (2 * 3 * 36 + 2 * 3 * 9), (2, 3, 3, 3))


def test_the_arrays_of_a_case_stay():
    case = cases.find("tiny-8x16")
    first, again = cases.arrays(case), cases.arrays(case)
    assert np.array_equal(first.x, again.x) and np.array_equal(first.w, again.w)
    assert set(np.unique(cases.arrays(case, whole=True).x)) == set(range(-4, 5))


def test_a_pooling_has_an_image_and_nothing_else():
    data = cases.arrays(cases.find("resnet-global-avg"))
    assert (data.x.shape, data.x.dtype) == ((1, 2048, 7, 7), "float32")
    assert data.w.size == 0 and data.bias is data.residual is None


def test_the_reference_is_right_on_the_textbook_example():
    case = Case("textbook", "ih3k2", "test", "d2l.ai, section 7.2", bias=False)
    x, w = np.arange(9.0).reshape(1, 1, 3, 3), np.arange(4.0).reshape(1, 1, 2, 2)
    assert reference.conv(x, w, None, case.spec).tolist() == [[[[19, 25], [37, 43]]]]


@named(
    [
        Case("even-filter", "n3ih9iw11kh2kw5pt1pl2", "test", ""),
        *map(cases.find, ("filter-25x25", "dilation-3x2-stride-2", "asymmetric-padding", "groups-3-stride-2")),
        *map(cases.find, ("depthwise-stride-2", "reflect-5x5-stride-2", "1-D-long", "3-D-strides", "NHWC-1x1")),
    ]
)
def test_the_reference_is_what_the_definition_gives(case):
    data, spec = cases.arrays(case), case.spec
    options = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "groups": spec.g,
               "padding_mode": spec.padding_mode, "channels_last": spec.channels_last}  # fmt: skip
    wanted = oracle.convolve(data.x, data.w, **options)
    wanted += data.bias.reshape([-1] + [1] * (0 if spec.channels_last else spec.ndim))
    found = reference.expected(case, data)
    assert found.dtype == np.float64 and found.shape == case.out_shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_a_maximum_by_hand_where_padding_never_wins():
    case = PoolCase("hand", "ih4k3s2p1", "test", "", "max_pool")
    data = cases.Arrays(-np.arange(16, dtype="float32").reshape(1, 1, 4, 4), np.empty(0), None, None)
    assert reference.expected(case, data).tolist() == [[[[0, -1], [-4, -5]]]]


def test_a_mean_by_hand_where_padding_counts():
    case = PoolCase("hand", "ih4k3s2p1", "test", "", "avg_pool")
    data = cases.Arrays(9 * np.arange(16, dtype="float32").reshape(1, 1, 4, 4), np.empty(0), None, None)
    assert reference.expected(case, data).tolist() == [[[[0 + 1 + 4 + 5, 1 + 2 + 3 + 5 + 6 + 7], [51, 90]]]]


@named([PoolCase(layer, layer, "test", "", "") for layer in ("ic3iw20k4s3p1", "n2ic3ih9iw7k3s2p1", "ic2id5ih6iw7k2")])
def test_pools_are_those_of_torch(case):
    torch = pytest.importorskip("torch")
    x, spec = cases.arrays(case).x, case.spec
    padding = tuple(before for before, _ in spec.pads)
    for op in ("max_pool", "avg_pool"):
        pool = getattr(torch.nn.functional, f"{op}{len(spec.input_size)}d")
        wanted = pool(torch.from_numpy(x).double(), spec.kernel_size, spec.stride, padding)
        np.testing.assert_allclose(reference.pool(x, spec, op), wanted, rtol=0, atol=1e-14)
    assert math.prod(case.out_shape) == wanted.numel()
