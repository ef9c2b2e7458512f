"""The network as a short list of operations, norm folded into the convolutions."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from deeplab_mnv2.config import BackboneConfig, DeepLabConfig
from deeplab_mnv2.models.aspp import ASPP
from deeplab_mnv2.models.backbone import Backbone
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.decoder import Decoder
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.layers import Conv, ConvNormAct, SeparableConv, resize
from deeplab_mnv2.models.mobilenet_v2 import LOW_LEVEL_STAGE, InvertedResidual
from deeplab_mnv2.models.ops.taps import Window

# The names of the first and the last tensor.
IMAGE, LOGITS = "image", "logits"


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Convolution, bias and activation; `kernel` is (k, k, I, O), or (k, k, 1, C) depthwise.

    `pads` are the zero rows and columns before and after: ((top, bottom), (left, right)).
    """

    input: str
    output: str
    kernel: np.ndarray
    bias: np.ndarray
    stride: int
    dilation: int
    depthwise: bool
    pads: tuple[tuple[int, int], tuple[int, int]]
    activation: str  # "none", "relu" or "relu6"


@dataclasses.dataclass(frozen=True)
class Add:
    """Sum of two tensors."""

    inputs: tuple[str, str]
    output: str


@dataclasses.dataclass(frozen=True)
class Pool:
    """Average over windows (h, w) at stride 1, without padding."""

    input: str
    output: str
    window: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Resize:
    """Bilinear resizing to the output's size."""

    input: str
    output: str
    align_corners: bool


@dataclasses.dataclass(frozen=True)
class Concat:
    """Concatenation of channels."""

    inputs: tuple[str, ...]
    output: str


@dataclasses.dataclass(frozen=True)
class Flatten:
    """One row of one pixel (1, 1, C) as a vector (C,)."""

    input: str
    output: str


Operation = Convolution | Add | Pool | Resize | Concat | Flatten


@dataclasses.dataclass
class Graph:
    """Operations in order, from `IMAGE` to `LOGITS`.

    `shapes` are (H, W, C) by tensor; a classifier's logits are (classes,).
    """

    operations: list[Operation]
    shapes: dict[str, tuple[int, ...]]


def trace(model: DeepLab | Classifier, size: tuple[int, int], *, upsample: bool) -> Graph:
    """Return what a network computes on images (H, W), as operations.

    `upsample` includes a segmentation network's last resizing, to the size of the image.
    """
    tracer = _Tracer(model.config, size)
    if isinstance(model, Classifier):
        tracer.classifier(model)
    else:
        tracer.segmentation(model, upsample)
    return Graph(tracer.operations, tracer.shapes)


def evaluate(graph: Graph, image: Array) -> dict[str, Array]:
    """Return every tensor of the graph, (B, *shape) by name, for a normalised image."""
    tensors = {IMAGE: image}
    for operation in graph.operations:
        size = graph.shapes[operation.output][:2]
        if isinstance(operation, Convolution):
            value = _convolve(operation, tensors[operation.input])
        elif isinstance(operation, Add):
            value = tensors[operation.inputs[0]] + tensors[operation.inputs[1]]
        elif isinstance(operation, Concat):
            value = jnp.concatenate([tensors[name] for name in operation.inputs], axis=-1)
        elif isinstance(operation, Pool):
            window = (1, *operation.window, 1)
            total = lax.reduce_window(
                tensors[operation.input], 0.0, lax.add, window, (1, 1, 1, 1), "VALID"
            )
            value = total / (window[1] * window[2])
        elif isinstance(operation, Flatten):
            value = tensors[operation.input][:, 0, 0]
        else:
            value = resize(tensors[operation.input], size, align_corners=operation.align_corners)
        tensors[operation.output] = value
    return tensors


class _Tracer:
    def __init__(self, config: BackboneConfig, size: tuple[int, int]):
        self.align_corners = isinstance(config, DeepLabConfig) and config.align_corners
        self.shapes: dict[str, tuple[int, ...]] = {IMAGE: (*size, config.in_channels)}
        self.operations: list[Operation] = []

    def segmentation(self, model: DeepLab, upsample: bool) -> None:
        x, low_level = self.backbone(model.backbone)
        x = self.aspp(model.aspp, x)
        if model.decoder is not None:
            x = self.decoder(model.decoder, x, low_level)
        if not upsample:
            self.convolution(model.classifier, x, output=LOGITS)
            return
        x = self.convolution(model.classifier, x, output="head_logits")
        self.resize(x, self.size(IMAGE), output=LOGITS)

    def classifier(self, model: Classifier) -> None:
        x, _ = self.backbone(model.backbone)
        if model.head is not None:
            x = self.layer(model.head, x)
        pooled = self.emit(Pool(x, "pooled", self.size(x)), (1, 1, self.shapes[x][2]))
        x = self.convolution(model.classifier, pooled)
        self.emit(Flatten(x, LOGITS), self.shapes[x][2:])

    def backbone(self, backbone: Backbone) -> tuple[str, str]:
        """Emit the backbone and return its features and what the decoder reads."""
        x = self.layer(backbone.stem, IMAGE)
        low_level = filtered = ""
        for number, stage in enumerate(backbone.stages):
            for block in stage:
                x, filtered = self.block(block, x)
            if number == LOW_LEVEL_STAGE:
                low_level = filtered
        return x, low_level

    def block(self, block: InvertedResidual | SeparableConv, x: str) -> tuple[str, str]:
        """Emit a block; return its output and what a decoder would read of it."""
        if isinstance(block, SeparableConv):
            x = self.head(block, x)
            return x, x
        expanded = x if block.expand is None else self.layer(block.expand, x)
        filtered = self.layer(block.depthwise, expanded)
        if block.shortcut == "expansion":
            filtered = self.add(filtered, expanded)
        projected = self.layer(block.project, filtered)
        if block.shortcut == "bottleneck":
            projected = self.add(projected, x)
        return projected, filtered

    def aspp(self, aspp: ASPP, x: str) -> str:
        size = self.size(x)
        window = size
        if aspp.pool_window is not None:
            window = min(aspp.pool_window, size[0]), min(aspp.pool_window, size[1])
        pooled = self.emit(
            Pool(x, "pooled", window),
            (size[0] - window[0] + 1, size[1] - window[1] + 1, self.shapes[x][2]),
        )
        pooled = self.resize(self.layer(aspp.image_pool, pooled), size, output="image_pool")
        branches = [self.head(branch, x) for branch in aspp.branches]
        return self.layer(aspp.project, self.concat("aspp", pooled, *branches))

    def decoder(self, decoder: Decoder, x: str, low_level: str) -> str:
        low_level = self.layer(decoder.low_level, low_level)
        x = self.resize(x, self.size(low_level), output="coarse")
        x = self.concat("decoder", x, low_level)
        for layer in decoder.refine:
            x = self.head(layer, x)
        return x

    def head(self, layer: ConvNormAct | SeparableConv, x: str) -> str:
        if isinstance(layer, SeparableConv):
            return self.layer(layer.pointwise, self.layer(layer.depthwise, x))
        return self.layer(layer, x)

    def layer(self, layer: ConvNormAct, x: str) -> str:
        """Emit a convolution with its norm folded in: scale / sqrt(var + epsilon) a channel."""
        norm = layer.norm
        mean, var, scale, bias = (
            np.asarray(value[...], np.float64)  # pyright: ignore[reportOptionalSubscript] - ours has all
            for value in (norm.mean, norm.var, norm.scale, norm.bias)
        )
        factor = scale / np.sqrt(var + norm.epsilon)
        activation = {None: "none", nnx.relu: "relu", nnx.relu6: "relu6"}[layer.activation]
        return self.convolution(layer.conv, x, factor, bias - mean * factor, activation)

    def convolution(
        self,
        conv: Conv,
        x: str,
        factor: np.ndarray | float = 1.0,
        shift: np.ndarray | float = 0.0,
        activation: str = "none",
        output: str = "",
    ) -> str:
        kernel = np.asarray(conv.kernel[...], np.float64) * factor
        bias = np.zeros(kernel.shape[-1]) if conv.bias is None else np.asarray(conv.bias[...])
        pads, size = zip(*(_pads(n, conv) for n in self.size(x)), strict=True)
        return self.emit(
            Convolution(
                input=x,
                output=output or conv.path,
                kernel=kernel.astype(np.float32),
                bias=(bias + shift).astype(np.float32),
                stride=conv.stride,
                dilation=conv.dilation,
                depthwise=conv.depthwise,
                pads=pads,
                activation=activation,
            ),
            (*size, kernel.shape[-1]),
        )

    def add(self, x: str, y: str) -> str:
        return self.emit(Add((x, y), f"{x}.sum"), self.shapes[x])

    def resize(self, x: str, size: tuple[int, int], *, output: str) -> str:
        shape = (*size, self.shapes[x][2])
        return self.emit(Resize(x, output, self.align_corners), shape)

    def concat(self, output: str, *inputs: str) -> str:
        height, width, _ = self.shapes[inputs[0]]
        channels = sum(self.shapes[name][2] for name in inputs)
        return self.emit(Concat(inputs, output), (height, width, channels))

    def size(self, x: str) -> tuple[int, int]:
        height, width, _ = self.shapes[x]
        return height, width

    def emit(self, operation: Operation, shape: tuple[int, ...]) -> str:
        self.operations.append(operation)
        self.shapes[operation.output] = shape
        return operation.output


def _pads(length: int, conv: Conv) -> tuple[tuple[int, int], int]:
    """Return the padding before and after one axis, and its length after the convolution."""
    edges = Window(conv.stride, conv.dilation, conv.padding).axis_edges(length, conv.kernel_size)
    span = conv.dilation * (conv.kernel_size - 1)
    return edges, (length + sum(edges) - span - 1) // conv.stride + 1


def _convolve(conv: Convolution, x: Array) -> Array:
    y = lax.conv_general_dilated(
        x,
        jnp.asarray(conv.kernel),
        window_strides=(conv.stride, conv.stride),
        padding=conv.pads,
        rhs_dilation=(conv.dilation, conv.dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=conv.kernel.shape[-1] if conv.depthwise else 1,
    )
    y = y + jnp.asarray(conv.bias)[None, None, None]
    return {"none": y, "relu": jnp.maximum(y, 0), "relu6": jnp.clip(y, 0, 6)}[conv.activation]
