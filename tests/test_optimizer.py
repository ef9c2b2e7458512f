import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from deeplab_mnv2.config import (
    AdamW,
    Constant,
    Cosine,
    Exponential,
    Lamb,
    Lion,
    ModelConfig,
    OptimizerConfig,
    Poly,
    RmsProp,
    Sgd,
)
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


@pytest.mark.parametrize("rule", [Sgd(), AdamW(), RmsProp(), Lamb(), Lion()])
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


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Poly(power=2.0), [1.0, 0.25, 0.0]),
        (Cosine(), [1.0, 0.5, 0.0]),
        (Cosine(end=0.2), [1.0, 0.6, 0.2]),
        (Exponential(rate=0.5, every=25), [1.0, 0.25, 0.0625]),
        (Exponential(rate=0.5, every=100, staircase=False), [1.0, 0.5**0.5, 0.5]),
        (Constant(), [1.0, 1.0, 1.0]),
    ],
)
def test_schedules_at_start_middle_and_end(schedule, expected):
    config = OptimizerConfig(learning_rate=0.1, schedule=schedule)
    found = [float(learning_rate(config, 100)(step)) for step in (0, 50, 100)]
    np.testing.assert_allclose(found, 0.1 * np.array(expected), rtol=1e-5, atol=1e-9)
    warm = dataclasses.replace(config, warmup_steps=100)
    assert float(learning_rate(warm, 100)(49)) == pytest.approx(
        0.5 * float(learning_rate(config, 100)(49)), rel=1e-5
    )


def test_rmsprop_is_tensorflows():
    # tf.compat.v1.train.RMSPropOptimizer: ms starts at 1, epsilon is under the root, and the
    # learning rate scales what enters the momentum.
    rule = RmsProp(decay=0.9, momentum=0.5, epsilon=0.1)
    config = OptimizerConfig(rule=rule, learning_rate=0.2, schedule=Poly(1.0), weight_decay=0)
    params = {"kernel": jnp.zeros(())}
    optimizer = make_optimizer(config, 10, params)
    state, square, momentum = optimizer.init(params), 1.0, 0.0
    for step, gradient in enumerate((1.0, -3.0, 2.0)):
        square = 0.9 * square + 0.1 * gradient**2
        rate = 0.2 * (1 - step / 10)
        momentum = 0.5 * momentum + rate * gradient / np.sqrt(square + 0.1)
        update, state = optimizer.update({"kernel": jnp.asarray(gradient)}, state, params)
        assert float(update["kernel"]) == pytest.approx(-momentum, rel=1e-5)


@pytest.mark.parametrize(("rule", "size"), [(Lion(), 1.0), (AdamW(), 1.0)])
def test_the_first_step_of_sign_like_rules_has_the_learning_rate(params, rule, size):
    config = OptimizerConfig(rule=rule, learning_rate=0.3, schedule=Constant(), weight_decay=0)
    for update in first_update(config, params, 2.0).values():
        np.testing.assert_allclose(update, -0.3 * size, rtol=1e-4)


def test_lamb_scales_by_the_norm_of_each_layer():
    params = {"kernel": jnp.full((4,), 3.0)}
    config = OptimizerConfig(rule=Lamb(), learning_rate=0.1, schedule=Constant(), weight_decay=0)
    optimizer = make_optimizer(config, 10, params)
    grads = {"kernel": jnp.full((4,), 5.0)}
    update, _ = optimizer.update(grads, optimizer.init(params), params)
    # Adam's first step has norm 2; the layer's norm is 6.
    np.testing.assert_allclose(update["kernel"], -0.1 * 6 / 2, rtol=1e-4)


@dataclasses.dataclass
class _Halves:
    """A schedule of one's own."""

    def factor(self, step, total_steps):
        return jnp.where(step < total_steps // 2, 1.0, 0.5)


@dataclasses.dataclass
class _Plain:
    """An update rule of one's own: gradient descent."""

    def transformation(self, decay):
        return decay


def test_objects_of_ones_own():
    config = OptimizerConfig(rule=_Plain(), schedule=_Halves(), learning_rate=0.1, weight_decay=0.5)
    config.check()
    params = {"kernel": jnp.ones(())}
    optimizer = make_optimizer(config, 4, params)
    state, found = optimizer.init(params), []
    for _ in range(4):
        update, state = optimizer.update({"kernel": jnp.ones(())}, state, params)
        found.append(float(update["kernel"]))
    np.testing.assert_allclose(found, [-0.15, -0.15, -0.075, -0.075], rtol=1e-6)
