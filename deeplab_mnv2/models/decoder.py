"""The decoder of DeepLabv3+ (Chen et al. 2018, arXiv:1802.02611, Figure 2)."""

import jax.numpy as jnp
from flax import nnx
from jax import Array

from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.models.aspp import head_layer
from deeplab_mnv2.models.layers import SeparableConv, resize
from deeplab_mnv2.models.ops.fake_quantization import Range, step_of

# Table 1 of the paper: 48 channels of low-level features are enough.
LOW_LEVEL_PROJECTION = 48


class Decoder(nnx.Module):
    """Low-level features at stride 4 joined to the ASPP output, refined by two 3x3 layers.

    The low-level features are the expanded ones (144 channels at width 1; TensorFlow DeepLab), or
    MobileNetV1's 128 channels.
    """

    def __init__(self, config: ModelConfig, low_level_channels: int, *, rngs: nnx.Rngs):
        layer = head_layer(config, rngs)
        channels = config.head_channels
        self.low_level = layer(low_level_channels, LOW_LEVEL_PROJECTION, own_range=False)
        self.refine = nnx.List(
            [
                SeparableConv(layer, channels + LOW_LEVEL_PROJECTION, channels),
                SeparableConv(layer, channels, channels),
            ]
        )
        self.align_corners = config.align_corners
        self.joined_range = Range() if config.quantized else None

    def __call__(self, x: Array, low_level: Array, low_level_step: Array | None = None) -> Array:
        """Map (B, H/os, W/os, C) and (B, H/4, W/4, L) to (B, H/4, W/4, C)."""
        low_level = self.low_level(low_level, low_level_step)  # (B, H/4, W/4, 48)
        if self.joined_range is not None:
            # What is concatenated shares a range, and what is resized keeps it.
            self.joined_range.measure(x, low_level)
            x, low_level = self.joined_range.round(x), self.joined_range.round(low_level)
        x = resize(x, low_level.shape[1:3], align_corners=self.align_corners)
        if self.joined_range is not None:
            x = self.joined_range.round(x)
        x, step = jnp.concatenate([x, low_level], axis=-1), step_of(self.joined_range)
        for layer in self.refine:
            x = layer(x, step)
            step = layer.step
        return x

    @property
    def step(self) -> Array | None:
        """What the values of the output are multiples of (`ConvNormAct.step`)."""
        return self.refine[-1].step
