"""Losses of classification as (sum, weight), so that the parts of a batch add up."""

import jax
import jax.numpy as jnp
from jax import Array

from deeplab_mnv2.config import (
    CrossEntropy,
    Dice,
    Focal,
    FocalBox,
    Jaccard,
    Loss,
    LovaszSoftmax,
    MultiBox,
    Sum,
)
from deeplab_mnv2.errors import UserError


def loss_sums(loss: Loss, logits: Array, target: Array, step: Array) -> tuple[Array, Array]:
    """Return the loss of a batch as a sum and what to divide it by, both scalars.

    `logits` (B, classes) float32; `target` (B, classes) float32, the share of each class, which
    is 1 for the label unless images were mixed.

    Raises:
        UserError: the loss is one of segmentation's.
    """
    match loss:
        case CrossEntropy():
            return _cross_entropy(loss, logits, target)
        case Focal() | Dice() | Jaccard() | LovaszSoftmax() | Sum() | MultiBox() | FocalBox():
            name = type(loss).__name__
            raise UserError(f"{name} is no loss of classification; set loss=CrossEntropy().")
        case _:
            return loss.sums(logits, target, step)


def _cross_entropy(loss: CrossEntropy, logits: Array, target: Array) -> tuple[Array, Array]:
    classes = logits.shape[-1]
    log_probability = jax.nn.log_softmax(logits)
    weights = jnp.asarray(loss.class_weights or (1.0,) * classes, jnp.float32)[None]
    smooth = (1 - loss.label_smoothing) * target + loss.label_smoothing / classes
    total = -(weights * smooth * log_probability).sum()
    return total, (weights * target).sum()
