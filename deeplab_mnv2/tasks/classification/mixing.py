"""Mixup and cutmix: each image of a batch mixed with another one, and their labels with it."""

import jax
import jax.numpy as jnp
from jax import Array


def mix(
    image: Array, target: Array, key: Array, *, mixup: float, cutmix: float, repeats: int
) -> tuple[Array, Array]:
    """Return mixed images (B, H, W, C) and targets (B, classes), of one random strength a batch.

    `mixup` (arXiv:1710.09412) blends whole images, `cutmix` (arXiv:1905.04899) pastes a rectangle
    of the other; each is the alpha of the beta distribution that its strength is drawn from, 0 for
    off. Where both are on, each batch gets one of them by chance. The other image is `repeats`
    places before, since so many in a row are of one photograph.
    """
    if not mixup and not cutmix:
        return image, target
    chance, blend_key, paste_key = jax.random.split(key, 3)
    height, width = image.shape[1:3]
    shares = []
    if mixup:
        own = jax.random.beta(blend_key, mixup, mixup)
        shares.append(jnp.full((height, width), own, image.dtype))
    if cutmix:
        shares.append(_outside_box(paste_key, cutmix, (height, width)).astype(image.dtype))
    # How much of each pixel is the image's own: (H, W).
    share = shares[0]
    if len(shares) == 2:
        share = jnp.where(jax.random.bernoulli(chance), shares[0], shares[1])
    own = share.mean().astype(target.dtype)
    share = share[None, :, :, None]
    image = share * image + (1 - share) * jnp.roll(image, repeats, axis=0)
    return image, own * target + (1 - own) * jnp.roll(target, repeats, axis=0)


def _outside_box(key: Array, alpha: float, size: tuple[int, int]) -> Array:
    """Return (H, W) bool, false in a rectangle of random place and area."""
    area_key, *corner_keys = jax.random.split(key, 3)
    side = jnp.sqrt(1 - jax.random.beta(area_key, alpha, alpha))
    inside = []
    for length, corner_key in zip(size, corner_keys, strict=True):
        middle = jax.random.randint(corner_key, (), 0, length)
        half = (side * length / 2).astype(jnp.int32)
        place = jnp.arange(length)
        inside.append((place >= middle - half) & (place < middle + half))
    return ~(inside[0][:, None] & inside[1][None, :])
