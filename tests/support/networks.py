"""Running and randomising networks in tests."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array


def apply(
    model: nnx.Module, image: Array, method: str = "__call__", *, training: bool = False
) -> Array:
    """Run a network in one compiled program; eager, each of its layers would compile alone."""
    graphdef, state = nnx.split(model)

    @jax.jit
    def run(state: nnx.State, image: Array) -> Array:
        merged = nnx.merge(graphdef, state, copy=True)
        rngs = {"rngs": nnx.Rngs(dropout=0)} if training else {}
        return getattr(merged, method)(image, **rngs)

    return run(state, image)


def randomize_norms(model: nnx.Module, seed: int = 0) -> None:
    """Give every norm statistics and affine values that a wrong order would betray."""
    rng = np.random.default_rng(seed)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            shape = module.mean.shape
            module.mean[...] = jnp.asarray(rng.normal(0, 0.2, shape), jnp.float32)
            module.var[...] = jnp.asarray(rng.uniform(0.5, 2, shape), jnp.float32)
            module.scale[...] = jnp.asarray(rng.uniform(0.5, 1.5, shape), jnp.float32)
            module.bias[...] = jnp.asarray(rng.normal(0, 0.2, shape), jnp.float32)
