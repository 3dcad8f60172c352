"""Rivals that run models: ONNX Runtime and OpenVINO, on the same model of one node."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case
from fastconv.bench.peers.peer import Call, Peer, aligned, channels_last, common, fastest, plain


def model(case: AnyCase, data: Arrays) -> bytes:
    """The case as an ONNX model from 'x' to 'y', weights inside."""
    if isinstance(case, Case):
        plain(case)
    common(case)
    from onnx import TensorProto, helper, numpy_helper

    constants = []
    if isinstance(case, Case):
        layer = case.spec
        given = (("w", data.w), ("b", data.bias))
        constants = [numpy_helper.from_array(array, name) for name, array in given if array is not None]
        node = helper.make_node(
            "Conv", ["x", *(c.name for c in constants)], ["y"], kernel_shape=layer.kernel_size, strides=layer.stride,
            pads=_pads(layer.padding), dilations=layer.dilation, group=layer.g,
        )  # fmt: skip
    else:
        spec = case.spec
        options: dict[str, Any] = {"kernel_shape": spec.kernel_size, "strides": spec.stride, "pads": _pads(spec.pads)}
        if case.op == "avg_pool":
            node = helper.make_node("AveragePool", ["x"], ["y"], count_include_pad=1, **options)
        else:
            node = helper.make_node("MaxPool", ["x"], ["y"], **options)
    graph = helper.make_graph(
        [node], "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, data.x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, case.out_shape)],
        constants,
    )  # fmt: skip
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return made


def _pads(padding: tuple[tuple[int, int], ...]) -> list[int]:
    return [before for before, _ in padding] + [after for _, after in padding]


def _onnxruntime(case: AnyCase, data: Arrays, threads: int) -> Call:
    made = model(case, data)
    import onnxruntime

    x, out = aligned(data.x), aligned(np.zeros(case.out_shape, np.float32))

    def build(level: Any) -> Call:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
        binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)

        def call(kept: np.ndarray = x) -> np.ndarray:  # the binding has only its address
            session.run_with_iobinding(binding)
            return out

        return call

    levels = onnxruntime.GraphOptimizationLevel
    return fastest(build, (levels.ORT_ENABLE_ALL, levels.ORT_ENABLE_EXTENDED))


def _openvino(case: AnyCase, data: Arrays, threads: int) -> Call:
    made = model(case, data)
    import openvino

    core: Any = openvino.Core()
    network = core.read_model(made)
    last = isinstance(case, Case)  # poolings are faster channels first
    x, out = (channels_last if last else aligned)(data.x), aligned(np.zeros(case.out_shape, np.float32))
    if last:
        out = channels_last(out)
        space = "DHW"[5 - x.ndim :]
        ends = openvino.preprocess.PrePostProcessor(network)
        for end in (ends.input(), ends.output()):
            end.tensor().set_layout(openvino.Layout(f"N{space}C"))
            end.model().set_layout(openvino.Layout(f"NC{space}"))
        network = ends.build()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(out, shared_memory=True))
    result = np.moveaxis(out, -1, 1) if last else out

    def call(kept: np.ndarray = x) -> np.ndarray:  # the tensor has only its address
        request.infer()
        return result

    return call


PEERS = (
    Peer(
        name="onnxruntime",
        title="ONNX Runtime",
        distribution="onnxruntime",
        modules=("onnxruntime", "onnx"),
        setting=(
            "a model of one node with the weights inside, input and output bound to the arrays, spinning threads as "
            "by default; optimised with and without its own blocked layout, the faster of the two kept: the layout "
            "wastes room where channels are few"
        ),
        prepare=_onnxruntime,
    ),
    Peer(
        name="openvino",
        title="OpenVINO",
        distribution="openvino",
        modules=("openvino", "onnx"),
        setting=(
            "the same model, latency hint, one stream, float32 forced, tensors that share the arrays' memory; x and "
            "the result of convolutions channels last, which spares it reorders, those of poolings channels first"
        ),
        prepare=_openvino,
    ),
)
