"""MobileNetV1 (Howard et al. 2017, arXiv:1704.04861) as feature extractor: Table 1."""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jax import Array

from deeplab_mnv2.config import BackboneConfig
from deeplab_mnv2.models.layers import ConvNormAct, SeparableConv, check_normalized, round_image
from deeplab_mnv2.models.mobilenet_v2 import make_divisible
from deeplab_mnv2.models.strides import strides_and_dilations

# Table 1 of the paper: channels, blocks, stride of the first block.
STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
STEM_CHANNELS = 32
# The stage whose last block is the last one at stride 4.
LOW_LEVEL_STAGE = 1
# The stage whose last block is the last one at stride 16.
DETECTED_STAGE = 3


class MobileNetV1(nnx.Module):
    """The paper's network without its classifier; dilation replaces its last strides.

    As in TF-slim, activations are ReLU6, where the paper has ReLU.
    """

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs):
        def scale(channels: int) -> int:
            return make_divisible(channels * config.width_multiplier, config.divisible_by)

        layer = partial(
            ConvNormAct,
            activation=nnx.relu6,
            padding=config.padding,
            epsilon=config.backbone_epsilon,
            momentum=config.backbone_momentum,
            dtype=jnp.dtype(config.dtype),
            quantized=config.quantized,
            rngs=rngs,
        )
        channels = scale(STEM_CHANNELS)
        self.stem = layer(config.in_channels, channels, 3, stride=config.early_strides[0])
        stages = []
        plan = strides_and_dilations([stage[1:] for stage in STAGES], config)
        for (stage_channels, *_), places in zip(STAGES, plan, strict=True):
            blocks = []
            for stride, dilation in places:
                block = SeparableConv(
                    layer, channels, scale(stage_channels), stride=stride, dilation=dilation
                )
                channels = scale(stage_channels)
                blocks.append(block)
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.out_channels = channels
        self.low_level_channels = scale(STAGES[LOW_LEVEL_STAGE][0])
        self.detected_channels = scale(STAGES[DETECTED_STAGE][0])
        self.config = config

    def __call__(self, image: Array) -> Array:
        """Return the features of (B, H, W, in_channels): (B, H/os, W/os, 1024 * width)."""
        return self.endpoints(image)["features"]

    def endpoints(self, image: Array) -> dict[str, Array]:
        """Return the named activations of an image (B, H, W, in_channels).

        `stem`, `stage1` ... `stage5` are the last outputs with 32, 64 ... 1024 channels,
        `features` is the last one, `low_level` that at stride 4, which the decoder reads, and
        `detected` that at stride 16, the detector's first.

        Raises:
            UserError: the image is of another form, or not normalised.
        """
        check_normalized(image, self.stem.conv.kernel.shape[2])
        image, step = round_image(image, self.config)
        x = self.stem(image, step)  # (B, H/2, W/2, 32)
        step = self.stem.step
        points = {"stem": x}
        for number, stage in enumerate(self.stages, start=1):
            for block in stage:
                x = nnx.remat(_apply)(block, x, step) if self.config.remat else block(x, step)
                step = block.step
            points[f"stage{number}"] = x
        points["low_level"] = points[f"stage{LOW_LEVEL_STAGE + 1}"]  # (B, H/4, W/4, 128)
        points["detected"] = points[f"stage{DETECTED_STAGE + 1}"]  # (B, H/16, W/16, 512)
        points["features"] = x
        return points

    @property
    def step(self) -> Array | None:
        """What the values of the features are multiples of (`ConvNormAct.step`)."""
        return self.stages[-1][-1].step

    @property
    def low_level_step(self) -> Array | None:
        """What the values of `low_level` are multiples of."""
        return self.stages[LOW_LEVEL_STAGE][-1].step

    @property
    def detected_step(self) -> Array | None:
        """What the values of `detected` are multiples of."""
        return self.stages[DETECTED_STAGE][-1].step


def _apply(block: SeparableConv, x: Array, step: Array | None) -> Array:
    return block(x, step)
