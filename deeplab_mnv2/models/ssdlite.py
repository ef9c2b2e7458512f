"""SSDLite on MobileNetV2: the detector of the MobileNetV2 paper (arXiv:1801.04381, Section 6.2).

Layers and widths are those of TensorFlow's `ssdlite_mobilenet_v2_coco`.
"""

import copy
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from deeplab_mnv2.config import SsdLiteConfig
from deeplab_mnv2.models.backbone import make_backbone
from deeplab_mnv2.models.classifier import CLASSIFIER_CHANNELS
from deeplab_mnv2.models.layers import Conv, ConvNormAct, name_layers, normalize
from deeplab_mnv2.models.mobilenet_v2 import make_divisible
from deeplab_mnv2.models.ops.fake_quantization import Range, rounded

# The levels that follow the backbone's own two.
EXTRA_CHANNELS = (512, 256, 256, 128)
_LEAST_CHANNELS = 16
# Boxes predicted in each cell of each level; `tasks.detection.anchors` has their shapes.
BOXES_PER_CELL = (3, 6, 6, 6, 6, 6)
# Of all kernels behind the backbone's.
_init = nnx.initializers.truncated_normal(0.03)


class ExtraLevel(nnx.Module):
    """1x1 to half the channels, then 3x3 at stride 2: depthwise and 1x1, or plain."""

    def __init__(self, layer: Any, in_channels: int, half: int, out_channels: int, separable: bool):
        self.reduce = layer(in_channels, half)
        self.depthwise = layer(half, half, 3, stride=2, depthwise=True) if separable else None
        self.expand = (
            layer(half, out_channels) if separable else layer(half, out_channels, 3, stride=2)
        )

    def __call__(self, x: Array, step: Array | None = None) -> Array:
        """Map (B, H, W, C) to (B, H/2, W/2, C'), halves rounded up."""
        x, step = self.reduce(x, step), self.reduce.step
        if self.depthwise is not None:
            x, step = self.depthwise(x, step), self.depthwise.step
        return self.expand(x, step)


class PredictionHead(nnx.Module):
    """3x3 depthwise and 1x1 (SSDLite), or a plain 3x3 (SSD), without norm at the end."""

    def __init__(
        self,
        layer: Any,
        config: SsdLiteConfig,
        channels: int,
        boxes: int,
        values: int,
        *,
        bias: float,
        rngs: nnx.Rngs,
    ):
        self.depthwise = layer(channels, channels, 3, depthwise=True) if config.separable else None
        self.predict = Conv(
            channels,
            boxes * values,
            1 if config.separable else 3,
            use_bias=True,
            padding=config.padding,
            kernel_init=_init,
            dtype=jnp.dtype(config.dtype),
            quantized=config.quantized,
            rngs=rngs,
        )
        if bias and self.predict.bias is not None:
            self.predict.bias[...] = jnp.full((boxes * values,), bias, jnp.float32)
        self.values = values

    def __call__(self, x: Array, step: Array | None = None) -> Array:
        """Map a level (B, h, w, C) to (B, h * w * boxes, values) float32."""
        if self.depthwise is not None:
            x, step = self.depthwise(x, step), self.depthwise.step
        x = self.predict(x, step)
        return x.astype(jnp.float32).reshape(x.shape[0], -1, self.values)


class SSDLite(nnx.Module):
    """MobileNetV2, four further levels, and for each level a head of boxes and one of classes.

    Built in training mode; `model.eval()` switches norm to stored statistics.

    Raises:
        UserError: a setting of `config` is out of range.
    """

    def __init__(self, config: SsdLiteConfig, *, rngs: nnx.Rngs):
        config.check()
        self.config = copy.deepcopy(config)
        self.backbone = make_backbone(config, rngs=rngs)
        width = config.width_multiplier
        # Unlike the image classifier's, narrowed with the rest, as in TensorFlow.
        channels = make_divisible(CLASSIFIER_CHANNELS * width, config.divisible_by)
        layer = partial(
            ConvNormAct,
            activation=nnx.relu6,
            padding=config.padding,
            dtype=jnp.dtype(config.dtype),
            quantized=config.quantized,
            rngs=rngs,
        )
        # MobileNetV1 ends in 1024 channels as it is.
        has_head = config.version == 2
        channels = channels if has_head else self.backbone.out_channels
        self.head = (
            layer(
                self.backbone.out_channels,
                channels,
                epsilon=config.backbone_epsilon,
                momentum=config.backbone_momentum,
            )
            if has_head
            else None
        )
        layer = partial(
            layer,
            epsilon=config.head_epsilon,
            momentum=config.head_momentum,
            kernel_init=_init,
        )
        levels = [self.backbone.detected_channels, channels]
        extras = []
        for depth in EXTRA_CHANNELS:
            half, full = (max(int(d * width), _LEAST_CHANNELS) for d in (depth / 2, depth))
            extras.append(ExtraLevel(layer, levels[-1], half, full, config.separable))
            levels.append(full)
        self.extras = nnx.List(extras)

        def heads(values: int, bias: float = 0.0) -> nnx.List:
            return nnx.List(
                PredictionHead(layer, config, channels, boxes, values, bias=bias, rngs=rngs)
                for channels, boxes in zip(levels, BOXES_PER_CELL, strict=True)
            )

        self.box_heads = heads(4)
        self.class_heads = heads(config.num_classes + 1, config.class_bias)
        # The levels are concatenated, so they share a range.
        self.boxes_range = Range() if config.quantized else None
        self.classes_range = Range() if config.quantized else None
        name_layers(self)

    def __call__(self, image: Array) -> tuple[Array, Array]:
        """Return box codes (B, A, 4) and logits (B, A, num_classes + 1) of normalised images.

        Images are (B, H, W, in_channels); both results are float32, the anchors in the order of
        `tasks.detection.anchors` (level, row, column, box), background is logit 0.
        """
        points = self.backbone.endpoints(image)
        x, step = points["features"], self.backbone.step  # (B, H/32, W/32, 320)
        if self.head is not None:
            x, step = self.head(x, step), self.head.step  # (B, H/32, W/32, 1280)
        levels = [(points["detected"], self.backbone.detected_step), (x, step)]
        for extra in self.extras:
            x, step = extra(x, step), extra.expand.step
            levels.append((x, step))
        codes, logits = (
            jnp.concatenate([head(*level) for head, level in zip(heads, levels, strict=True)], 1)
            for heads in (self.box_heads, self.class_heads)
        )
        return rounded(codes, self.boxes_range), rounded(logits, self.classes_range)

    def normalize(self, image: Array | np.ndarray) -> Array:
        """Map grey levels 0-255 (B, H, W, in_channels) to the range the weights expect."""
        return normalize(image, self.config)
