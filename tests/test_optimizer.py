import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from deeplab_mnv2.config import AdamW, Constant, ModelConfig, OptimizerConfig, Sgd
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.training.optimizer import learning_rate, make_optimizer


@pytest.fixture(scope="module")
def params():
    config = ModelConfig(width_multiplier=0.35, head_channels=16)
    return nnx.state(DeepLab(config, rngs=nnx.Rngs(0)), nnx.Param)


def names(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def first_update(config, params, gradient=0.0):
    optimizer = make_optimizer(config, 10, params)
    grads = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
    return names(optimizer.update(grads, optimizer.init(params), params)[0])


def test_poly_schedule_and_warm_up():
    schedule = learning_rate(OptimizerConfig(learning_rate=0.007), 100)
    assert float(schedule(0)) == pytest.approx(0.007)
    assert float(schedule(50)) == pytest.approx(0.007 * 0.5**0.9)
    assert float(schedule(100)) == 0
    warm = learning_rate(OptimizerConfig(learning_rate=0.007, warmup_steps=10), 100)
    assert float(warm(jnp.asarray(0))) == pytest.approx(0.0007)
    assert float(warm(jnp.asarray(50))) == pytest.approx(0.007 * 0.5**0.9)


@pytest.mark.parametrize("rule", [Sgd(), AdamW()])
def test_only_kernels_that_are_not_depthwise_decay(params, rule):
    updates = first_update(OptimizerConfig(rule=rule, weight_decay=0.1), params)
    decayed = {name for name, update in updates.items() if float(jnp.abs(update).max()) > 0}
    expected = {n for n in updates if "kernel" in n and "depthwise" not in n}
    assert decayed == expected
    assert any("classifier" in name for name in decayed)


def test_head_multiplier_leaves_the_backbone(params):
    plain = first_update(OptimizerConfig(weight_decay=0), params, 1.0)
    scaled = first_update(OptimizerConfig(weight_decay=0, head_multiplier=10), params, 1.0)
    for name in plain:
        factor = 1 if name.startswith("backbone") else 10
        np.testing.assert_allclose(scaled[name], factor * plain[name], rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm(params):
    config = OptimizerConfig(learning_rate=1.0, weight_decay=0, clip_norm=0.5, rule=Sgd(0.0))
    norm = optax.tree.norm(first_update(config, params, 3.0))
    assert float(norm) == pytest.approx(0.5, rel=1e-4)


def test_momentum_is_tensorflows():
    params = {"kernel": jnp.zeros(())}
    optimizer = make_optimizer(
        OptimizerConfig(learning_rate=1.0, schedule=Constant(), weight_decay=0), 10, params
    )
    state = optimizer.init(params)
    for expected in (-1.0, -1.9, -2.71):
        update, state = optimizer.update({"kernel": jnp.ones(())}, state, params)
        assert float(update["kernel"]) == pytest.approx(expected)
