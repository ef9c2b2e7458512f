"""Operations as nodes of an ONNX graph, channels first."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deeplab_mnv2.exporting.graph import (
    IMAGE,
    Add,
    Concat,
    Convolution,
    Graph,
    Operation,
    Pool,
    Reshape,
    Resize,
)
from deeplab_mnv2.exporting.integers import activation_scale, kernel_integers
from deeplab_mnv2.weights.naming import is_early

_ROUNDED_IMAGE = f"{IMAGE}.rounded"


class Writer:
    """The nodes and constants of a graph; kernels are stored in `precision`.

    With `any_size` nothing in them depends on the size of the images, for which the graph has an
    example.

    With int8, each tensor that has a range passes through integers, and its name is that of what
    comes out, rounded; before, it is called `NAME.float`.
    """

    def __init__(self, graph: Graph, precision: str, *, any_size: bool = False):
        self.graph = graph
        self.precision = precision
        self.any_size = any_size
        self.ranges = graph.ranges if precision == "int8" else {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.scales: dict[str, list[str]] = {}

    def write_all(self) -> None:
        """Write every operation of the graph."""
        if IMAGE in self.ranges:
            self.round(IMAGE, IMAGE, _ROUNDED_IMAGE)
        for operation in self.graph.operations:
            name = operation.output
            if name not in self.ranges:
                self.write(operation, name)
                continue
            self.write(operation, f"{name}.float")
            self.round(name, f"{name}.float", name)

    def write(self, operation: Operation, output: str) -> None:
        """Write an operation whose result is called `output`."""
        inputs = [self.read(name) for name in _inputs(operation)]
        if isinstance(operation, Convolution):
            self.convolution(operation, inputs[0], output)
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
            self.reshape(operation, inputs[0], output)
        else:
            self.resize(operation, inputs[0], output)

    def convolution(self, conv: Convolution, x: str, output: str) -> None:
        # (k, k, I, O) to (O, I, k, k); depthwise (k, k, 1, C) to (C, 1, k, k).
        order = (3, 2, 0, 1)
        if conv.input in self.ranges:
            kernel, bias = self.integers(conv, order)
        else:
            kernel = self.weight(f"{conv.output}.weight", conv.kernel.transpose(order))
            bias = self.constant(f"{conv.output}.bias", conv.bias)
        (top, bottom), (left, right) = conv.pads
        # A range ends where the activation cuts off.
        activation = "none" if conv.output in self.ranges else conv.activation
        linear = output if activation == "none" else f"{output}.linear"
        self.node(
            "Conv",
            [x, kernel, bias],
            linear,
            kernel_shape=conv.kernel.shape[:2],
            strides=[conv.stride] * 2,
            dilations=[conv.dilation] * 2,
            group=conv.kernel.shape[-1] if conv.depthwise else 1,
            pads=[top, left, bottom, right],
        )
        if activation == "relu":
            self.node("Relu", [linear], output)
        elif activation == "relu6":
            bounds = [self.scalar("zero", 0.0), self.scalar("six", 6.0)]
            self.node("Clip", [linear, *bounds], output)

    def integers(self, conv: Convolution, order: tuple[int, ...]) -> tuple[str, str]:
        """Write kernel (int8) and bias (int32) of a convolution; return what stands for them."""
        kernel, scale = kernel_integers(conv.kernel)
        input_scale, _ = activation_scale(self.ranges[conv.input])
        unit = input_scale * scale
        names = f"{conv.output}.weight", f"{conv.output}.bias"
        values = kernel.transpose(order), np.rint(conv.bias / unit).astype(np.int32)
        for name, value, step in zip(names, values, (scale, unit), strict=True):
            stored = [
                self.constant(f"{name}.integers", value),
                self.constant(f"{name}.scale", step),
                self.constant(f"{name}.zero", np.zeros(step.shape, value.dtype)),
            ]
            self.node("DequantizeLinear", stored, name, axis=0)
        return names

    def round(self, name: str, before: str, after: str) -> None:
        """Write a tensor's way through the integers of its range."""
        ends = self.ranges[name]
        # Tensors of one range have one constant, by which runtimes see that nothing changes.
        key = "range {:.9g} {:.9g}".format(*ends)
        if key not in self.scales:
            scale, zero = activation_scale(ends)
            self.scales[key] = [
                self.constant(f"{key}.scale", scale),
                self.constant(f"{key}.zero", zero),
            ]
        self.node("QuantizeLinear", [before, *self.scales[key]], f"{name}.integers")
        self.node("DequantizeLinear", [f"{name}.integers", *self.scales[key]], after)

    def read(self, name: str) -> str:
        """Return what an operation reads of a tensor."""
        return _ROUNDED_IMAGE if name == IMAGE and IMAGE in self.ranges else name

    def resize(self, operation: Resize, x: str, output: str) -> None:
        shapes = self.graph.shapes
        before, size = (shapes[name][:2] for name in (operation.input, operation.output))
        if before == (1, 1):
            if self.any_size:
                shape = self.shape(output, x, operation.like)
            else:
                shape = self.constant(f"{output}.shape", np.array([1, 1, *size], np.int64))
            self.node("Expand", [x, shape], output)
            return
        if self.any_size:
            wanted = ["", self.shape(output, x, operation.like)]
        else:
            # Scales, not sizes, which would name the batch's.
            factors = [1, 1, *(_factor(*lengths) for lengths in zip(before, size, strict=True))]
            wanted = [self.constant(f"{output}.scales", np.array(factors, np.float32))]
        rule = "align_corners" if operation.align_corners else "half_pixel"
        self.node(
            "Resize",
            [x, "", *wanted],
            output,
            mode="linear",
            coordinate_transformation_mode=rule,
        )

    def shape(self, output: str, x: str, like: str) -> str:
        """Write batch and channels of `x` with height and width of `like`, found at run time."""
        parts = {f"{output}.batch_and_channels": (x, 0), f"{output}.size": (like, 2)}
        for part, (of, start) in parts.items():
            bounds = {f"{part}.start": start, f"{part}.end": start + 2}
            for name, bound in bounds.items():
                self.constant(name, np.array([bound], np.int64))
            self.node("Shape", [of], f"{part}.shape")
            self.node("Slice", [f"{part}.shape", *bounds], part)
        self.node("Concat", [*parts], f"{output}.shape", axis=0)
        return f"{output}.shape"

    def reshape(self, operation: Reshape, x: str, output: str) -> None:
        shape = self.graph.shapes[operation.output]
        if len(shape) == 1:
            self.node("Flatten", [x], output, axis=1)
            return
        last = f"{output}.channels_last"
        self.node("Transpose", [x], last, perm=[0, 2, 3, 1])
        # 0 is the batch, whatever it is.
        size = self.constant(f"{output}.shape", np.array([0, *shape], np.int64))
        self.node("Reshape", [last, size], output)

    def weight(self, name: str, array: np.ndarray) -> str:
        if self.precision != "float16" or is_early(name):
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
