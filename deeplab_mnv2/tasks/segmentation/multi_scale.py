"""Predictions averaged over scales and mirror images, on the device."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.layers import resize


def predict(
    model: DeepLab, image: Array, scales: tuple[float, ...], *, flip: bool
) -> tuple[Array, Array]:
    """Return the class (B, H, W) int32 of each pixel and its probability (B, H, W).

    Of `image` (B, H, W, 3) in grey levels; probabilities are averaged over scales and mirror
    images, each resized to the input.
    """
    if scales == (1.0,) and not flip:
        logits = model(model.normalize(image))
        largest = jnp.max(logits, axis=-1, keepdims=True)
        # The softmax of the largest, without the others.
        confidence = 1 / jnp.sum(jnp.exp(logits - largest), axis=-1)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), confidence
    probabilities = _average(model, model, image, image.shape[1:3], scales, flip=flip)
    confidence = jnp.max(probabilities, axis=-1)
    return jnp.argmax(probabilities, axis=-1).astype(jnp.int32), confidence


def head_logits(model: DeepLab, image: Array, scales: tuple[float, ...], *, flip: bool) -> Array:
    """Return logits (B, h, w, C) of the network's own size, for grey levels (B, H, W, 3).

    With other scales or mirror images they are the logarithm of the mean probabilities.
    """
    logits = model.head_logits(model.normalize(image)).astype(jnp.float32)
    if scales == (1.0,) and not flip:
        return logits
    size = logits.shape[1:3]
    probabilities = _average(model, model.head_logits, image, size, scales, flip=flip)
    # Logits are interpolated, which an infinite one would spoil around it.
    return jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))


def _average(
    model: DeepLab,
    network: Callable[[Array], Array],
    image: Array,
    size: Sequence[int],
    scales: tuple[float, ...],
    *,
    flip: bool,
) -> Array:
    """Return class probabilities (B, *size, C) averaged over scales and mirror images.

    `network` is the model or its head, from a normalised image to logits.
    """
    _, height, width, _ = image.shape
    align = model.config.align_corners
    normalised = model.normalize(image)
    total = jnp.zeros((image.shape[0], *size, model.config.num_classes), jnp.float32)
    for scale in scales:
        # TensorFlow DeepLab's scale_dimension: sides stay a multiple of the stride plus one.
        scaled_size = round((height - 1) * scale) + 1, round((width - 1) * scale) + 1
        scaled = resize(normalised, scaled_size, align_corners=align)
        for mirrored in (False, True) if flip else (False,):
            view = scaled[:, :, ::-1] if mirrored else scaled
            probabilities = jax.nn.softmax(network(view).astype(jnp.float32))
            if mirrored:
                probabilities = probabilities[:, :, ::-1]
            total += resize(probabilities, size, align_corners=align)
    return total / (len(scales) * (2 if flip else 1))
