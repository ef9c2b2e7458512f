"""TFLite graphs of our networks in every notation, without a file."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import tflite
from flax import nnx

from deeplab_mnv2.models.layers import Conv
from deeplab_mnv2.weights.model_weights import Weights, abstract_model

ACTIVATIONS = {"none": 0, "relu": 1, "relu6": 3}


@dataclasses.dataclass
class FakeOperation:
    """An operation whose options answer for every field, 0 where nothing was said."""

    name: str
    inputs: list[int]
    output: int
    fields: dict[str, int]

    def options(self, kind: type) -> SimpleNamespace:
        names = [name for name in dir(kind) if name[0].isupper()]
        default = {"DilationHFactor": 1, "StrideH": 1, "StrideW": 1}
        chosen = {name: self.fields.get(name, default.get(name, 0)) for name in names}
        return SimpleNamespace(**{name: (lambda v=v: v) for name, v in chosen.items()})


class FakeFile:
    """A TFLite file of a network, in one of the notations that converters use."""

    def __init__(self, given: Weights, size: int, notation: str):
        self.tensors = given.tensors
        self.config = given.config
        self.notation = notation
        self.arrays: dict[int, np.ndarray] = {}
        self.shapes: list[list[int]] = []
        self.operations: list[FakeOperation] = []
        model = abstract_model(given.config)
        self.convs = {
            ".".join(map(str, path)).removesuffix(".conv"): module
            for path, module in nnx.iter_graph(model)
            if isinstance(module, Conv)
        }
        self.input = self.tensor([1, size, size, 3])
        features = self.backbone()
        (self.segmentation if given.kind == "segmentation" else self.classification)(features)

    def shape(self, tensor: int) -> list[int]:
        return self.shapes[tensor]

    def is_constant(self, tensor: int) -> bool:
        return tensor in self.arrays

    def constant(self, tensor: int) -> np.ndarray:
        return self.arrays[tensor]

    def image_scale(self) -> None:
        return None

    def tensor(self, shape: list[int]) -> int:
        self.shapes.append(list(shape))
        return len(self.shapes) - 1

    def stored(self, array: np.ndarray) -> int:
        number = self.tensor(array.shape)
        self.arrays[number] = np.asarray(array, np.float32)
        return number

    def run(self, name: str, inputs: list[int], shape: list[int], **fields: int) -> int:
        output = self.tensor(shape)
        self.operations.append(FakeOperation(name, inputs, output, fields))
        return output

    def conv(self, layer: str, x: int, activation: str) -> int:
        """Write a convolution, its norm folded in."""
        module, notation = self.convs[layer], self.notation
        if layer == "classifier":
            kernel, bias = self.tensors["classifier.kernel"], self.tensors["classifier.bias"]
        else:
            scale, shift, mean, var = (
                self.tensors[f"{layer}.norm.{name}"] for name in ("scale", "bias", "mean", "var")
            )
            head = layer.startswith("aspp")
            epsilon = self.config.head_epsilon if head else self.config.backbone_epsilon
            slope = scale / np.sqrt(var + epsilon)
            kernel = self.tensors[f"{layer}.conv.kernel"] * slope
            bias = shift - mean * slope
        n, height, width, _ = self.shapes[x]
        stride, dilation = module.stride, module.dilation
        out = [n, -(-height // stride), -(-width // stride), kernel.shape[-1]]
        order = (2, 0, 1, 3) if module.depthwise else (3, 0, 1, 2)
        name = "DEPTHWISE_CONV_2D" if module.depthwise else "CONV_2D"
        fields = {"StrideH": stride, "StrideW": stride, "Padding": tflite.Padding.SAME}
        if notation == "batches" and dilation > 1:
            # The end is padded up to a multiple of the block.
            ends = [dilation + (-(size + 2 * dilation)) % dilation for size in (height, width)]
            block = self.stored(np.array([dilation, dilation]))
            pads = self.stored(np.array([[dilation, end] for end in ends]))
            x = self.run("SPACE_TO_BATCH_ND", [x, block, pads], [1, 1, 1, 1])
            fields["Padding"] = tflite.Padding.VALID
        else:
            fields |= {"DilationHFactor": dilation, "DilationWFactor": dilation}
        if notation == "pad" and stride == 2:
            # TensorFlow's rule: what is left over goes after the image.
            totals = [max((-(-size // 2) - 1) * 2 + 3 - size, 0) for size in (height, width)]
            same = [(total // 2, total - total // 2) for total in totals]
            pads = self.stored(np.array([[0, 0], *same, [0, 0]]))
            x = self.run("PAD", [x, pads], [1, 1, 1, 1])
            fields["Padding"] = tflite.Padding.VALID
        fused = activation if notation != "split" else "none"
        if notation == "split":
            kernel, bias = kernel / 2, bias / 2
        weight = self.stored(kernel.transpose(order))
        if notation == "half":
            weight = self.run("DEQUANTIZE", [weight], self.shapes[weight])
        inputs = [x, weight] + ([self.stored(bias)] if notation != "split" else [])
        x = self.run(name, inputs, out, FusedActivationFunction=ACTIVATIONS[fused], **fields)
        if notation == "batches" and dilation > 1:
            x = self.run("BATCH_TO_SPACE_ND", [x, block, pads], out)
        if notation == "split":
            x = self.run("ADD", [self.stored(bias), x], out)
            x = self.run("MUL", [x, self.stored(np.array([2.0]))], out)
            if activation != "none":
                x = self.run(activation.upper(), [x], out)
        return x

    def backbone(self) -> int:
        x = self.conv("backbone.stem", self.input, "relu6")
        for block in sorted({n.rpartition(".")[0] for n in self.convs if "stages" in n}):
            y = x
            if f"{block}.expand" in self.convs:
                y = self.conv(f"{block}.expand", y, "relu6")
            y = self.conv(f"{block}.depthwise", y, "relu6")
            y = self.conv(f"{block}.project", y, "none")
            x = self.run("ADD", [x, y], self.shapes[y]) if self.shapes[x] == self.shapes[y] else y
        return x

    def segmentation(self, x: int) -> None:
        n, height, width, channels = self.shapes[x]
        window = {"FilterHeight": height, "FilterWidth": width}
        pooled = self.run("AVERAGE_POOL_2D", [x], [n, 1, 1, channels], **window)
        pooled = self.conv("aspp.image_pool", pooled, "relu")
        out = [n, height, width, self.config.head_channels]
        branches = [self.run("RESIZE_BILINEAR", [pooled], out, AlignCorners=1)]
        for number in range(1 + len(self.config.atrous_rates)):
            name = f"aspp.branches.{number}"
            if name in self.convs:
                branches.append(self.conv(name, x, "relu"))
            else:
                y = self.conv(f"{name}.depthwise", x, "relu")
                branches.append(self.conv(f"{name}.pointwise", y, "relu"))
        if self.notation == "order":
            # The 1x1 branch first, as some write it: the projection's rows move along.
            name, c = "aspp.project.conv.kernel", self.config.head_channels
            kernel = self.tensors[name]
            swapped = [kernel[:, :, c : 2 * c], kernel[:, :, :c], kernel[:, :, 2 * c :]]
            self.tensors = {**self.tensors, name: np.concatenate(swapped, axis=2)}
            branches = [branches[1], branches[0], *branches[2:]]
        joined = [*out[:3], out[3] * len(branches)]
        x = self.conv("aspp.project", self.run("CONCATENATION", branches, joined), "relu")
        x = self.conv("classifier", x, "none")
        image = [*self.shapes[self.input][:3], self.config.num_classes]
        x = self.run("RESIZE_BILINEAR", [x], image, AlignCorners=1)
        self.run("ARG_MAX", [x], image[:3])

    def classification(self, x: int) -> None:
        x = self.conv("head", x, "relu6")
        axes = self.stored(np.array([1, 2]))
        x = self.run("MEAN", [x, axes], [1, 1, 1, self.shapes[x][-1]])
        x = self.run("RESHAPE", [x], [1, self.shapes[x][-1]])
        weight = self.stored(self.tensors["classifier.kernel"][0, 0].T)
        bias = self.stored(self.tensors["classifier.bias"])
        x = self.run("FULLY_CONNECTED", [x, weight, bias], [1, self.config.num_classes])
        self.run("SOFTMAX", [x], self.shapes[x])
