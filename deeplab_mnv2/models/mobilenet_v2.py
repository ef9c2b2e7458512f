"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as feature extractor: Table 2."""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jax import Array

from deeplab_mnv2.config import BackboneConfig
from deeplab_mnv2.models.layers import ConvNormAct, check_normalized, round_image
from deeplab_mnv2.models.ops.fake_quantization import Range, rounded, step_of
from deeplab_mnv2.models.strides import strides_and_dilations

# Table 2 of the paper: expansion t, channels c, blocks n, stride s.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
# The stage whose last block is the last one at stride 4.
LOW_LEVEL_STAGE = 1
# The stage whose first block expands the last map at stride 16.
DETECTED_STAGE = 5


def make_divisible(channels: float, divisor: int) -> int:
    """Round to a multiple of `divisor`, at least one and never more than 10 % down."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class InvertedResidual(nnx.Module):
    """Expand 1x1, depthwise 3x3, project 1x1, with a shortcut around all three (Figure 3b)."""

    def __init__(
        self,
        config: BackboneConfig,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        stride: int,
        dilation: int,
        rngs: nnx.Rngs,
    ):
        layer = partial(
            ConvNormAct,
            padding=config.padding,
            epsilon=config.backbone_epsilon,
            momentum=config.backbone_momentum,
            dtype=jnp.dtype(config.dtype),
            quantized=config.quantized,
            rngs=rngs,
        )
        # The expanded width is rounded to 8 whatever `divisible_by` says, as in TF-slim.
        hidden = make_divisible(in_channels * expansion, 8) if expansion > 1 else in_channels
        self.expand = layer(in_channels, hidden, activation=nnx.relu6) if expansion > 1 else None
        self.depthwise = layer(
            hidden,
            hidden,
            3,
            stride=stride,
            dilation=dilation,
            depthwise=True,
            activation=nnx.relu6,
        )
        self.project = layer(
            hidden, out_channels, activation=None if config.linear_bottleneck else nnx.relu6
        )
        has_shortcut = stride == 1 and in_channels == out_channels
        self.shortcut = config.shortcut if has_shortcut else "none"
        self.sum_range = Range() if config.quantized and self.shortcut != "none" else None

    def __call__(self, x: Array, step: Array | None = None) -> tuple[Array, Array, Array]:
        """Return the block's output, the depthwise output before projection, and its input."""
        expanded = x if self.expand is None else self.expand(x, step)  # (B, H, W, t * C)
        step = step if self.expand is None else self.expand.step
        filtered = self.depthwise(expanded, step)  # (B, H/s, W/s, t * C)
        if self.shortcut == "expansion":
            filtered = rounded(filtered + expanded, self.sum_range)
        projected = self.project(filtered, self.filtered_step)  # (B, H/s, W/s, C')
        if self.shortcut == "bottleneck":
            projected = rounded(projected + x, self.sum_range)
        return projected, filtered, expanded

    @property
    def filtered_step(self) -> Array | None:
        """What the values of the depthwise output are multiples of (`ConvNormAct.step`)."""
        return step_of(self.sum_range) if self.shortcut == "expansion" else self.depthwise.step

    @property
    def step(self) -> Array | None:
        """What the values of the output are multiples of (`ConvNormAct.step`)."""
        return step_of(self.sum_range) if self.shortcut == "bottleneck" else self.project.step


class MobileNetV2(nnx.Module):
    """The paper's network without its classifier; dilation replaces its last strides."""

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs):
        def scale(channels: int) -> int:
            return make_divisible(channels * config.width_multiplier, config.divisible_by)

        channels = scale(STEM_CHANNELS)
        self.stem = ConvNormAct(
            config.in_channels,
            channels,
            3,
            stride=config.early_strides[0],
            activation=nnx.relu6,
            padding=config.padding,
            epsilon=config.backbone_epsilon,
            momentum=config.backbone_momentum,
            dtype=jnp.dtype(config.dtype),
            quantized=config.quantized,
            rngs=rngs,
        )
        stages = []
        plan = strides_and_dilations([stage[2:] for stage in STAGES], config)
        for (expansion, stage_channels, *_), places in zip(STAGES, plan, strict=True):
            blocks = []
            for stride, dilation in places:
                block = InvertedResidual(
                    config,
                    channels,
                    scale(stage_channels),
                    expansion=expansion,
                    stride=stride,
                    dilation=dilation,
                    rngs=rngs,
                )
                channels = scale(stage_channels)
                blocks.append(block)
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.out_channels = channels
        self.low_level_channels = self.stages[LOW_LEVEL_STAGE][-1].depthwise.conv.kernel.shape[-1]
        self.detected_channels = self.stages[DETECTED_STAGE][0].depthwise.conv.kernel.shape[-1]
        self.config = config

    def __call__(self, image: Array) -> Array:
        """Return the features of (B, H, W, in_channels): (B, H/os, W/os, 320 * width)."""
        return self.endpoints(image)["features"]

    def endpoints(self, image: Array) -> dict[str, Array]:
        """Return the named activations of an image (B, H, W, in_channels).

        `stem`, `stage1` ... `stage7` are the outputs of the rows of Table 2, `features` is
        the last one, `low_level` the expanded map at stride 4 that the decoder reads, and
        `detected` that at stride 16 which the detector reads, before its depthwise filter.

        Raises:
            UserError: the image is of another form, or not normalised.
        """
        check_normalized(image, self.stem.conv.kernel.shape[2])
        image, step = round_image(image, self.config)
        x = self.stem(image, step)  # (B, H/2, W/2, 32)
        step = self.stem.step
        points = {"stem": x}
        for number, stage in enumerate(self.stages, start=1):
            filtered = x
            for index, block in enumerate(stage):
                x, filtered, expanded = (
                    nnx.remat(_apply)(block, x, step) if self.config.remat else block(x, step)
                )
                step = block.step
                if (number, index) == (DETECTED_STAGE + 1, 0):
                    points["detected"] = expanded  # (B, H/16, W/16, 576)
            points[f"stage{number}"] = x
            if number == LOW_LEVEL_STAGE + 1:
                points["low_level"] = filtered  # (B, H/4, W/4, 144)
        points["features"] = x
        return points

    @property
    def step(self) -> Array | None:
        """What the values of the features are multiples of (`ConvNormAct.step`)."""
        return self.stages[-1][-1].step

    @property
    def low_level_step(self) -> Array | None:
        """What the values of `low_level` are multiples of."""
        return self.stages[LOW_LEVEL_STAGE][-1].filtered_step

    @property
    def detected_step(self) -> Array | None:
        """What the values of `detected` are multiples of."""
        return self.stages[DETECTED_STAGE][0].expand.step


def _apply(block: InvertedResidual, x: Array, step: Array | None) -> tuple[Array, Array, Array]:
    return block(x, step)
