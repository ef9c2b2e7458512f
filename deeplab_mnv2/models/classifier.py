"""The ImageNet classifiers of the MobileNets (arXiv:1801.04381 and 1704.04861)."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from deeplab_mnv2.config import ClassifierConfig
from deeplab_mnv2.models.backbone import make_backbone
from deeplab_mnv2.models.layers import Conv, ConvNormAct, name_layers, normalize
from deeplab_mnv2.models.mobilenet_v2 import make_divisible
from deeplab_mnv2.models.ops.fake_quantization import Range, rounded, step_of

# Table 2 of the MobileNetV2 paper, the 1x1 convolution before the pooling.
CLASSIFIER_CHANNELS = 1280


class Classifier(nnx.Module):
    """MobileNet, for V2 a 1x1 to 1280 channels, average pooling, dropout, logits.

    Raises:
        UserError: a setting of `config` is out of range.
    """

    def __init__(self, config: ClassifierConfig, *, rngs: nnx.Rngs):
        config.check()
        self.config = copy.deepcopy(config)
        self.backbone = make_backbone(config, rngs=rngs)
        self.head = _last_convolution(config, self.backbone.out_channels, rngs)
        channels = self.head.conv.kernel.shape[-1] if self.head else self.backbone.out_channels
        self.dropout = nnx.Dropout(config.dropout)
        self.classifier = Conv(
            channels,
            config.num_classes,
            use_bias=True,
            kernel_init=nnx.initializers.truncated_normal(0.01),
            dtype=jnp.dtype(config.dtype),
            quantized=config.quantized,
            rngs=rngs,
        )
        self.pooled_range = Range() if config.quantized else None
        self.logits_range = Range() if config.quantized else None
        name_layers(self)

    def __call__(self, image: Array, *, rngs: nnx.Rngs | None = None) -> Array:
        """Return logits (B, num_classes) of normalised images (B, H, W, in_channels)."""
        x = self.backbone(image)
        if self.head is not None:
            x = self.head(x, self.backbone.step)  # (B, H/32, W/32, 1280)
        x = jnp.mean(x, axis=(1, 2), keepdims=True)  # (B, 1, 1, 1280), 1024 for V1
        x = self.dropout(rounded(x, self.pooled_range), rngs=rngs)
        x = rounded(self.classifier(x, step_of(self.pooled_range)), self.logits_range)
        return jax.lax.squeeze(x, (1, 2)).astype(jnp.float32)

    def normalize(self, image: Array | np.ndarray) -> Array:
        """Map grey levels 0-255 (B, H, W, in_channels) to the range the weights expect."""
        return normalize(image, self.config)


def _last_convolution(
    config: ClassifierConfig, in_channels: int, rngs: nnx.Rngs
) -> ConvNormAct | None:
    """Return the 1x1 convolution to 1280 channels, which MobileNetV1 does without."""
    if config.version == 1:
        return None
    # Narrow networks keep 1280 channels (Section 6.1 of the paper).
    return ConvNormAct(
        in_channels,
        make_divisible(CLASSIFIER_CHANNELS * max(1.0, config.width_multiplier), 8),
        activation=nnx.relu6,
        padding=config.padding,
        epsilon=config.backbone_epsilon,
        momentum=config.backbone_momentum,
        dtype=jnp.dtype(config.dtype),
        quantized=config.quantized,
        rngs=rngs,
    )
