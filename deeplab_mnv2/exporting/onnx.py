"""ONNX: the graph built directly, channels first, norm folded, batch left free."""

import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from deeplab_mnv2.config import DeepLabConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.graph import (
    IMAGE,
    LOGITS,
    Add,
    Concat,
    Convolution,
    Flatten,
    Graph,
    Operation,
    Pool,
    trace,
)
from deeplab_mnv2.exporting.target import Network, Run, Target

# Old enough for OpenCV, whose Resize knows no axes (opset 18).
_OPSET, _IR_VERSION = 13, 7
LABEL = "label"


def build(model: Network, target: Target, calibration: list[np.ndarray]) -> bytes:
    """Return an ONNX file for images (batch, channels, H, W) float32, normalised.

    The output is `logits` (batch, classes, H', W') float32, or with `argmax` `label`
    (batch, H', W') uint8; a classifier's are (batch, classes) and (batch,) int32. Labels,
    normalisation and a classifier's scaling are in the model's metadata, as JSON.

    Raises:
        UserError: the target asks for int8.
    """
    if target.precision == "int8":
        raise UserError("ONNX files are float32 or float16; set --format litert for int8.")
    graph = trace(model, target.size, upsample=target.resize)
    writer = _Writer(graph, half=target.precision == "float16")
    for operation in graph.operations:
        writer.write(operation)
    *rows_and_columns, classes = graph.shapes[LOGITS]
    shape = ["batch", classes, *rows_and_columns]
    output = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, shape)
    if target.argmax:
        kind = TensorProto.UINT8 if rows_and_columns else TensorProto.INT32
        writer.node("ArgMax", [LOGITS], "class", axis=1, keepdims=0)
        writer.node("Cast", ["class"], LABEL, to=kind)
        output = helper.make_tensor_value_info(LABEL, kind, ["batch", *rows_and_columns])
    height, width, channels = graph.shapes[IMAGE]
    image = helper.make_tensor_value_info(
        IMAGE, TensorProto.FLOAT, ["batch", channels, height, width]
    )
    proto = helper.make_model(
        helper.make_graph(writer.nodes, "deeplab_mnv2", [image], [output], writer.constants),
        producer_name="deeplab_mnv2",
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    helper.set_model_props(proto, _metadata(model, target))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def load(content: bytes, model: Network) -> Run:
    """Return the file's content as a function, run by ONNX Runtime."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> np.ndarray:
        pixels = np.asarray(model.normalize(image)).transpose(0, 3, 1, 2)
        output = np.asarray(session.run(None, {IMAGE: np.ascontiguousarray(pixels)})[0])
        return output.transpose(0, 2, 3, 1) if output.ndim == 4 else output

    return run


def _metadata(model: Network, target: Target) -> dict[str, str]:
    values = {
        "class_names": target.class_names,
        "image_mean": model.config.image_mean,
        "image_std": model.config.image_std,
        "colour_order": "RGB",
        "normalization": "(grey level 0-255 - image_mean) / image_std",
        **target.scaling,
    }
    if isinstance(model.config, DeepLabConfig):
        values["padding"] = "at the bottom and right, with image_mean"
        values["output_stride"] = model.config.output_stride
    return {name: json.dumps(value) for name, value in values.items()}


class _Writer:
    def __init__(self, graph: Graph, half: bool):
        self.graph = graph
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def write(self, operation: Operation) -> None:
        inputs, output = _inputs(operation), operation.output
        if isinstance(operation, Convolution):
            self.convolution(operation)
        elif isinstance(operation, Add):
            self.node("Add", inputs, output)
        elif isinstance(operation, Concat):
            self.node("Concat", inputs, output, axis=1)
        elif isinstance(operation, Pool):
            if operation.window == self.graph.shapes[operation.input][:2]:
                self.node("GlobalAveragePool", inputs, output)
            else:
                self.node("AveragePool", inputs, output, kernel_shape=operation.window)
        elif isinstance(operation, Flatten):
            self.node("Flatten", inputs, output, axis=1)
        else:
            before, size = (self.graph.shapes[name][:2] for name in (operation.input, output))
            if before == (1, 1):
                shape = self.constant(f"{output}.shape", np.array([1, 1, *size], np.int64))
                self.node("Expand", [*inputs, shape], output)
                return
            # Scales, not sizes, which would name the batch's.
            factors = [1, 1, *(_factor(*lengths) for lengths in zip(before, size, strict=True))]
            scales = self.constant(f"{output}.scales", np.array(factors, np.float32))
            rule = "align_corners" if operation.align_corners else "half_pixel"
            self.node(
                "Resize",
                [*inputs, "", scales],
                output,
                mode="linear",
                coordinate_transformation_mode=rule,
            )

    def convolution(self, conv: Convolution) -> None:
        # (k, k, I, O) to (O, I, k, k); depthwise (k, k, 1, C) to (C, 1, k, k).
        kernel = self.weight(f"{conv.output}.weight", conv.kernel.transpose(3, 2, 0, 1))
        bias = self.constant(f"{conv.output}.bias", conv.bias)
        (top, bottom), (left, right) = conv.pads
        linear = conv.output if conv.activation == "none" else f"{conv.output}.linear"
        self.node(
            "Conv",
            [conv.input, kernel, bias],
            linear,
            kernel_shape=conv.kernel.shape[:2],
            strides=[conv.stride] * 2,
            dilations=[conv.dilation] * 2,
            group=conv.kernel.shape[-1] if conv.depthwise else 1,
            pads=[top, left, bottom, right],
        )
        if conv.activation == "relu":
            self.node("Relu", [linear], conv.output)
        elif conv.activation == "relu6":
            bounds = [self.scalar("zero", 0.0), self.scalar("six", 6.0)]
            self.node("Clip", [linear, *bounds], conv.output)

    def weight(self, name: str, array: np.ndarray) -> str:
        if not self.half:
            return self.constant(name, array)
        stored = self.constant(f"{name}.half", array.astype(np.float16))
        self.node("Cast", [stored], name, to=TensorProto.FLOAT)
        return name

    def scalar(self, name: str, value: float) -> str:
        if all(constant.name != name for constant in self.constants):
            self.constant(name, np.array(value, np.float32))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))


def _inputs(operation: Operation) -> list[str]:
    if isinstance(operation, Add | Concat):
        return list(operation.inputs)
    return [operation.input]


def _factor(length: int, new_length: int) -> np.float32:
    """Return the scale that makes one length of another, where runtimes round down."""
    factor = np.float32(new_length / length)
    if float(factor) * length < new_length:
        factor = np.nextafter(factor, np.float32(np.inf))
    return factor
