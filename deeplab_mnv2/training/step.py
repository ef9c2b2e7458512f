"""The training step: loss, gradient, update, freezing and averaging, as one compiled program."""

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

from deeplab_mnv2.config import TrainConfig
from deeplab_mnv2.sharding import batch_sharding, gather, replicated, split_rows, state_sharding
from deeplab_mnv2.tasks.task import Task
from deeplab_mnv2.training.optimizer import path_names
from deeplab_mnv2.training.state import TrainState
from deeplab_mnv2.weights.naming import is_range

Batch = dict[str, Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    task: Task,
    config: TrainConfig,
    mesh: Mesh,
    abstract_state: TrainState,
) -> TrainStep:
    """Return the jitted step (state, batch) -> (state, values), state donated.

    The values are `loss`, `grad_norm` and `finite`; where that is false, the step changed nothing.

    `batch` holds the arrays of `task.augment`, (B, ...), sharded over the mesh. Norm statistics
    and the loss's divisor are those of the global batch (of each part, for the statistics, where
    `accumulate` splits it).
    """
    sharding = state_sharding(abstract_state, mesh)
    step = functools.partial(_train_step, graphdef, optimizer, task, config, mesh)
    return jax.jit(
        step,
        in_shardings=(sharding, batch_sharding(mesh)),
        out_shardings=(sharding, replicated(mesh)),
        donate_argnums=0,
    )


def _train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    task: Task,
    config: TrainConfig,
    mesh: Mesh,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, dict[str, Array]]:
    gradient = functools.partial(_gradient, graphdef, task, config, mesh)
    if config.quantize_from:
        # Both in one program, of which a step runs one.
        loss, batch_stats, grads = jax.lax.cond(
            state.step < config.quantize_from,
            functools.partial(gradient, False),
            functools.partial(gradient, True),
            state,
            batch,
        )
    else:
        loss, batch_stats, grads = gradient(True, state, batch)
    if config.freeze_ranges_from:
        batch_stats = _keep_ranges(
            batch_stats, state.batch_stats, state.step >= config.freeze_ranges_from
        )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = cast(nnx.State, optax.apply_updates(state.params, updates))
    _keep_frozen(params, state.params, config.freeze)
    ema = _average(state, params, config.ema_decay)
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    # A step that went wrong leaves everything as it was, but for the counts: the data moves on,
    # and so does the learning rate.
    after = TrainState(state.step, params, batch_stats, opt_state, ema)
    after = jax.tree.map(
        lambda new, old: new if _is_schedule(new) else jnp.where(finite, new, old),
        after,
        state,
        is_leaf=_is_schedule,
    )
    after.step = state.step + 1
    return after, {"loss": loss, "grad_norm": grad_norm, "finite": finite}


def _is_schedule(part: Any) -> bool:
    return isinstance(part, optax.ScaleByScheduleState)


def _gradient(
    graphdef: nnx.GraphDef,
    task: Task,
    config: TrainConfig,
    mesh: Mesh,
    rounds: bool,
    state: TrainState,
    batch: Batch,
) -> tuple[Array, nnx.State, nnx.State]:
    """Return the loss of a batch, the norm statistics after it and the gradient.

    A network with ranges (`model.quantized`) rounds to 8 bits in them where `rounds` is set.
    """
    # Dropout is a function of (seed, step) alone, so a resumed run repeats it.
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)

    def loss_sums(params, batch_stats, batch, key):
        model = nnx.merge(graphdef, gather(params, mesh), batch_stats, copy=True)
        _freeze(model, config)
        if not rounds:
            model.set_attributes(rounds=False)
        batch = {**batch, "image": split_rows(batch["image"], mesh)}
        # The key stream must be made inside the differentiated function (Flax trace levels).
        total, weight = task.loss(model, batch, state.step, nnx.Rngs(dropout=key))
        return total, jax.lax.stop_gradient(weight), nnx.state(model, nnx.BatchStat)

    if config.accumulate == 1:

        def loss_fn(params):
            total, weight, batch_stats = loss_sums(params, state.batch_stats, batch, key)
            return total / _divisor(weight), batch_stats

        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return loss, batch_stats, grads

    def part_fn(params, batch_stats, part, key):
        total, weight, batch_stats = loss_sums(params, batch_stats, part, key)
        return total, (weight, batch_stats)

    def accumulate(carry, part):
        index, part = part
        total, weight, batch_stats, grads = carry
        (more, (more_weight, batch_stats)), more_grads = jax.value_and_grad(part_fn, has_aux=True)(
            state.params, batch_stats, part, jax.random.fold_in(key, index)
        )
        grads = jax.tree.map(jnp.add, grads, more_grads)
        return (total + more, weight + more_weight, batch_stats, grads), None

    parts = config.accumulate
    zero = jnp.zeros(())
    carry = (zero, zero, state.batch_stats, jax.tree.map(jnp.zeros_like, state.params))
    stacked = jnp.arange(parts), jax.tree.map(lambda x: _split(x, parts), batch)
    (total, weight, batch_stats, grads), _ = jax.lax.scan(accumulate, carry, stacked)
    divisor = _divisor(weight)
    return total / divisor, batch_stats, jax.tree.map(lambda grad: grad / divisor, grads)


def _divisor(weight: Array) -> Array:
    """Return what the loss of a whole batch is divided by, whose parts may weigh nothing."""
    return jnp.where(weight > 0, weight, 1)


def _freeze(model: nnx.Module, config: TrainConfig) -> None:
    """Put frozen modules into evaluation mode and cut their gradient."""
    if config.freeze_norm:
        model.set_attributes(use_running_average=True, raise_if_not_found=False)
    for name in config.freeze:
        frozen = _module(model, name)
        frozen.eval()
        # Without gradient the compiler drops their backward pass.
        nnx.update(frozen, jax.lax.stop_gradient(nnx.state(frozen)))


def _keep_frozen(params: nnx.State, before: nnx.State, freeze: tuple[str, ...]) -> None:
    """Put frozen parameters back: without a gradient, weight decay would still move them."""
    for name in freeze:
        *above, last = _keys(name)
        kept = functools.reduce(operator.getitem, above, before)
        functools.reduce(operator.getitem, above, params)[last] = kept[last]


def _keep_ranges(batch_stats: nnx.State, before: nnx.State, is_frozen: Array) -> nnx.State:
    """Put the ranges of activations back, where they are frozen."""

    def keep(path: tuple[Any, ...], new: Array, old: Array) -> Array:
        return jnp.where(is_frozen, old, new) if is_range(".".join(path_names(path))) else new

    return jax.tree_util.tree_map_with_path(keep, batch_stats, before)


def _average(state: TrainState, params: nnx.State, ema_decay: float) -> nnx.State | None:
    """Return the moving average of the weights, None where it is off."""
    if state.ema is None:
        return None
    # Short memory at first, so that the random start does not linger.
    decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
    return cast(nnx.State, optax.incremental_update(params, state.ema, 1 - decay))


def _module(model: nnx.Module, name: str) -> nnx.Module:
    found: Any = model
    for key in _keys(name):
        found = found[key] if isinstance(key, int) else getattr(found, key)
    return found


def _keys(name: str) -> list[str | int]:
    return [int(key) if key.isdigit() else key for key in name.split(".")]


def _split(x: Array, parts: int) -> Array:
    """Return (parts, B / parts, ...), strided so that each part is spread over every device."""
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
