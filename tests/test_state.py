"""The train step: devices, accumulation, averaging, frozen norm."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from deeplab_mnv2.config import CrossEntropy, OptimizerConfig
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.sharding import state_sharding
from deeplab_mnv2.tasks.task_of import task_of
from deeplab_mnv2.training.checkpoint import Checkpoints, abstract
from deeplab_mnv2.training.optimizer import make_optimizer
from deeplab_mnv2.training.state import create_state
from deeplab_mnv2.training.step import make_train_step
from tests.support.meshes import mesh_of
from tests.support.training_steps import advance, run, start

pytestmark = pytest.mark.usefixtures("one_block_a_stage")


@pytest.fixture(scope="module")
def single(one_block_a_stage, module_config):
    return run(module_config, mesh_of())


# Norm over few pixels magnifies the last bit, in which sums over devices differ, with every large
# step: a small learning rate shows over twenty steps that nothing else differs.
GENTLE = {"steps": 20, "learning_rate": 1e-4}


@pytest.fixture(scope="module")
def gentle(one_block_a_stage, module_config):
    return run(module_config, mesh_of(), **GENTLE)


def test_a_run_moves_from_eight_devices_to_two_to_one(module_config, gentle, tmp_path):
    losses = []
    for devices in (8, 2, 1):
        mesh = mesh_of(data=devices)
        state, step = start(module_config, mesh, GENTLE["learning_rate"])
        with Checkpoints(tmp_path) as checkpoints:
            if losses:
                place = state_sharding(state, mesh)
                state, _ = checkpoints.restore_newest(abstract(state, place))
            more, _, state = advance(module_config, mesh, state, step, 4)
            losses += more
            checkpoints.save(int(state.step), state, None)
    np.testing.assert_allclose(losses, gentle[0][:12], rtol=1e-5)


def test_fsdp_splits_the_large_parameters(module_config):
    model = DeepLab(module_config.model, rngs=nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    shardings = jax.tree.leaves(state_sharding(params, mesh_of(fsdp=4)))
    split = [s for s in shardings if "fsdp" in s.spec]
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    covered = sum(n for n, s in zip(sizes, shardings, strict=True) if "fsdp" in s.spec)
    assert split
    assert covered > 0.6 * sum(sizes)


def test_accumulation_adds_up_to_the_loss_of_the_batch(module_config):
    # With frozen norm and no dropout the parts are independent, so the sum must be exact.
    frozen = dataclasses.replace(
        module_config,
        model=dataclasses.replace(module_config.model, dropout=0.0),
        train=dataclasses.replace(module_config.train, freeze_norm=True),
    )
    parts = dataclasses.replace(frozen, train=dataclasses.replace(frozen.train, accumulate=4))
    whole, _, state = run(frozen, mesh_of())
    summed, _, other = run(parts, mesh_of())
    np.testing.assert_allclose(summed, whole, rtol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves(other.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_frozen_norm_keeps_its_statistics(module_config, single):
    frozen = dataclasses.replace(
        module_config, train=dataclasses.replace(module_config.train, freeze_norm=True)
    )
    *_, state = run(frozen, mesh_of())
    fresh = nnx.state(DeepLab(frozen.model, rngs=nnx.Rngs(0)), nnx.BatchStat)
    for ours, theirs in zip(
        jax.tree.leaves(state.batch_stats), jax.tree.leaves(fresh), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    moved = jax.tree.leaves(single[2].batch_stats)
    assert any(not np.array_equal(m, f) for m, f in zip(moved, jax.tree.leaves(fresh), strict=True))


@pytest.mark.parametrize(
    "names", [("backbone",), ("backbone.stem", "backbone.stages.0", "backbone.stages.1")]
)
def test_what_is_frozen_stays_as_it_is(module_config, names):
    frozen = dataclasses.replace(
        module_config, train=dataclasses.replace(module_config.train, freeze=names)
    )
    *_, state = run(frozen, mesh_of())
    _, params, batch_stats = nnx.split(
        DeepLab(frozen.model, rngs=nnx.Rngs(0)), nnx.Param, nnx.BatchStat
    )
    for after, before in ((state.params, params), (state.batch_stats, batch_stats)):
        same = jax.tree.map(lambda a, b: np.array_equal(a, b), after, before)
        backbone = same["backbone"]
        learning = [same["aspp"]]
        if names != ("backbone",):
            learning += [backbone["stages"][index] for index in range(2, 7)]
            backbone = [backbone["stem"], backbone["stages"][0], backbone["stages"][1]]
        assert all(jax.tree.leaves(backbone))
        assert not any(all(jax.tree.leaves(part)) for part in learning)


def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(module_config):
    # An infinite weight on a class makes the loss infinite where it is seen.
    weights = (1.0,) * 20 + (float("inf"),)
    config = dataclasses.replace(module_config, loss=CrossEntropy(class_weights=weights))
    model = DeepLab(config.model, rngs=nnx.Rngs(0))
    optimizer = make_optimizer(OptimizerConfig(), 10, nnx.state(model, nnx.Param))
    graphdef, state = create_state(model, optimizer, config.train)
    step = make_train_step(graphdef, optimizer, task_of(config), config.train, mesh_of(), state)
    before = jax.device_get(state)
    image = jnp.full((8, 49, 49, 3), 100, jnp.uint8)
    label = jnp.zeros((8, 49, 49), jnp.uint8)
    state, values = step(state, {"image": image, "label": label.at[0, 0, 0].set(20)})
    assert not values["finite"]
    # The learning rate is that of the step, as it is logged.
    assert state.step == optax.tree.get(state.opt_state, "count") == 1
    kept = dataclasses.replace(
        jax.device_get(state),
        step=before.step,
        opt_state=optax.tree.set(state.opt_state, count=before.step),
    )
    jax.tree.map(np.testing.assert_array_equal, kept, before)
    state, values = step(state, {"image": image, "label": label})
    assert values["finite"]
    assert not np.array_equal(
        state.params["classifier"]["bias"][...], before.params["classifier"]["bias"][...]
    )


def test_the_average_lies_between_start_and_end(module_config):
    averaged = dataclasses.replace(
        module_config, train=dataclasses.replace(module_config.train, ema_decay=0.9)
    )
    losses, _, state = run(averaged, mesh_of(), steps=1)
    start = nnx.state(DeepLab(averaged.model, rngs=nnx.Rngs(0)), nnx.Param)
    # After one step the decay is 1 / 10: nine tenths of the new parameters.
    for ema, new, old in zip(
        jax.tree.leaves(state.ema),
        jax.tree.leaves(state.params),
        jax.tree.leaves(start),
        strict=True,
    ):
        np.testing.assert_allclose(ema, 0.9 * new + 0.1 * np.asarray(old), rtol=1e-4, atol=1e-7)
    assert losses == run(module_config, mesh_of(), steps=1)[0]
    assert state.scored()[0] is state.ema
    assert jnp.asarray(state.step) == 1
