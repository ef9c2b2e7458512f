"""Are several seeds faster as one program, mapped over a leading axis, than one after the other?

    python -m experiments.tools.seeds_together --config experiments/cifar10_short.py

Times a training step of each, in turns in one run, on random images, with plain momentum. On a
CPU core they are not, which is why `deeplab_mnv2.sweep` trains runs one after the other.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from deeplab_mnv2.cli import command
from deeplab_mnv2.config import ClassifierConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.task_of import task_of

_RATE, _MOMENTUM = 0.01, 0.9


def main() -> None:
    """Time the steps and print the medians."""
    config, seeds = flags.FLAGS.config, flags.FLAGS.seeds
    if not isinstance(config.model, ClassifierConfig):
        raise UserError("Give --config a page of classification, such as cifar10_short.")
    task, size = task_of(config), config.data.crop_size
    graphdef, states = None, []
    for seed in range(seeds):
        model = task.network(nnx.Rngs(seed))
        model.train()
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        states.append((params, rest, jax.tree.map(jnp.zeros_like, params)))
    rng = np.random.default_rng(0)
    shape = (seeds, config.train.batch_size)
    images = jnp.asarray(rng.standard_normal((*shape, size, size, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, config.model.num_classes, shape))

    def step(params: Any, rest: Any, speed: Any, image: jax.Array, label: jax.Array) -> Any:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            # Copies: merging takes the variables themselves.
            copied = jax.tree.map(lambda leaf: leaf, (params, rest))
            model = nnx.merge(graphdef, *copied)
            logs = jax.nn.log_softmax(model(image))
            value = -jnp.take_along_axis(logs, label[:, None], axis=1).mean()
            return value, nnx.split(model, nnx.Param, ...)[2]

        (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        speed = jax.tree.map(lambda v, g: _MOMENTUM * v + g, speed, gradient)
        return jax.tree.map(lambda p, v: p - _RATE * v, params, speed), rest, speed, value

    one, many = jax.jit(step), jax.jit(jax.vmap(step))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    programs: dict[str, Callable[[], Any]] = {
        "one after the other": lambda: [
            one(*state, images[seed], labels[seed]) for seed, state in enumerate(states)
        ],
        "as one program": lambda: many(*stacked, images, labels),
    }
    losses = [np.array([each[-1] for each in programs["one after the other"]()])]
    losses.append(np.array(programs["as one program"]()[-1]))
    np.testing.assert_allclose(*losses, rtol=1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(flags.FLAGS.rounds):
        for name, program in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program())
            seconds[name].append(time.perf_counter() - begin)
    ratios = [late / early for early, late in zip(*seconds.values(), strict=True)]
    for name, each in seconds.items():
        print(f"{seeds} seeds {name}: {1000 * statistics.median(each):.0f} ms a step")
    print(f"as one program takes {statistics.median(ratios):.2f} times as long")


if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_integer("seeds", 3, "Copies of the network.")
    flags.DEFINE_integer("rounds", 8, "Steps of each that are timed.")
    command.run(main, default_config="cifar10_short")
