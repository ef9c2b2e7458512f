"""What a run carries from step to step."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from deeplab_mnv2.config import TrainConfig


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


def create_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, config: TrainConfig
) -> tuple[nnx.GraphDef, TrainState]:
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
            ema=jax.tree.map(jnp.copy, params) if config.ema_decay else None,
        )

    return graphdef, begin(params, batch_stats)
