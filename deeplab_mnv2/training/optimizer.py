"""Poly schedule, weight decay where it belongs, and the update rule."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from deeplab_mnv2.config import AdamW, OptimizerConfig, Sgd


def learning_rate(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Return base * (1 - step / total) ** power (arXiv:1606.00915) with linear warm-up."""
    poly = optax.polynomial_schedule(config.learning_rate, 0.0, config.power, total_steps)
    if not config.warmup_steps:
        return poly

    def schedule(step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
        # Warm-up scales the poly curve, rather than delaying it: the run still ends at zero.
        rise = jnp.minimum((jnp.asarray(step) + 1) / config.warmup_steps, 1.0)
        return jnp.asarray(poly(step)) * rise

    return schedule


def make_optimizer(
    config: OptimizerConfig, total_steps: int, params: nnx.State
) -> optax.GradientTransformation:
    """Return the whole update: clipping, weight decay, rule, head multiplier, schedule.

    `params` gives the structure only; abstract values do.
    """
    decayed = _by_path(params, _is_decayed)
    parts = []
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    decay = optax.add_decayed_weights(config.weight_decay, mask=decayed)
    match config.rule:
        case Sgd(momentum=momentum):
            # L2 in the loss, as TensorFlow: the decay enters the momentum.
            parts += [decay, optax.trace(momentum)]
        case AdamW(b1=b1, b2=b2):
            parts += [optax.scale_by_adam(b1, b2), decay]
    if config.head_multiplier != 1:
        head = _by_path(params, lambda path: path[0] != "backbone")
        parts.append(optax.masked(optax.scale(config.head_multiplier), head))
    parts.append(optax.scale_by_learning_rate(learning_rate(config, total_steps)))
    return optax.chain(*parts)


def _is_decayed(path: tuple[str, ...]) -> bool:
    # Kernels only, and not the depthwise ones (TF-slim's training scope).
    return path[-1] == "kernel" and "depthwise" not in path


def _by_path(params: nnx.State, predicate: Callable[[tuple[str, ...]], bool]) -> nnx.State:
    return jax.tree_util.tree_map_with_path(lambda path, _: predicate(tuple(_names(path))), params)


def _names(path: tuple[Any, ...]) -> Iterator[str]:
    for key in path:
        # Variables are nodes of their own, whose only child is `value`.
        if isinstance(key, jax.tree_util.DictKey):
            yield str(key.key)
