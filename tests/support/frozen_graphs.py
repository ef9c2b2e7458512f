"""A tiny writer of TensorFlow's GraphDef, and networks written with it as TensorFlow names them."""

import struct
from collections.abc import Iterable

import numpy as np
from flax import nnx

from deeplab_mnv2.models.layers import Conv
from deeplab_mnv2.weights.model_weights import Weights, abstract_model

SLIM_NORM = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int32): 3}


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    """Return one field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(array: np.ndarray, shape: Iterable[int] | None = None) -> bytes:
    """Return a TensorProto; `shape` is what it promises where that is not the array's."""
    sizes = array.shape if shape is None else shape
    dims = b"".join(field(2, field(1, size)) for size in sizes)
    content = field(4, array.tobytes())
    if array.size == 1:
        # As TensorFlow writes one number: in the list of values.
        packed = array.tobytes() if array.dtype == np.float32 else varint(int(array.reshape(())))
        content = field(5 if array.dtype == np.float32 else 7, packed)
    return field(1, _TYPES[array.dtype]) + field(2, dims) + content


def attribute(value: object) -> bytes:
    """Return an AttrValue of the type of `value`."""
    if isinstance(value, bool):
        return field(5, int(value))
    if isinstance(value, float):
        return varint(4 << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, str):
        return field(2, value)
    if isinstance(value, np.ndarray):
        return field(8, tensor(value))
    return field(1, field(3, b"".join(map(varint, value))))


class FrozenGraph:
    """A network of any kind but a bare backbone as a frozen graph, open to changes till `encode`.

    `nodes` are name -> [op, inputs, attributes]. `notation` is "slim", dilating between
    SpaceToBatchND and BatchToSpaceND, "dilations", with the attribute and newer operations, or
    "folded", with biases in place of norms.
    """

    def __init__(self, given: Weights, notation: str = "slim", side: int = 513):
        self.given, self.notation = given, notation
        self.nodes: dict[str, list] = {}
        self.convs = {
            ".".join(map(str, path)).removesuffix(".conv"): module
            for path, module in nnx.iter_graph(abstract_model(given.config))
            if isinstance(module, Conv)
        }
        side = -(-side // given.config.output_stride)
        self.side = np.array([side, side], np.int32)
        self.node("ImageTensor", "Placeholder", [])
        self.node("ExpandDims", "ExpandDims", ["ImageTensor", self.const("dim", np.int32(0))])
        image = "ExpandDims"
        if given.kind == "detection":
            size = self.const("size", np.array([given.config.image_size] * 2, np.int32))
            image = self.node("ResizeImage", "ResizeBilinear", [image, size])
        self.node("mul", "Mul", [self.const("mul/x", np.float32(2 / 255)), image])
        self.node("sub_7", "Sub", ["mul", self.const("sub_7/y", np.float32(1)), "^Assert"])
        self.node("Assert", "Assert", ["ExpandDims"])
        features = self.backbone(self.node("MobilenetV2/input", "Identity", ["sub_7"]))
        getattr(self, given.kind)(features)

    def encode(self) -> bytes:
        found = b""
        for name, (op, inputs, attributes) in self.nodes.items():
            content = field(1, name) + field(2, op)
            content += b"".join(field(3, source) for source in inputs)
            for key, value in attributes.items():
                content += field(5, field(1, key) + field(2, attribute(value)))
            found += field(1, content)
        return found + field(4, field(1, 22))  # the version of the producer

    def node(self, name: str, op: str, inputs: list[str], **attributes: object) -> str:
        self.nodes[name] = [op, inputs, attributes]
        return name

    def const(self, name: str, array: np.ndarray) -> str:
        return self.node(name, "Const", [], value=np.asarray(array))

    def variable(self, name: str, array: np.ndarray) -> str:
        self.const(name, np.asarray(array, np.float32))
        return self.node(f"{name}/read", "Identity", [name])

    def conv(self, scope: str, layer: str, x: str, activation: str) -> str:
        """Write a convolution with its norm and activation; return the tensor it gives."""
        module, tensors = self.convs[layer], self.given.tensors
        norm = {name: tensors[f"{layer}.norm.{name}"] for name in SLIM_NORM.values()}
        kernel = tensors[f"{layer}.conv.kernel"]
        if self.notation == "folded":
            epsilon = self.epsilon(layer)
            slope = norm["scale"] / np.sqrt(norm["var"] + epsilon)
            kernel, offset = kernel * slope, norm["bias"] - norm["mean"] * slope
        op, name, weight = "Conv2D", f"{scope}/Conv2D", f"{scope}/weights"
        if module.depthwise:
            op, name, weight = "DepthwiseConv2dNative", f"{scope}/depthwise", f"{scope}/depthwise_w"
            kernel = kernel.transpose(0, 1, 3, 2)
        d, stride = module.dilation, module.stride
        settings: dict[str, object] = {"strides": (1, stride, stride, 1), "padding": "SAME"}
        blocks = self.notation == "slim" and d > 1
        if blocks:
            block = self.const(f"{name}/block_shape", np.array([d, d], np.int32))
            # The end is padded up to a multiple of the block.
            pads = self.const(f"{name}/paddings", np.array([[d, d + 1], [d, d + 1]], np.int32))
            x = self.node(f"{name}/SpaceToBatchND", "SpaceToBatchND", [x, block, pads])
            settings["padding"] = "VALID"
        elif d > 1:
            settings["dilations"] = (1, d, d, 1)
        x = self.node(name, op, [x, self.variable(weight, kernel)], **settings)
        if blocks:
            crops = self.const(f"{name}/crops", np.array([[0, 1], [0, 1]], np.int32))
            x = self.node(f"{name}/BatchToSpaceND", "BatchToSpaceND", [x, block, crops])
        if self.notation == "folded":
            x = self.node(f"{scope}/add", "Add", [x, self.variable(f"{scope}/bias", offset)])
        else:
            inputs = [
                self.variable(f"{scope}/BatchNorm/{slim}", norm[ours])
                for slim, ours in SLIM_NORM.items()
            ]
            version = "V3" if self.notation == "dilations" else ""
            x = self.node(
                f"{scope}/BatchNorm/FusedBatchNorm{version}",
                f"FusedBatchNorm{version}",
                [x, *inputs],
                epsilon=float(self.epsilon(layer)),
                is_training=False,
            )
        if not activation:
            return self.node(f"{scope}/Identity", "Identity", [x])
        return self.node(f"{scope}/{activation}", activation, [x])

    def epsilon(self, layer: str) -> float:
        config = self.given.config
        if layer.startswith(("extras", "box_heads", "class_heads")):
            return config.head_epsilon
        if layer.startswith("aspp"):
            # As `tf.nn.fused_batch_norm` raises 1e-5.
            return max(config.head_epsilon, 1.001e-5)
        return config.backbone_epsilon

    def backbone(self, x: str) -> str:
        x = self.conv("MobilenetV2/Conv", "backbone.stem", x, "Relu6")
        channels = 0
        blocks = sorted({n.rpartition(".")[0] for n in self.convs if ".stages." in n})
        for number, block in enumerate(blocks):
            scope = "MobilenetV2/expanded_conv" + (f"_{number}" if number else "")
            y = x = self.node(f"{scope}/input", "Identity", [x])
            if f"{block}.expand" in self.convs:
                y = self.conv(f"{scope}/expand", f"{block}.expand", y, "Relu6")
            if block == "backbone.stages.5.0":
                self.detected = y
            y = self.conv(f"{scope}/depthwise", f"{block}.depthwise", y, "Relu6")
            y = self.conv(f"{scope}/project", f"{block}.project", y, "")
            before, channels = channels, self.convs[f"{block}.project"].kernel.shape[-1]
            if before == channels and self.convs[f"{block}.depthwise"].stride == 1:
                add = "AddV2" if self.notation == "dilations" else "Add"
                y = self.node(f"{scope}/add", add, [y, x])
            x = self.node(f"{scope}/output", "Identity", [y])
        return x

    def segmentation(self, x: str) -> None:
        window = (1, *map(int, self.side), 1)
        pooled = self.node("AvgPool2D/AvgPool", "AvgPool", [x], ksize=window, padding="VALID")
        pooled = self.conv("image_pooling", "aspp.image_pool", pooled, "Relu")
        branches = [self.resize("ResizeBilinear", pooled, self.side)]
        for number in range(1 + len(self.given.config.atrous_rates)):
            name, scope = f"aspp.branches.{number}", f"aspp{number}"
            if name in self.convs:
                branches.append(self.conv(scope, name, x, "Relu"))
            else:
                y = self.conv(f"{scope}_depthwise", f"{name}.depthwise", x, "Relu")
                branches.append(self.conv(f"{scope}_pointwise", f"{name}.pointwise", y, "Relu"))
        axis = self.const("concat/axis", np.int32(3))
        x = self.node("concat", "ConcatV2", [*branches, axis])
        x = self.conv("concat_projection", "aspp.project", x, "Relu")
        x = self.logits("logits/semantic", self.node("dropout/Identity", "Identity", [x]))
        x = self.resize("ResizeBilinear_1", x, self.side)
        self.node("Shape_3", "Shape", [x])
        self.node("ArgMax", "ArgMax", [x, self.const("ArgMax/dimension", np.int32(3))])

    def classification(self, x: str) -> None:
        x = self.conv("MobilenetV2/Conv_1", "head", x, "Relu6")
        axes = self.const("axes", np.array([1, 2], np.int32))
        x = self.node("MobilenetV2/Logits/Mean", "Mean", [x, axes])
        x = self.logits("MobilenetV2/Logits/Conv2d_1c_1x1", x)
        self.node("Softmax", "Softmax", [self.node("Squeeze", "Squeeze", [x])])

    def detection(self, x: str) -> None:
        x = self.conv("MobilenetV2/Conv_1", "head", x, "Relu6")
        levels = [self.detected, x]
        for number in range(2, 6):
            name, layer = f"layer_19_2_Conv2d_{number}_3x3_s2", f"extras.{number - 2}"
            x = self.conv(f"layer_19_1_Conv2d_{number}_1x1", f"{layer}.reduce", x, "Relu6")
            x = self.conv(f"{name}_depthwise", f"{layer}.depthwise", x, "Relu6")
            x = self.conv(name, f"{layer}.expand", x, "Relu6")
            levels.append(x)
        for number, level in enumerate(levels):
            for part, word in (("box_heads", "BoxEncoding"), ("class_heads", "Class")):
                scope, layer = f"BoxPredictor_{number}/{word}Predictor", f"{part}.{number}"
                y = self.conv(f"{scope}_depthwise", f"{layer}.depthwise", level, "Relu6")
                y = self.logits(scope, y, f"{layer}.predict")
                # What follows is computed from its values, and has no layers.
                y = self.node(f"{scope}/Reshape", "Reshape", [y, "dim"])
                self.node(f"{scope}/Mean", "Mean", [y, "dim"])

    def logits(self, scope: str, x: str, layer: str = "classifier") -> str:
        kernel = self.variable(f"{scope}/weights", self.given.tensors[f"{layer}.kernel"])
        x = self.node(
            f"{scope}/Conv2D", "Conv2D", [x, kernel], strides=(1, 1, 1, 1), padding="SAME"
        )
        bias = self.variable(f"{scope}/biases", self.given.tensors[f"{layer}.bias"])
        return self.node(f"{scope}/BiasAdd", "BiasAdd", [x, bias])

    def resize(self, name: str, x: str, size: np.ndarray) -> str:
        inputs = [x, self.const(f"{name}/size", size)]
        align_corners = self.given.config.align_corners
        return self.node(
            name,
            "ResizeBilinear",
            inputs,
            align_corners=align_corners,
            half_pixel_centers=not align_corners,
        )


def operation(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    """Return an operation of a GraphDef; `attributes` are encoded."""
    content = field(1, name) + field(2, op) + b"".join(field(3, i) for i in inputs)
    for key, value in attributes.items():
        content += field(5, field(1, key) + field(2, value))
    return field(1, content)


def with_kernel(value: bytes) -> bytes:
    """Return a graph whose one convolution reads a constant of this attribute."""
    settings = {"strides": attribute((1, 2, 2, 1)), "padding": attribute("SAME")}
    return (
        operation("image", "Placeholder")
        + operation("kernel", "Const", value=value)
        + operation("conv", "Conv2D", "image", "kernel", **settings)
    )


# Files that lie about lengths, types and sizes.
ONE = np.ones(1, np.float32)
CIRCLE = (
    operation("image", "Placeholder")
    + operation("a", "Identity", "b")
    + operation("b", "Identity", "a")
)
HOSTILE = {
    "a length beyond the file": varint(1 << 3 | 2) + varint(1 << 40) + b"x",
    "a negative length": varint(1 << 3 | 2) + varint(-1) + b"x",
    "a number without end": b"\xff" * 40,
    "a text that is none": field(1, field(1, b"\xff\xfe")),
    "a group": b"\x0b" * 40,
    "a number in place of a node": operation("image", "Placeholder") + field(1, 7),
    "a huge shape": with_kernel(field(8, tensor(ONE, [2**40, 2**40, 3, 3]))),
    "a long repeat": with_kernel(field(8, tensor(ONE, [3, 3, 3, 10**9]))),
    "a negative shape": with_kernel(field(8, tensor(ONE, [-1, -1, 1, 1]))),
    "a shape beyond its content": with_kernel(field(8, tensor(np.ones(9, np.float32), [3, 3, 3]))),
    "no values": with_kernel(field(8, field(1, 1) + field(2, field(2, field(1, 3))))),
    "no type": with_kernel(field(8, field(2, b""))),
    "a list in place of a tensor": with_kernel(attribute((1, 2))),
    "a tensor in a tensor": with_kernel(field(8, field(8, field(8, field(8, b"x"))))),
    "deep nesting": with_kernel(field(8, field(2, field(2, field(2, b"\x0a" * 10_000))))),
    "a million fields": with_kernel(field(8, field(1, 1) + b"\x2d\0\0\x80\x3f" * 1_000_000)),
    "a missing input": operation("image", "Placeholder")
    + operation("c", "Conv2D", "image", "absent"),
    "no input": operation("image", "Placeholder") + operation("c", "Conv2D"),
    "a circle": CIRCLE + operation("c", "Conv2D", "image", "a"),
    "many nodes": b"".join(operation(f"{n}", "Const") for n in range(20_001)),
    "nothing": b"",
}
