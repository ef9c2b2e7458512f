"""DeepLab on a MobileNet: backbone, ASPP, decoder and logits, put together."""

import copy
import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.models.aspp import ASPP
from deeplab_mnv2.models.backbone import make_backbone
from deeplab_mnv2.models.decoder import Decoder
from deeplab_mnv2.models.layers import Conv, name_layers, normalize, resize
from deeplab_mnv2.models.ops.fake_quantization import Range, rounded


class DeepLab(nnx.Module):
    """DeepLabv3 (arXiv:1706.05587) on a MobileNet; with `config.decoder`, DeepLabv3+.

    Built in training mode; `model.eval()` switches norm to stored statistics and dropout off.

    Raises:
        UserError: a setting of `config` is out of range.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        config.check()
        # A copy, so that a later change of the caller's config does not change this model's.
        self.config = copy.deepcopy(config)
        self.backbone = make_backbone(config, rngs=rngs)
        self.aspp = ASPP(config, self.backbone.out_channels, rngs=rngs)
        self.decoder = (
            Decoder(config, self.backbone.low_level_channels, rngs=rngs) if config.decoder else None
        )
        # Without a key of its own: training passes `rngs`, so a checkpoint has no random state.
        self.dropout = nnx.Dropout(config.dropout)
        self.classifier = Conv(
            config.head_channels,
            config.num_classes,
            use_bias=True,
            kernel_init=nnx.initializers.truncated_normal(0.01),
            dtype=jnp.dtype(config.dtype),
            quantized=config.quantized,
            rngs=rngs,
        )
        self.logits_range = Range() if config.quantized else None
        name_layers(self)

    def __call__(self, image: Array, *, rngs: nnx.Rngs | None = None) -> Array:
        """Return float32 logits (B, H, W, classes) of normalised images (B, H, W, channels)."""
        logits = self.head_logits(image, rngs=rngs).astype(jnp.float32)
        return resize(logits, image.shape[1:3], align_corners=self.config.align_corners)

    def head_logits(self, image: Array, *, rngs: nnx.Rngs | None = None) -> Array:
        """Return the logits before upsampling: (B, H/os, W/os, classes), stride 4 with decoder.

        `rngs` is for dropout, so only training mode needs it.
        """
        points = self.backbone.endpoints(image)
        # After ASPP's projection, even if a decoder follows (TensorFlow DeepLab).
        x = self.aspp(points["features"], self.backbone.step)  # (B, H/os, W/os, 256)
        x, step = self.dropout(x, rngs=rngs), self.aspp.project.step
        if self.decoder is not None:
            x = self.decoder(x, points["low_level"], self.backbone.low_level_step)
            step = self.decoder.step  # x is (B, H/4, W/4, 256)
        return rounded(self.classifier(x, step), self.logits_range)

    def normalize(self, image: Array | np.ndarray) -> Array:
        """Map grey levels 0-255 (B, H, W, channels) to the range the weights expect."""
        return normalize(image, self.config)


def at_output_stride(model: DeepLab, output_stride: int) -> DeepLab:
    """Return a model with the same weights and another output stride, in evaluation mode."""
    config = dataclasses.replace(model.config, output_stride=output_stride)
    other = nnx.eval_shape(lambda: DeepLab(config, rngs=nnx.Rngs(0)))
    nnx.update(other, nnx.state(model))
    other.eval()
    return other
