"""Batch norm with activation: Flax's values, statistics and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2.models.ops.batch_norm import BatchNorm
from deeplab_mnv2.models.ops.pixel_sums import CHUNK, sum_pixels


def example(height=11):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(2.0, 3.0, (3, height, 5, 4)), jnp.float32)
    gradient = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    return x, gradient


def run(kind, activation, x, gradient):
    norm = kind(4, momentum=0.9, epsilon=1e-3, rngs=nnx.Rngs(0))
    norm.scale[...] = jnp.array([0.5, 1.0, 2.0, -3.0])
    norm.bias[...] = jnp.array([1.0, 0.0, 3.0, 2.0])
    graphdef, params, statistics = nnx.split(norm, nnx.Param, nnx.BatchStat)

    def apply(params, x):
        norm = nnx.merge(graphdef, params, statistics, copy=True)
        if kind is BatchNorm:
            y = norm(x, activation)
        else:
            y = norm(x) if activation is None else activation(norm(x))
        return y, nnx.state(norm, nnx.BatchStat)

    y, pullback, after = jax.vjp(apply, params, x, has_aux=True)
    return y, after, pullback(gradient)


@pytest.mark.parametrize("activation", [None, nnx.relu, nnx.relu6])
def test_values_statistics_and_gradients_are_flaxs(activation):
    ours = run(BatchNorm, activation, *example())
    flax = run(nnx.BatchNorm, activation, *example())
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(flax), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_evaluation_uses_stored_statistics():
    norm = BatchNorm(4, rngs=nnx.Rngs(0))
    norm.eval()
    x, _ = example()
    np.testing.assert_array_equal(norm(x, nnx.relu), nnx.relu(norm(x)))
    np.testing.assert_allclose(norm(x), x / np.sqrt(1 + norm.epsilon), rtol=1e-6)


@pytest.mark.parametrize("is_frozen", [False, True])
def test_gradients_in_bfloat16_are_summed_in_float32(is_frozen):
    def gradients(kind):
        norm = BatchNorm(4, dtype=kind, rngs=nnx.Rngs(0))
        norm.set_attributes(use_running_average=is_frozen)
        graphdef, params, statistics = nnx.split(norm, nnx.Param, nnx.BatchStat)
        x = jax.random.normal(jax.random.key(0), (2, 129, 129, 4)).astype(kind)

        def total(params):
            y = nnx.merge(graphdef, params, statistics, copy=True)(x, nnx.relu)
            return jnp.sum(jnp.abs(x) * y, dtype=jnp.float32)

        return jax.jit(jax.grad(total))(params)

    for exact, ours in zip(
        *map(jax.tree.leaves, (gradients(jnp.float32), gradients(jnp.bfloat16))), strict=True
    ):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, exact, rtol=0.01)


@pytest.mark.parametrize("height", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_sums_are_over_all_pixels(height):
    x, y = example(height)
    for total, array in zip(jax.jit(sum_pixels)(x, y), (x, y), strict=True):
        np.testing.assert_allclose(total, np.sum(array, (0, 1, 2)), rtol=1e-5, atol=1e-4)
