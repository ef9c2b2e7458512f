"""TensorFlow frozen graphs: a GraphDef whose variables are constants, norm folded or not."""

from collections.abc import Callable, Sequence

import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.frozen_graph.detection import DetectionWalk
from deeplab_mnv2.weights.frozen_graph.file import DAMAGED, Operation, read_operations
from deeplab_mnv2.weights.graph import Add, Concat, Conv, Graph, Node, Norm, Pool, Resize
from deeplab_mnv2.weights.model_weights import Weights
from deeplab_mnv2.weights.walk import Walk, from_walk

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# TensorFlow's own default of the attribute, which exports may leave out.
_EPSILON = 1e-4
# `tf.nn.fused_batch_norm` raises every smaller one to this, which cuDNN asks for: 1e-5 was meant.
_LEAST_EPSILON = 1.001e-5
_SUMS = ("BiasAdd", "Add", "AddV2")
_RESAMPLING = ("ResizeBilinear", "ResizeNearestNeighbor")
_ACTIVATIONS = {"Relu": "relu", "Relu6": "relu6"}


def read_frozen_graph(path: str, provenance: dict[str, str]) -> Weights:
    """Return the weights of a .pb file such as those of TensorFlow's DeepLab and detection zoos.

    Raises:
        UserError: the file is damaged or its graph is not a network of this family.
    """
    try:
        operations = read_operations(path)
        builder = _Builder(operations, path)
        if "detection_boxes" in operations or any(n.startswith("BoxPredictor") for n in operations):
            # What follows the predictions has no layers.
            walk = DetectionWalk(builder.build(until=("Reshape",)), path, builder.image_size())
        else:
            walk = Walk(builder.build(), path)
    except DAMAGED as error:
        raise UserError(
            f"{path} is a damaged TensorFlow graph ({type(error).__name__}); fetch it again."
        ) from error
    return from_walk(walk, {**provenance, "importer": "frozen_graph"})


class _Builder:
    """Turns the operations after the first convolution into the nodes of a network.

    A convolution and the operations that finish it (norm, bias, activation) are one layer; its
    output is called by the name of the convolution.
    """

    def __init__(self, nodes: dict[str, Operation], path: str):
        self.nodes = nodes
        self.path = path
        self.readers: dict[str, list[Operation]] = {}
        for node in nodes.values():
            # The shape of a tensor is not its value.
            for name in node.inputs if node.op != "Shape" else ():
                self.readers.setdefault(_plain(name), []).append(node)
        self.layers = {n.name: self.layer(n) for n in nodes.values() if n.op in _CONVOLUTIONS}
        self.layer_of = {op.name: name for name, layer in self.layers.items() for op in layer}

    def build(self, until: tuple[str, ...] = ()) -> Graph:
        """Return the network up to operations of a kind in `until`."""
        images = [node.name for node in self.nodes.values() if node.op == "Placeholder"]
        first = [n for n in self.after(images, until=_CONVOLUTIONS) if n.op in _CONVOLUTIONS]
        if len(first) != 1:
            raise self.other(f"its image is read by {len(first)} convolutions")
        (stem,) = self.conv(first[0])
        found: list[Node] = [stem]
        for node in self.after([first[0].name], until):
            if node.op in _METHODS and node.name not in self.layer_of:
                found += _METHODS[node.op](self, node)
        return Graph(found, stem.input, self.input_scale(str(stem.input)))

    def after(self, names: list[str], until: tuple[str, ...] = ()) -> list[Operation]:
        """Return the operations that depend on tensors, none beyond those of a kind in `until`."""
        found: dict[str, Operation] = {}
        names = list(names)
        while names:
            for node in self.readers.get(names.pop(), ()):
                if node.name not in found:
                    found[node.name] = node
                    if node.op not in until:
                        names.append(node.name)
        return list(found.values())

    def layer(self, conv: Operation) -> list[Operation]:
        """Return the operations that finish a convolution, each the only reader of the last."""
        found = [conv]
        while found[-1].op not in _ACTIVATIONS:
            readers = self.readers.get(found[-1].name, [])
            if len(readers) != 1 or readers[0] in found or not self.finishes(found[-1], readers[0]):
                break
            found.append(readers[0])
        return found[1:]

    def finishes(self, before: Operation, node: Operation) -> bool:
        if node.op in _SUMS:
            # A shortcut is a sum of two activations.
            return any(map(self.is_constant, node.inputs))
        kinds = ("Identity", "BatchToSpaceND", *_NORMS, *_ACTIVATIONS)
        return node.op in kinds and _plain(node.inputs[0]) == before.name

    def conv(self, node: Operation) -> list[Conv]:
        if node.text("data_format", "NHWC") != "NHWC":
            raise self.other("it keeps channels first")
        kernel = self.constant(node.inputs[1])
        if kernel.ndim != 4 or kernel.shape[0] != kernel.shape[1]:
            raise self.other(f"the kernel of {node.name} is not square")
        depthwise = node.op == "DepthwiseConv2dNative"
        if depthwise:
            kernel = kernel.transpose(0, 1, 3, 2)  # (k, k, C, 1) -> (k, k, 1, C)
        dilations, padding, before = node.integers("dilations", (1, 1, 1, 1)), None, node.inputs[0]
        source = self.node(before)
        if source.op == "Pad":
            padding, before = self.constant(source.inputs[1])[1:3].tolist(), source.inputs[0]
        elif source.op == "SpaceToBatchND":
            dilations = (1, *self.constant(source.inputs[1]).tolist(), 1)
            before = source.inputs[0]
            # The end is padded further, up to a multiple of the block, and cropped afterwards.
            # Where the image may have any size, padding is computed, by the same rule.
            padding = [[dilations[1] * (kernel.shape[0] - 1) // 2] * 2] * 2
            if self.is_constant(source.inputs[2]):
                padding = [[begin, begin] for begin, _ in self.constant(source.inputs[2]).tolist()]
        strides = node.integers("strides")
        for steps in (strides, dilations):
            if len(steps) != 4 or steps != (1, steps[1], steps[1], 1) or steps[1] < 1:
                raise self.other(f"the stride or dilation of {node.name} is not square")
        conv = Conv(
            self.source(before),
            node.name,
            kernel,
            np.zeros(kernel.shape[-1], np.float32),
            "none",
            depthwise,
            strides[1],
            dilations[1],
            _rules(node.text("padding", ""), padding, kernel.shape[0], strides[1], dilations[1]),
        )
        for operation in self.layers[node.name]:
            self.finish(conv, operation)
        return [conv]

    def finish(self, conv: Conv, node: Operation) -> None:
        """Set what an operation adds to its convolution."""
        if node.op in _NORMS:
            if conv.norm is not None or node.number("is_training", 1):
                raise self.other(f"{node.name} is no norm of inference")
            scale, bias, mean, var = (self.constant(name) for name in node.inputs[1:5])
            epsilon = node.number("epsilon", _EPSILON)
            epsilon = 1e-5 if epsilon == _LEAST_EPSILON else epsilon
            if conv.bias.any():
                # Layers with a norm have no bias here.
                mean, conv.bias = mean - conv.bias, np.zeros_like(conv.bias)
            conv.norm = Norm(scale, bias, mean, var, epsilon=epsilon)
        elif node.op in _SUMS:
            if conv.norm is not None:
                raise self.other(f"{node.name} adds to what a norm gave")
            (bias,) = filter(self.is_constant, node.inputs)
            conv.bias = conv.bias + self.constant(bias).reshape(-1)
        elif node.op in _ACTIVATIONS:
            conv.activation = _ACTIVATIONS[node.op]

    def sum(self, node: Operation) -> list[Node]:
        return [Add([self.source(name) for name in node.inputs], node.name)]

    def average_pool(self, node: Operation) -> list[Node]:
        if node.text("padding", "") != "VALID":
            raise self.other(f"{node.name} pools beyond the image")
        window = node.integers("ksize")[1:3]
        return [Pool(self.source(node.inputs[0]), node.name, window)]

    def mean(self, node: Operation) -> list[Node]:
        if sorted(self.constant(node.inputs[1]).reshape(-1)) != [1, 2]:
            raise self.other("it takes means over something else than the image")
        return [Pool(self.source(node.inputs[0]), node.name)]

    def resize(self, node: Operation) -> list[Node]:
        source = self.source(node.inputs[0])
        align_corners: bool | None = bool(node.number("align_corners", 0))
        if self.node(self.nodes[source].inputs[0]).op in ("AvgPool", "Mean"):
            align_corners = None  # of one pixel
        elif not align_corners and not node.number("half_pixel_centers", 0):
            raise self.other("it resizes by TensorFlow 1's rule without align_corners")
        size = None
        if self.is_constant(node.inputs[1]):
            size = tuple(self.constant(node.inputs[1]).tolist())
        return [Resize(source, node.name, align_corners, size)]

    def concatenation(self, node: Operation) -> list[Node]:
        *parts, axis = node.inputs
        if self.constant(axis) not in (3, -1):
            return []
        return [Concat([self.source(name) for name in parts], node.name)]

    def input_scale(self, name: str) -> tuple[float, float] | None:
        """Return (scale, zero point) of the arithmetic before the first convolution."""
        scale, offset, node = 1.0, 0.0, self.node(name)
        # A mean of pixels, which scaling keeps, is scaled like them.
        while node.op in _RESAMPLING:
            node = self.node(node.inputs[0])
        while node.op in ("Mul", "RealDiv", "Sub", *_SUMS):
            constants = [i for i in (0, 1) if self.is_constant(node.inputs[i])]
            if len(constants) != 1 or (node.op in ("Sub", "RealDiv") and constants != [1]):
                break
            value = self.constant(node.inputs[constants[0]])
            if value.size != 1:
                raise self.other("it normalises the channels of its image differently")
            number = float(value.reshape(())) * (-1 if node.op == "Sub" else 1)
            if node.op == "Mul":
                scale *= number
            elif node.op == "RealDiv":
                scale /= number
            else:
                offset += scale * number
            node = self.node(node.inputs[1 - constants[0]])
        return None if (scale, offset) == (1.0, 0.0) else (scale, -offset / scale)

    def image_size(self) -> int | None:
        """Return the side of the square that images are scaled to; None where it is not told."""
        sizes = {
            tuple(self.constant(node.inputs[1]).tolist())
            for node in self.nodes.values()
            if node.op == "ResizeBilinear" and self.is_constant(node.inputs[1])
        }
        if len(sizes) != 1:
            return None
        height, width = sizes.pop()
        if height != width:
            raise self.other(f"it scales images to {height} x {width} pixels")
        return height

    def source(self, name: str) -> str:
        """Return what a tensor is called: its layer's convolution, or the operation itself."""
        if ":" in _plain(name):
            return name  # a further output, which no layer here has
        node = self.node(name)
        return self.layer_of.get(node.name, node.name)

    def node(self, name: str) -> Operation:
        """Return the operation that makes a tensor, seen through those that only pass it on."""
        for _ in self.nodes:
            node = self.nodes[name.partition(":")[0]]
            if node.op != "Identity":
                return node
            name = node.inputs[0]
        raise ValueError("a circle of operations")

    def is_constant(self, name: str) -> bool:
        return self.node(name).op == "Const"

    def constant(self, name: str) -> np.ndarray:
        if not self.is_constant(name):
            raise self.other(f"{name} is computed where this family has a constant")
        return self.node(name).tensor

    def other(self, what: str) -> UserError:
        return UserError(f"{self.path} holds another network than this family's: {what}.")


def _plain(name: str) -> str:
    """Return an operation's name from that of its first output."""
    return name.removesuffix(":0")


def _rules(
    mode: str, padding: list[list[int]] | None, size: int, stride: int, dilation: int
) -> frozenset[str]:
    """Return the rules that pad as a convolution does, `padding` being an operation before it."""
    both, same, symmetric = map(frozenset, (("same", "symmetric"), ("same",), ("symmetric",)))
    if mode == "SAME" and padding is None:
        return both if stride == 1 else same
    if mode == "VALID" and (padding or [[0, 0]] * 2) == [[dilation * (size - 1) // 2] * 2] * 2:
        return both if stride == 1 else symmetric
    if mode == "VALID" and (size, stride, padding) == (3, 2, [[0, 1], [0, 1]]):
        return same  # as Keras writes it, for images of even size
    return frozenset()


_METHODS: dict[str, Callable[[_Builder, Operation], Sequence[Node]]] = {
    "Conv2D": _Builder.conv,
    "DepthwiseConv2dNative": _Builder.conv,
    "Add": _Builder.sum,
    "AddV2": _Builder.sum,
    "AvgPool": _Builder.average_pool,
    "Mean": _Builder.mean,
    "ResizeBilinear": _Builder.resize,
    "ConcatV2": _Builder.concatenation,
}
