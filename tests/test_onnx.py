"""ONNX's own node cases whose graph has a Conv, with that Conv computed by each backend."""

import pytest
from onnx_cases import cases, padding, same

pytest.importorskip("onnx", reason="run 'pip install onnx'")

SINGLE = (
    "test_basic_conv_with_padding",
    "test_basic_conv_without_padding",
    "test_conv_with_autopad_same",
    "test_conv_with_strides_and_asymmetric_padding",
    "test_conv_with_strides_no_padding",
    "test_conv_with_strides_padding",
)
CAUSAL = tuple(
    f"test_causal_conv_with_state_{variant}_expanded"
    for variant in (
        "b1_c1_degenerate", "basic", "decode_step", "kernel_size_one", "short_input_no_past_state", "silu",
        "silu_with_past_state", "swish_alias", "with_bias", "with_bias_and_past_state", "with_past_state",
    )
)  # fmt: skip
HALF = ("test_causal_conv_with_state_fp16_expanded", "test_causal_conv_with_state_silu_fp16_expanded")


def arguments(ndim, auto_pad="NOTSET", dilations=None, group=1, pads=None, strides=None):
    """The attributes of ONNX's Conv as arguments of conv1d, conv2d and conv3d."""
    sides = padding(ndim, auto_pad, pads)
    return {"stride": strides or 1, "padding": sides, "dilation": dilations or 1, "groups": group or 1}


def run(case, convolve):
    """The outputs of a case, its Conv replaced by ``convolve``."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Conv(OpRun):
        op_domain = ""

        def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, pads=None,
                 strides=None):  # fmt: skip
            ndim = w.ndim - 2
            assert kernel_shape is None or tuple(kernel_shape) == w.shape[2:]
            layer = arguments(ndim, auto_pad, dilations, group, pads, strides)
            return (convolve(ndim, x, w, b, **layer),)

    graph = ReferenceEvaluator(case.model, new_ops=[Conv])
    names = [i.name for i in case.model.graph.input]
    for inputs, expected in case.data_sets:
        yield graph.run(None, dict(zip(names, inputs, strict=True))), expected


@pytest.fixture
def counted(convolve):
    """``convolve``, counting what it computed."""

    def call(*args, **options):
        result = convolve(*args, **options)
        call.times += 1
        return result

    call.times = 0
    return call


@pytest.mark.parametrize("name", SINGLE + CAUSAL)
def test_case(counted, name):
    for outputs, expected in run(cases("Conv")[name], counted):
        for result, right in zip(outputs, expected, strict=True):
            same(result, right)
    assert counted.times == len(cases("Conv")[name].data_sets)


@pytest.mark.parametrize("name", HALF)
def test_half_precision_case_is_refused_by_name(convolve, name):
    with pytest.raises(TypeError) as caught:  # ONNX's own, about what the operator raised
        list(run(cases("Conv")[name], convolve))
    assert "x has dtype float16, which no backend computes" in str(caught.value.__cause__)


def test_these_are_all_19_cases():
    assert set(cases("Conv")) == {*SINGLE, *CAUSAL, *HALF}
    assert len(cases("Conv")) == 19


def test_attributes_translate():
    assert arguments(2, pads=[1, 2, 3, 4])["padding"] == [(1, 3), (2, 4)]
    assert arguments(1, auto_pad="SAME_UPPER", strides=[2])["padding"] == "same"
