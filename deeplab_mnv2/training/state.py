"""What a run carries from step to step, and the step."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from deeplab_mnv2.config import Config
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.sharding import (
    batch_sharding,
    replicated,
    split_rows,
    state_sharding,
)
from deeplab_mnv2.training.losses import labelled_weight, segmentation_loss

TrainStep = Callable[["TrainState", dict[str, Array]], tuple["TrainState", dict[str, Array]]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """Everything that a checkpoint holds of the network; `ema` is None where it is off."""

    step: Array
    params: nnx.State
    batch_stats: nnx.State
    opt_state: optax.OptState
    ema: nnx.State | None

    def scored(self) -> tuple[nnx.State, nnx.State]:
        """Return the parameters and norm statistics that evaluation uses."""
        return (self.params if self.ema is None else self.ema), self.batch_stats


def create_state(model: DeepLab, optimizer: optax.GradientTransformation, config: Config):
    """Return (graphdef, state) of a model at step 0."""
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    def begin(params: nnx.State, batch_stats: nnx.State) -> TrainState:
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            # A copy: the step donates its input, and a buffer can be donated once.
            ema=jax.tree.map(jnp.copy, params) if config.train.ema_decay else None,
        )

    return graphdef, begin(params, batch_stats)


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: Config,
    mesh: Mesh,
    abstract_state: TrainState,
) -> TrainStep:
    """Return the jitted step (state, batch) -> (state, values), state donated.

    The values are `loss`, `grad_norm` and `finite`; where that is false, the step changed nothing.

    `batch` holds `image` (B, H, W, 3) uint8 and `label` (B, H, W) uint8, sharded over the
    mesh. Norm statistics and the loss's divisor are those of the global batch (of each part,
    for the statistics, where `train.accumulate` splits it).
    """
    sharding = state_sharding(abstract_state, mesh)
    step = functools.partial(_train_step, graphdef, optimizer, config, mesh)
    return jax.jit(
        step,
        in_shardings=(sharding, batch_sharding(mesh)),
        out_shardings=(sharding, replicated(mesh)),
        donate_argnums=0,
    )


def _train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    config: Config,
    mesh: Mesh,
    state: TrainState,
    batch: dict[str, Array],
) -> tuple[TrainState, dict[str, Array]]:
    # Dropout is a function of (seed, step) alone, so a resumed run repeats it.
    key = jax.random.fold_in(jax.random.key(config.train.seed), state.step)
    label = batch["label"].astype(jnp.int32)
    total_weight = jnp.sum(labelled_weight(label, config.loss))

    def loss_fn(params, batch_stats, image, label, key):
        model = nnx.merge(graphdef, params, batch_stats, copy=True)
        if config.train.freeze_norm:
            model.set_attributes(use_running_average=True, raise_if_not_found=False)
        for name in config.train.freeze:
            # In evaluation mode and without gradient: the compiler drops its backward pass.
            frozen = _module(model, name)
            frozen.eval()
            nnx.update(frozen, jax.lax.stop_gradient(nnx.state(frozen)))
        # The key stream must be made inside the differentiated function (Flax trace levels).
        image = model.normalize(split_rows(image, mesh))
        logits = model.head_logits(image, rngs=nnx.Rngs(dropout=key)).astype(jnp.float32)
        loss = segmentation_loss(
            logits,
            label,
            state.step,
            config.loss,
            total_weight=total_weight,
            align_corners=config.model.align_corners,
        )
        return loss, nnx.state(model, nnx.BatchStat)

    gradient = jax.value_and_grad(loss_fn, has_aux=True)
    parts = config.train.accumulate
    if parts == 1:
        (loss, batch_stats), grads = gradient(
            state.params, state.batch_stats, batch["image"], label, key
        )
    else:

        def accumulate(carry, part):
            index, image, label = part
            loss, batch_stats, grads = carry
            (more_loss, batch_stats), more_grads = gradient(
                state.params, batch_stats, image, label, jax.random.fold_in(key, index)
            )
            return (loss + more_loss, batch_stats, jax.tree.map(jnp.add, grads, more_grads)), None

        zero = jax.tree.map(jnp.zeros_like, state.params)
        carry = (jnp.zeros(()), state.batch_stats, zero)
        stacked = (jnp.arange(parts), _split(batch["image"], parts), _split(label, parts))
        (loss, batch_stats, grads), _ = jax.lax.scan(accumulate, carry, stacked)

    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = cast(nnx.State, optax.apply_updates(state.params, updates))
    # Without a gradient, weight decay would still move them.
    for name in config.train.freeze:
        *above, last = _keys(name)
        kept = functools.reduce(operator.getitem, above, state.params)
        functools.reduce(operator.getitem, above, params)[last] = kept[last]
    ema = state.ema
    if ema is not None:
        # Short memory at first, so that the random start does not linger.
        decay = jnp.minimum(config.train.ema_decay, (1 + state.step) / (10 + state.step))
        ema = cast(nnx.State, optax.incremental_update(params, ema, 1 - decay))
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    # A step that went wrong leaves everything as it was, but for the count: the data goes on.
    after = TrainState(state.step, params, batch_stats, opt_state, ema)
    after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
    after.step = state.step + 1
    return after, {"loss": loss, "grad_norm": grad_norm, "finite": finite}


def _module(model: nnx.Module, name: str) -> nnx.Module:
    found: Any = model
    for key in _keys(name):
        found = found[key] if isinstance(key, int) else getattr(found, key)
    return found


def _keys(name: str) -> list[str | int]:
    return [int(key) if key.isdigit() else key for key in name.split(".")]


def _split(x: Array, parts: int) -> Array:
    """Return (parts, B / parts, ...), strided so that each part lies on every device."""
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
