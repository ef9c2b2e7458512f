"""Atrous spatial pyramid pooling (DeepLabv3, arXiv:1706.05587, Section 3.3)."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.models.layers import ConvNormAct, SeparableConv, resize
from deeplab_mnv2.models.ops.fake_quantization import Range, rounded, step_of
from deeplab_mnv2.models.ops.pixel_sums import wide


class ASPP(nnx.Module):
    """Image pooling, a 1x1 branch and a 3x3 branch for each rate, concatenated and projected.

    Without rates, pooling and the 1x1 branch are the mobile head of TensorFlow DeepLab.
    """

    def __init__(self, config: ModelConfig, in_channels: int, *, rngs: nnx.Rngs):
        layer = head_layer(config, rngs)
        channels = config.head_channels
        # Branches that are concatenated share a range, as LiteRT has it.
        branch = partial(layer, own_range=False)
        self.image_pool = branch(in_channels, channels)
        branches: list[ConvNormAct | SeparableConv] = [branch(in_channels, channels)]
        for rate in config.atrous_rates:
            # Rates are given for output stride 16; on a finer grid they grow in proportion.
            dilation = max(1, rate * 16 // config.output_stride)
            if config.separable_aspp:
                branches.append(
                    SeparableConv(layer, in_channels, channels, dilation=dilation, own_range=False)
                )
            else:
                branches.append(branch(in_channels, channels, 3, dilation=dilation))
        self.branches = nnx.List(branches)
        # What a decoder concatenates is rounded there.
        self.project = layer(channels * (1 + len(branches)), channels, own_range=not config.decoder)
        self.pooled_range = Range() if config.quantized else None
        self.branches_range = Range() if config.quantized else None
        self.align_corners = config.align_corners
        self.pool_window = (
            (config.image_pool_crop - 1) // config.output_stride + 1
            if config.image_pool_crop
            else None
        )

    def __call__(self, x: Array, step: Array | None = None) -> Array:
        """Map features (B, h, w, in_channels) to (B, h, w, head_channels)."""
        size = x.shape[1:3]
        pooled = self._pool(x)  # (B, 1, 1, in_channels), or (B, h', w', in_channels) with a window
        pooled = self.image_pool(rounded(pooled, self.pooled_range), step_of(self.pooled_range))
        if pooled.shape[1:3] == (1, 1):
            # From float32, so that the gradient is summed in float32.
            shape = (x.shape[0], *size, pooled.shape[-1])
            pooled = jnp.broadcast_to(wide(pooled), shape).astype(x.dtype)
        else:
            pooled = resize(pooled, size, align_corners=self.align_corners)
        x = jnp.concatenate([pooled, *(branch(x, step) for branch in self.branches)], axis=-1)
        return self.project(rounded(x, self.branches_range), step_of(self.branches_range))

    def _pool(self, x: Array) -> Array:
        if self.pool_window is None:
            # Summed in float32: a sum of a thousand pixels in bfloat16 has only two right digits.
            return jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype)
        window = (1, min(self.pool_window, x.shape[1]), min(self.pool_window, x.shape[2]), 1)
        total = lax.reduce_window(
            x.astype(jnp.float32), 0.0, lax.add, window, (1, 1, 1, 1), "VALID"
        )
        return (total / (window[1] * window[2])).astype(x.dtype)


def head_layer(config: ModelConfig, rngs: nnx.Rngs) -> Callable[..., ConvNormAct]:
    """Return `ConvNormAct` with the head's norm, padding and ReLU filled in."""
    return partial(
        ConvNormAct,
        activation=nnx.relu,
        padding=config.padding,
        epsilon=config.head_epsilon,
        momentum=config.head_momentum,
        dtype=jnp.dtype(config.dtype),
        quantized=config.quantized,
        rngs=rngs,
    )
