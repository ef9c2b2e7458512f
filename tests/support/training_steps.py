"""Training steps without the loop around them, on a mesh of fake devices."""

import jax
from flax import nnx
from jax.sharding import Mesh

from deeplab_mnv2.config import Config, OptimizerConfig, Sgd
from deeplab_mnv2.data.pipeline import training_batches
from deeplab_mnv2.sharding import batch_sharding, state_sharding, to_devices
from deeplab_mnv2.tasks.task_of import task_of
from deeplab_mnv2.training.loop import _FOR_THE_HOST
from deeplab_mnv2.training.optimizer import make_optimizer
from deeplab_mnv2.training.state import create_state
from deeplab_mnv2.training.step import make_train_step


def start(config: Config, mesh: Mesh, learning_rate: float = 0.01):
    """Return the state at step 0 on a mesh, and the step."""
    # SGD: Adam divides tiny gradients by themselves, which magnifies rounding.
    recipe = OptimizerConfig(rule=Sgd(), learning_rate=learning_rate)
    task = task_of(config)
    model = task.network(nnx.Rngs(0))
    optimizer = make_optimizer(recipe, 20, nnx.state(model, nnx.Param))
    graphdef, state = create_state(model, optimizer, config.train)
    state = jax.device_put(state, state_sharding(state, mesh))
    return state, make_train_step(graphdef, optimizer, task, config.train, mesh, state)


def advance(config: Config, mesh: Mesh, state, step, steps: int):
    """Return losses and gradient norms of a few steps, and the state after them."""
    batches = training_batches(
        config.data.train.open(),
        config.data,
        task_of(config).augment,
        num_classes=config.model.num_classes,
        batch_size=8,
        seed=0,
        first_step=int(state.step),
    )
    place = batch_sharding(mesh)
    losses, norms = [], []
    for _ in range(steps):
        batch = next(batches)
        batch = {k: to_devices(batch[k], place) for k in batch.keys() - _FOR_THE_HOST}
        state, values = step(state, batch)
        losses.append(float(values["loss"]))
        norms.append(float(values["grad_norm"]))
    return losses, norms, state


def run(config: Config, mesh: Mesh, steps: int = 3, **settings: float):
    """Return the same of a run's first steps, its final state on the host."""
    losses, norms, state = advance(config, mesh, *start(config, mesh, **settings), steps)
    return losses, norms, jax.device_get(state)
