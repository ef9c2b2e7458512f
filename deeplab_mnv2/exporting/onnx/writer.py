"""Operations as nodes of an ONNX graph, channels first."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deeplab_mnv2.exporting.graph import (
    Add,
    Concat,
    Convolution,
    Graph,
    Operation,
    Pool,
    Reshape,
)


class Writer:
    """The nodes and constants of a graph; with `half`, kernels are stored as float16."""

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
        elif isinstance(operation, Reshape):
            self.reshape(operation)
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

    def reshape(self, operation: Reshape) -> None:
        shape = self.graph.shapes[operation.output]
        if len(shape) == 1:
            self.node("Flatten", [operation.input], operation.output, axis=1)
            return
        last = f"{operation.output}.channels_last"
        self.node("Transpose", [operation.input], last, perm=[0, 2, 3, 1])
        # 0 is the batch, whatever it is.
        size = self.constant(f"{operation.output}.shape", np.array([0, *shape], np.int64))
        self.node("Reshape", [last, size], operation.output)

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

    def node(self, kind: str, inputs: list[str], *outputs: str, **attributes) -> None:
        node = helper.make_node(kind, inputs, list(outputs), name=outputs[0], **attributes)
        self.nodes.append(node)


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
