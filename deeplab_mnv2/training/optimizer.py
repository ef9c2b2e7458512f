"""The learning-rate schedule, weight decay where it belongs, and the update rule."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from deeplab_mnv2.config import (
    AdamW,
    Constant,
    Cosine,
    Exponential,
    Lamb,
    Lion,
    OptimizerConfig,
    OwnRule,
    OwnSchedule,
    Poly,
    RmsProp,
    Sgd,
)


def learning_rate(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    """Return the learning rate at each step: the schedule, scaled up in `warmup_steps`."""
    after = _schedule(config, total_steps)
    if not config.warmup_steps:
        return after

    def schedule(step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
        # Warm-up scales the curve, rather than delaying it: the run still ends at zero.
        rise = jnp.minimum((jnp.asarray(step) + 1) / config.warmup_steps, 1.0)
        return jnp.asarray(after(step)) * rise

    return schedule


def _schedule(config: OptimizerConfig, total_steps: int) -> optax.Schedule:
    base = config.learning_rate
    match config.schedule:
        case Poly(power=power):
            return optax.polynomial_schedule(base, 0.0, power, total_steps)
        case Cosine(end=end):
            return optax.cosine_decay_schedule(base, total_steps, end)
        case Exponential(rate=rate, every=every, staircase=staircase):
            return optax.exponential_decay(base, every, rate, staircase=staircase)
        case Constant():
            return optax.constant_schedule(base)
    own: OwnSchedule = config.schedule
    return lambda step: base * own.factor(step, total_steps)


def make_optimizer(
    config: OptimizerConfig, total_steps: int, params: nnx.State
) -> optax.GradientTransformation:
    """Return the whole update: clipping, weight decay, rule, head multiplier, schedule.

    `params` gives the structure only; abstract values do.
    """
    rate = learning_rate(config, total_steps)
    parts = []
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    decay = optax.add_decayed_weights(config.weight_decay, mask=_by_path(params, _is_decayed))
    parts += _rule(config.rule, decay, rate)
    if config.head_multiplier != 1:
        head = _by_path(params, lambda path: path[0] != "backbone")
        parts.append(optax.masked(optax.scale(config.head_multiplier), head))
    if isinstance(config.rule, RmsProp):
        parts.append(optax.scale(-1.0))
    else:
        parts.append(optax.scale_by_learning_rate(rate))
    return optax.chain(*parts)


def _rule(
    rule: Any, decay: optax.GradientTransformation, rate: optax.Schedule
) -> list[optax.GradientTransformation]:
    # A flat list: the order of these is the layout of the checkpoints.
    match rule:
        case Sgd(momentum=momentum):
            # L2 in the loss, as TensorFlow: the decay enters the momentum.
            return [decay, optax.trace(momentum)]
        case AdamW(b1=b1, b2=b2):
            return [optax.scale_by_adam(b1, b2), decay]
        case RmsProp():
            # TensorFlow's: the rate enters the momentum, so that a lower one acts at once.
            return [
                decay,
                optax.scale_by_rms(
                    rule.decay, rule.epsilon, rule.initial, eps_in_sqrt=True, bias_correction=False
                ),
                optax.scale_by_learning_rate(rate, flip_sign=False),
                optax.trace(rule.momentum),
            ]
        case Lamb(b1=b1, b2=b2):
            return [optax.scale_by_adam(b1, b2), decay, optax.scale_by_trust_ratio()]
        case Lion(b1=b1, b2=b2):
            return [optax.scale_by_lion(b1, b2), decay]
    own: OwnRule = rule
    return [own.transformation(decay)]


def _is_decayed(path: tuple[str, ...]) -> bool:
    # Kernels only, and not the depthwise ones (TF-slim's training scope).
    return path[-1] == "kernel" and "depthwise" not in path


def _by_path(params: nnx.State, predicate: Callable[[tuple[str, ...]], bool]) -> nnx.State:
    return jax.tree_util.tree_map_with_path(lambda path, _: predicate(path_names(path)), params)


def path_names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the names on the path to a leaf of a state, its variable's the last."""
    # Variables are nodes of their own, whose only child is `value`.
    return tuple(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
