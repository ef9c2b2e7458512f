"""Ranges of activations measured on images, for networks that are rounded to 8 bits."""

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.ops.fake_quantization import Range
from deeplab_mnv2.weights.model_weights import Network, Weights, abstract_model, nodes, variables
from deeplab_mnv2.weights.naming import is_range

# Any of the networks, and the same again.
Rounded = TypeVar("Rounded", bound=Network)


def with_ranges(model: Rounded) -> Rounded:
    """Return a network of the same weights with ranges, not measured yet; in evaluation mode."""
    twin = abstract_model(dataclasses.replace(model.config, quantized=True))
    given = variables(model)
    for name, variable in variables(twin).items():
        variable.set_value(jnp.zeros(()) if is_range(name) else given[name][...])
    twin.eval()
    return twin


def without_ranges(weights: Weights) -> Weights:
    """Return the weights of the network that is not rounded."""
    return dataclasses.replace(
        weights,
        config=dataclasses.replace(weights.config, quantized=False),
        tensors={name: a for name, a in weights.tensors.items() if not is_range(name)},
    )


def measure_ranges(model: Network, images: Iterable[Any]) -> None:
    """Set the ranges of `model` to those of `images`, in place; it computes in float32 meanwhile.

    `images` are batches (B, H, W, channels), normalised. A range is the mean of the batches' least
    and largest values: one odd image must not cost all others their precision.

    Raises:
        UserError: there are no images.
    """
    probe = nnx.clone(model)
    probe.eval()
    probe.set_attributes(rounds=False)
    for part in nodes(probe, Range).values():
        # Without memory, so that each batch gives its own.
        part.deterministic, part.momentum = False, 0.0
    graphdef, state = nnx.split(probe)

    @jax.jit
    def measure(state: nnx.State, image: Array) -> dict[str, tuple[Array, Array]]:
        network = nnx.merge(graphdef, state)
        network(image)
        return {
            name: (part.low[...], part.high[...]) for name, part in nodes(network, Range).items()
        }

    found = [jax.device_get(measure(state, jnp.asarray(image))) for image in images]
    if not found:
        raise UserError("There are no images to measure ranges on; check the data set.")
    means = jax.tree.map(lambda *values: np.float32(np.mean(values)), *found)
    for name, part in nodes(model, Range).items():
        for end, value in zip((part.low, part.high), means[name], strict=True):
            end.set_value(jnp.asarray(value))
