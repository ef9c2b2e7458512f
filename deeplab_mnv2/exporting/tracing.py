"""From a network to its operations."""

import numpy as np
from flax import nnx

from deeplab_mnv2.config import BackboneConfig, DeepLabConfig
from deeplab_mnv2.exporting.graph import (
    CODES,
    IMAGE,
    LOGITS,
    Add,
    Concat,
    Convolution,
    Graph,
    Operation,
    Pool,
    Reshape,
    Resize,
)
from deeplab_mnv2.exporting.target import Network
from deeplab_mnv2.models import mobilenet_v1
from deeplab_mnv2.models.aspp import ASPP
from deeplab_mnv2.models.backbone import Backbone
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.decoder import Decoder
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.layers import Conv, ConvNormAct, SeparableConv, image_range
from deeplab_mnv2.models.mobilenet_v1 import MobileNetV1
from deeplab_mnv2.models.mobilenet_v2 import DETECTED_STAGE, LOW_LEVEL_STAGE, InvertedResidual
from deeplab_mnv2.models.ops.fake_quantization import Range
from deeplab_mnv2.models.ops.taps import Window
from deeplab_mnv2.models.ssdlite import ExtraLevel, PredictionHead, SSDLite


def trace(model: Network, size: tuple[int, int], *, upsample: bool) -> Graph:
    """Return what a network computes on images (H, W), as operations.

    `upsample` includes a segmentation network's last resizing, to the size of the image.
    """
    tracer = _Tracer(model.config, size)
    if isinstance(model, Classifier):
        tracer.classifier(model)
    elif isinstance(model, SSDLite):
        tracer.detection(model)
    else:
        tracer.segmentation(model, upsample)
    return Graph(tracer.operations, tracer.shapes, tracer.ranges)


class _Tracer:
    def __init__(self, config: BackboneConfig, size: tuple[int, int]):
        self.align_corners = isinstance(config, DeepLabConfig) and config.align_corners
        self.shapes: dict[str, tuple[int, ...]] = {IMAGE: (*size, config.in_channels)}
        self.ranges: dict[str, tuple[float, float]] = {}
        if config.quantized:
            self.ranges[IMAGE] = image_range(config)
        self.operations: list[Operation] = []

    def segmentation(self, model: DeepLab, upsample: bool) -> None:
        x, low_level, _ = self.backbone(model.backbone)
        x = self.aspp(model.aspp, x)
        if model.decoder is not None:
            x = self.decoder(model.decoder, x, low_level)
        x = self.convolution(model.classifier, x, output="" if upsample else LOGITS)
        self.measured(model.logits_range, x)
        if upsample:
            # Without a range: 8 bits would round away where one class gives way to the next.
            self.resize(x, IMAGE, output=LOGITS)

    def classifier(self, model: Classifier) -> None:
        x, _, _ = self.backbone(model.backbone)
        if model.head is not None:
            x = self.layer(model.head, x)
        pooled = self.emit(Pool(x, "pooled", self.size(x)), (1, 1, self.shapes[x][2]))
        self.measured(model.pooled_range, pooled)
        x = self.convolution(model.classifier, pooled)
        self.emit(Reshape(x, LOGITS), self.shapes[x][2:])
        self.measured(model.logits_range, x, LOGITS)

    def detection(self, model: SSDLite) -> None:
        x, _, detected = self.backbone(model.backbone)
        if model.head is not None:
            x = self.layer(model.head, x)
        levels = [detected, x]
        for extra in model.extras:
            x = self.extra_level(extra, x)
            levels.append(x)
        for output, heads, within in (
            (CODES, model.box_heads, model.boxes_range),
            (LOGITS, model.class_heads, model.classes_range),
        ):
            cells = [self.cells(head, x) for head, x in zip(heads, levels, strict=True)]
            rows = [self.rows(head, x) for head, x in zip(heads, cells, strict=True)]
            self.concat(output, *rows)
            self.measured(within, *cells, *rows, output)

    def extra_level(self, extra: ExtraLevel, x: str) -> str:
        x = self.layer(extra.reduce, x)
        return self.layer(
            extra.expand, x if extra.depthwise is None else self.layer(extra.depthwise, x)
        )

    def cells(self, head: PredictionHead, x: str) -> str:
        """Emit a level's head."""
        filtered = x if head.depthwise is None else self.layer(head.depthwise, x)
        return self.convolution(head.predict, filtered)

    def rows(self, head: PredictionHead, x: str) -> str:
        """Emit the output of a head as a row of values a box."""
        height, width, channels = self.shapes[x]
        boxes = height * width * channels // head.values
        return self.emit(Reshape(x, f"{x}.rows"), (boxes, head.values))

    def backbone(self, backbone: Backbone) -> tuple[str, str, str]:
        """Emit the backbone; return its features, what a decoder reads and what a detector."""
        x = self.layer(backbone.stem, IMAGE)
        low_level = detected = filtered = ""
        for number, stage in enumerate(backbone.stages):
            for index, block in enumerate(stage):
                x, filtered, expanded = self.block(block, x)
                if (number, index) == (DETECTED_STAGE, 0):
                    detected = expanded
            if number == LOW_LEVEL_STAGE:
                low_level = filtered
            if isinstance(backbone, MobileNetV1) and number == mobilenet_v1.DETECTED_STAGE:
                detected = x
        return x, low_level, detected

    def block(self, block: InvertedResidual | SeparableConv, x: str) -> tuple[str, str, str]:
        """Emit a block; return its output and what decoder and detector would read of it."""
        if isinstance(block, SeparableConv):
            x = self.head(block, x)
            return x, x, x
        expanded = x if block.expand is None else self.layer(block.expand, x)
        filtered = self.layer(block.depthwise, expanded)
        if block.shortcut == "expansion":
            filtered = self.measured(block.sum_range, self.add(filtered, expanded))
        projected = self.layer(block.project, filtered)
        if block.shortcut == "bottleneck":
            projected = self.measured(block.sum_range, self.add(projected, x))
        return projected, filtered, expanded

    def aspp(self, aspp: ASPP, x: str) -> str:
        size = self.size(x)
        window = size
        if aspp.pool_window is not None:
            window = min(aspp.pool_window, size[0]), min(aspp.pool_window, size[1])
        pooled = self.emit(
            Pool(x, "pooled", window),
            (size[0] - window[0] + 1, size[1] - window[1] + 1, self.shapes[x][2]),
        )
        self.measured(aspp.pooled_range, pooled)
        pooled = self.layer(aspp.image_pool, pooled)
        spread = self.resize(pooled, x, output="image_pool")
        branches = [self.head(branch, x) for branch in aspp.branches]
        joined = self.concat("aspp", spread, *branches)
        self.measured(aspp.branches_range, pooled, spread, *branches, joined)
        return self.layer(aspp.project, joined)

    def decoder(self, decoder: Decoder, x: str, low_level: str) -> str:
        low_level = self.layer(decoder.low_level, low_level)
        coarse = self.resize(x, low_level, output="coarse")
        joined = self.concat("decoder", coarse, low_level)
        self.measured(decoder.joined_range, x, coarse, low_level, joined)
        x = joined
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
        x = self.convolution(layer.conv, x, factor, bias - mean * factor, activation)
        return self.measured(layer.range, x)

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

    def resize(self, x: str, like: str, *, output: str) -> str:
        shape = (*self.size(like), self.shapes[x][2])
        return self.emit(Resize(x, like, output, self.align_corners), shape)

    def concat(self, output: str, *inputs: str) -> str:
        shapes = [self.shapes[name] for name in inputs]
        if len(shapes[0]) == 2:
            shape = (sum(rows for rows, _ in shapes), shapes[0][1])
        else:
            shape = (*shapes[0][:2], sum(channels for _, _, channels in shapes))
        return self.emit(Concat(inputs, output), shape)

    def measured(self, within: Range | None, *names: str) -> str:
        """Note the range that tensors share; return the last of them."""
        if within is not None:
            ends = float(within.low[...]), float(within.high[...])
            self.ranges |= dict.fromkeys(names, ends)
        return names[-1]

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
