"""Norm statistics measured again on images (precise batch norm, arXiv:2105.07576)."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from deeplab_mnv2.config import PARTS
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.layers import ConvNormAct
from deeplab_mnv2.models.ops.batch_norm import Activation, BatchNorm
from deeplab_mnv2.weights.model_weights import Network, nodes


class _Measured(nnx.Module):
    """A norm layer that notes mean and variance of what it is given."""

    def __init__(self, norm: BatchNorm):
        self.norm = norm
        self.mean = nnx.BatchStat(jnp.zeros_like(norm.mean[...]))
        self.var = nnx.BatchStat(jnp.zeros_like(norm.var[...]))

    def __call__(self, x: Array, activation: Activation | None) -> Array:
        axes = tuple(range(x.ndim - 1))
        self.mean[...] = jnp.mean(x, axes, dtype=jnp.float32)
        self.var[...] = jnp.var(x, axes, dtype=jnp.float32)
        return self.norm(x, activation)


def calibrate(
    model: Network,
    images: Iterable[Any],
    *,
    parts: Sequence[str] = PARTS,
    keep_function: bool = True,
) -> None:
    """Set the norm statistics of `parts` of `model` to those of `images`, in place.

    `images` are batches (B, H, W, channels), normalised; the statistics are exact over all of
    their pixels, not a moving average. Some dozens of images settle those of most layers, a few
    thousand those after the image pooling, which has one pixel an image.

    With `keep_function` the network computes what it did: scale and bias take up the change.
    That is what makes training start soundly from a file whose norm was folded, because batch
    statistics then reproduce the published network. Without, each layer is normalised by the
    batch's statistics and left so: precise batch norm for a network trained here.

    Raises:
        UserError: there are no images.
    """
    # A clone, because its norm layers are replaced by measuring ones.
    probe = nnx.clone(model)
    probe.eval()
    # Ranges come later, from the network whose norm is measured.
    probe.set_attributes(rounds=False)
    for layer in nodes(probe, ConvNormAct).values():
        # Batch statistics only where the function may change: otherwise every layer has to
        # see what it sees at inference.
        layer.norm.use_running_average = keep_function
        layer.norm = cast(BatchNorm, _Measured(layer.norm))
    graphdef, state = nnx.split(probe)

    @jax.jit
    def measure(state: nnx.State, image: Array) -> dict[str, tuple[Array, Array]]:
        network = nnx.merge(graphdef, state)
        network(image)
        return {
            name: (layer.norm.mean[...], layer.norm.var[...])
            for name, layer in nodes(network, ConvNormAct).items()
        }

    # Float64 sums of mean and second moment, so that a small variance beside a large mean
    # survives; every batch counts as many times as it has pixels.
    weight, means, squares = 0.0, {}, {}
    for image in images:
        image = jnp.asarray(image, jnp.float32)
        pixels = float(np.prod(image.shape[:3]))
        weight += pixels
        for name, (mean, var) in jax.device_get(measure(state, image)).items():
            mean, var = mean.astype(np.float64), var.astype(np.float64)
            means[name] = means.get(name, 0.0) + pixels * mean
            squares[name] = squares.get(name, 0.0) + pixels * (var + mean**2)
    if not weight:
        raise UserError("There are no images to measure norm statistics on; check the data set.")
    for name, layer in nodes(model, ConvNormAct).items():
        if name.partition(".")[0] not in parts:
            continue
        mean = means[name] / weight
        _set_statistics(layer.norm, mean, squares[name] / weight - mean**2, keep_function)


def _set_statistics(
    norm: BatchNorm, mean: np.ndarray, var: np.ndarray, keep_function: bool
) -> None:
    """Set mean and variance; with `keep_function` scale and bias undo it at inference."""
    var = np.maximum(var, 0)
    if keep_function and norm.scale is not None and norm.bias is not None:
        old_mean, old_var, scale, bias = (
            np.asarray(variable[...], np.float64)
            for variable in (norm.mean, norm.var, norm.scale, norm.bias)
        )
        slope = scale / np.sqrt(old_var + norm.epsilon)
        norm.scale.set_value(jnp.asarray(slope * np.sqrt(var + norm.epsilon), jnp.float32))
        norm.bias.set_value(jnp.asarray(bias + slope * (mean - old_mean), jnp.float32))
    norm.mean.set_value(jnp.asarray(mean, jnp.float32))
    norm.var.set_value(jnp.asarray(var, jnp.float32))
