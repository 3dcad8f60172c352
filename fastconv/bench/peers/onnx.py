"""Rivals that run models: ONNX Runtime and OpenVINO, on the same model of one node."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.bench.case import AnyCase, Arrays, Case
from fastconv.bench.peers.peer import Call, Peer, aligned, common, plain


def model(case: AnyCase, data: Arrays) -> bytes:
    """The case as an ONNX model from 'x' to 'y', weights inside."""
    from onnx import TensorProto, helper, numpy_helper

    constants = []
    if isinstance(case, Case):
        layer = plain(case)
        given = (("w", data.w), ("b", data.bias))
        constants = [numpy_helper.from_array(array, name) for name, array in given if array is not None]
        node = helper.make_node(
            "Conv", ["x", *(c.name for c in constants)], ["y"], kernel_shape=layer.kernel_size, strides=layer.stride,
            pads=_pads(layer.padding), dilations=layer.dilation, group=layer.g,
        )  # fmt: skip
    else:
        common(case)
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

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    x, out = aligned(data.x), aligned(np.zeros(case.out_shape, np.float32))
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)

    def call(kept: np.ndarray = x) -> np.ndarray:  # the binding has only its address
        session.run_with_iobinding(binding)
        return out

    return call


def _openvino(case: AnyCase, data: Arrays, threads: int) -> Call:
    made = model(case, data)
    import openvino

    core: Any = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(core.read_model(made), "CPU", settings).create_infer_request()
    x, out = aligned(data.x), aligned(np.zeros(case.out_shape, np.float32))
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(out, shared_memory=True))

    def call(kept: np.ndarray = x) -> np.ndarray:  # the tensor has only its address
        request.infer()
        return out

    return call


PEERS = (
    Peer(
        name="onnxruntime",
        title="ONNX Runtime",
        distribution="onnxruntime",
        modules=("onnxruntime", "onnx"),
        setting=(
            "a model of one node with the weights inside, all graph optimisations (among them its own blocked "
            "layout), input and output bound to the arrays, spinning threads as by default"
        ),
        prepare=_onnxruntime,
    ),
    Peer(
        name="openvino",
        title="OpenVINO",
        distribution="openvino",
        modules=("openvino", "onnx"),
        setting=("the same model, latency hint, one stream, float32 forced, tensors that share the arrays' memory"),
        prepare=_openvino,
    ),
)
