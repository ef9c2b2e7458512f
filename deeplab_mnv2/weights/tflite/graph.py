"""TFLite files: float32, float16, uint8 and int8 weights, in every notation of converters."""

from collections.abc import Callable

import numpy as np
import tflite

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.ops.taps import Window
from deeplab_mnv2.weights.graph import Add, Concat, Conv, Graph, Node, Pool, Resize
from deeplab_mnv2.weights.model_weights import Weights
from deeplab_mnv2.weights.tflite.file import DAMAGED, Operation, TfliteFile, read_labels
from deeplab_mnv2.weights.walk import from_graph

_ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: "none",
    tflite.ActivationFunctionType.RELU: "relu",
    tflite.ActivationFunctionType.RELU6: "relu6",
}


def read_tflite(path: str, provenance: dict[str, str]) -> Weights:
    """Return the weights of a float or quantised TFLite file.

    Raises:
        UserError: the file is damaged or its graph is not a network of this family.
    """
    try:
        graph = build_graph(TfliteFile(path), path)
    except DAMAGED as error:
        raise UserError(
            f"{path} is a damaged TFLite file ({type(error).__name__}); fetch it again."
        ) from error
    weights = from_graph(graph, {**provenance, "importer": "tflite"})
    if weights.kind != "backbone":
        weights.class_names = read_labels(path, weights.config.num_classes)
    return weights


def build_graph(file: TfliteFile, path: str) -> Graph:
    """Return the graph of an open file; `path` is named in errors."""
    builder = _Builder(file, path)
    for operation in file.operations:
        builder.add(operation)
    return Graph(builder.nodes, file.input, file.image_scale())


class _Builder:
    """Takes operations in order; the tables below remember what notation stands for what."""

    def __init__(self, file: TfliteFile, path: str):
        self.file = file
        self.path = path
        self.nodes: list[Node] = []
        # Tensor -> the tensor that it is in another notation.
        self.alias: dict[int, int] = {}
        # Tensor -> begin and end of its padding, rows then columns.
        self.padding: dict[int, list[list[int]]] = {}
        # Tensor between SPACE_TO_BATCH and BATCH_TO_SPACE -> dilation.
        self.dilation: dict[int, int] = {}
        # Tensor -> constant that an operation made of a stored one.
        self.unpacked: dict[int, np.ndarray] = {}

    def add(self, operation: Operation) -> None:
        method = _METHODS.get(operation.name)
        if method is None:
            raise self.other(f"no MobileNetV2 or DeepLab has the operation {operation.name}")
        method(self, operation)

    def conv(self, op: Operation) -> None:
        depthwise = op.name == "DEPTHWISE_CONV_2D"
        options = op.options(tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
        # Stored as (O, k, k, I), or (1, k, k, C) where depthwise.
        order = (1, 2, 0, 3) if depthwise else (1, 2, 3, 0)
        kernel = self.constant(op.inputs[1]).transpose(order)
        size, stride = kernel.shape[0], options.StrideH()
        if kernel.shape[1] != size or options.StrideW() != stride:
            raise self.other("a kernel or its stride is not square")
        dilation = self.dilation.get(op.inputs[0], options.DilationHFactor())
        if op.inputs[0] in self.dilation:
            self.dilation[op.output] = dilation
        source = self.source(op.inputs[0])
        rules = {
            padding: [
                list(Window(stride, dilation, padding).axis_edges(n, size))
                for n in self.file.shape(source)[1:3]
            ]
            for padding in ("same", "symmetric")
        }
        found = self.padding.get(op.inputs[0], [[0, 0], [0, 0]])
        if options.Padding() == tflite.Padding.SAME:
            found = rules["same"]
        self.nodes.append(
            Conv(
                source,
                op.output,
                kernel,
                self.bias(op, kernel.shape[-1]),
                self.activation(options),
                depthwise,
                stride,
                dilation,
                frozenset(name for name, rule in rules.items() if rule == found),
            )
        )

    def fully_connected(self, op: Operation) -> None:
        kernel = self.constant(op.inputs[1]).T[None, None]  # (O, I) -> (1, 1, I, O)
        activation = self.activation(op.options(tflite.FullyConnectedOptions))
        bias = self.bias(op, kernel.shape[-1])
        self.nodes.append(Conv(self.source(op.inputs[0]), op.output, kernel, bias, activation))

    def sum(self, op: Operation) -> None:
        activation = self.activation(op.options(tflite.AddOptions))
        constants = [tensor for tensor in op.inputs if self.is_constant(tensor)]
        if constants:
            conv = self.open_conv(op)
            conv.bias = conv.bias + self.constant(constants[0]).reshape(-1)
            conv.activation = activation
        elif activation != "none":
            raise self.other("a shortcut has an activation")
        else:
            self.nodes.append(Add([self.source(tensor) for tensor in op.inputs], op.output))

    def product(self, op: Operation) -> None:
        conv = self.open_conv(op)
        factors = [self.constant(tensor) for tensor in op.inputs if self.is_constant(tensor)]
        if len(factors) != 1:
            raise self.other("two activations are multiplied")
        factor = factors[0].reshape(-1)
        conv.kernel, conv.bias = conv.kernel * factor, conv.bias * factor
        conv.activation = self.activation(op.options(tflite.MulOptions))

    def relu(self, op: Operation) -> None:
        self.open_conv(op).activation = op.name.lower()

    def average_pool(self, op: Operation) -> None:
        options = op.options(tflite.Pool2DOptions)
        source = self.source(op.inputs[0])
        window = [options.FilterHeight(), options.FilterWidth()]
        # Wherever a window as large as the image stands, it averages all of it.
        if window != self.file.shape(source)[1:3] or self.file.shape(op.output)[1:3] != [1, 1]:
            raise self.other(f"it pools over {window} pixels, not over the whole image")
        self.nodes.append(Pool(source, op.output))

    def mean(self, op: Operation) -> None:
        if sorted(self.constant(op.inputs[1]).reshape(-1)) != [1, 2]:
            raise self.other("it takes means over something else than the image")
        self.nodes.append(Pool(self.source(op.inputs[0]), op.output))

    def resize(self, op: Operation) -> None:
        options = op.options(tflite.ResizeBilinearOptions)
        source = self.source(op.inputs[0])
        size = self.file.shape(source)[1:3]
        align_corners: bool | None = bool(options.AlignCorners())
        if size in ([1, 1], self.file.shape(op.output)[1:3]):
            align_corners = None
        elif not align_corners and not options.HalfPixelCenters():
            raise self.other("it resizes by TensorFlow 1's rule without align_corners")
        self.nodes.append(Resize(source, op.output, align_corners))

    def concatenation(self, op: Operation) -> None:
        self.nodes.append(Concat([self.source(tensor) for tensor in op.inputs], op.output))

    def pad(self, op: Operation) -> None:
        self.padding[op.output] = self.constant(op.inputs[1])[1:3].astype(int).tolist()
        self.alias[op.output] = self.source(op.inputs[0])

    def space_to_batch(self, op: Operation) -> None:
        block, padding = (self.constant(tensor).astype(int) for tensor in op.inputs[1:3])
        # The end is padded further, up to a multiple of the block, and cropped afterwards.
        self.padding[op.output] = [[int(begin), int(begin)] for begin, _ in padding]
        self.dilation[op.output] = int(block[0])
        self.alias[op.output] = self.source(op.inputs[0])

    def rewrite(self, op: Operation) -> None:
        if self.is_constant(op.inputs[0]):
            self.unpacked[op.output] = self.constant(op.inputs[0])
        else:
            self.alias[op.output] = self.source(op.inputs[0])

    def reshape(self, op: Operation) -> None:
        # Only a vector means the same in another shape; anything else ends here.
        if sum(n != 1 for n in self.file.shape(op.inputs[0])) <= 1:
            self.rewrite(op)

    def end(self, op: Operation) -> None:
        """Leave out what makes classes or probabilities of logits."""

    def source(self, tensor: int) -> int:
        return self.alias.get(tensor, tensor)

    def open_conv(self, op: Operation) -> Conv:
        """Return the convolution that an operation adds to, which no activation has closed."""
        inputs = [self.source(tensor) for tensor in op.inputs]
        for node in self.nodes:
            if isinstance(node, Conv) and node.output in inputs and node.activation == "none":
                self.alias[op.output] = node.output
                return node
        raise self.other(f"a {op.name} follows no convolution")

    def activation(self, options) -> str:
        code = options.FusedActivationFunction()
        if code not in _ACTIVATIONS:
            raise self.other("it has an activation other than ReLU and ReLU6")
        return _ACTIVATIONS[code]

    def bias(self, op: Operation, channels: int) -> np.ndarray:
        if len(op.inputs) < 3 or op.inputs[2] < 0:
            return np.zeros(channels, np.float32)
        return self.constant(op.inputs[2])

    def is_constant(self, tensor: int) -> bool:
        return tensor in self.unpacked or self.file.is_constant(tensor)

    def constant(self, tensor: int) -> np.ndarray:
        return self.unpacked[tensor] if tensor in self.unpacked else self.file.constant(tensor)

    def other(self, what: str) -> UserError:
        return UserError(f"{self.path} holds another network than this family's: {what}.")


_METHODS: dict[str, Callable[[_Builder, Operation], None]] = {
    "CONV_2D": _Builder.conv,
    "DEPTHWISE_CONV_2D": _Builder.conv,
    "FULLY_CONNECTED": _Builder.fully_connected,
    "ADD": _Builder.sum,
    "MUL": _Builder.product,
    "RELU": _Builder.relu,
    "RELU6": _Builder.relu,
    "AVERAGE_POOL_2D": _Builder.average_pool,
    "MEAN": _Builder.mean,
    "RESIZE_BILINEAR": _Builder.resize,
    "CONCATENATION": _Builder.concatenation,
    "PAD": _Builder.pad,
    "SPACE_TO_BATCH_ND": _Builder.space_to_batch,
    "BATCH_TO_SPACE_ND": _Builder.rewrite,
    "QUANTIZE": _Builder.rewrite,
    "DEQUANTIZE": _Builder.rewrite,
    "CAST": _Builder.rewrite,
    "FAKE_QUANT": _Builder.rewrite,
    "RESHAPE": _Builder.reshape,
    "SQUEEZE": _Builder.reshape,
    "SOFTMAX": _Builder.end,
    "ARG_MAX": _Builder.end,
}
