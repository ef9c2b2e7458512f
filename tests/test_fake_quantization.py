"""Rounding to 8 bits: its numbers, its gradient, its ranges, and the networks that have them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.config import ModelConfig, TrainConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.graph import IMAGE, Concat, Resize
from deeplab_mnv2.exporting.post_training import quantize
from deeplab_mnv2.exporting.tracing import trace
from deeplab_mnv2.models.layers import image_range
from deeplab_mnv2.models.ops.fake_quantization import (
    Range,
    fake_quantize,
    fake_quantize_kernel,
    scale_and_zero_point,
)
from deeplab_mnv2.training.optimizer import path_names
from deeplab_mnv2.weights.model_weights import variables
from deeplab_mnv2.weights.naming import is_range
from tests.support.meshes import mesh_of
from tests.support.networks import apply
from tests.support.random_weights import random_weights
from tests.support.tiny_runs import TASKS
from tests.support.training_steps import run


@pytest.mark.parametrize("seed", range(10))
def test_rounded_values_are_the_nearest_of_the_256(seed):
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.uniform(-20, 20, 2)).astype(np.float32)
    x = jnp.asarray(rng.uniform(-30, 30, 1000), jnp.float32)
    rounded = fake_quantize(x, low, high)
    scale, zero_point = scale_and_zero_point(jnp.float32(low), jnp.float32(high))
    grid = np.asarray(scale * (jnp.arange(-128, 128) - zero_point))
    assert 0 in grid
    nearest = np.abs(np.asarray(x)[:, None] - grid).min(axis=1)
    np.testing.assert_allclose(np.abs(rounded - x), nearest, atol=1e-5)
    # What is rounded stays.
    np.testing.assert_array_equal(fake_quantize(rounded, low, high), rounded)


def test_the_gradient_ends_with_the_range():
    x = jnp.array([-3.0, -0.4, 0.0, 5.9, 6.5])
    gradient = jax.grad(lambda x: jnp.sum(3 * fake_quantize(x, -1.0, 6.0)))(x)
    np.testing.assert_array_equal(gradient, [0, 3, 3, 3, 0])


def test_a_kernel_has_a_symmetric_scale_for_each_output():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 5)), jnp.float32)
    rounded = fake_quantize_kernel(kernel)
    largest = np.abs(kernel).max(axis=(0, 1, 2))
    steps = np.asarray(rounded) * 127 / largest
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert np.abs(steps).max() == pytest.approx(127)
    assert (np.abs(rounded - kernel) <= largest / 254 * 1.001).all()
    # Norm scales whole channels, also by negative numbers: rounding before and after are one.
    factor = jnp.array([[[[0.5, -2.0, 3.0, -0.1, 1.0]]]])
    np.testing.assert_allclose(fake_quantize_kernel(kernel * factor), rounded * factor, rtol=1e-5)
    gradient = jax.grad(lambda kernel: jnp.sum(2 * fake_quantize_kernel(kernel)))(kernel)
    np.testing.assert_array_equal(gradient, np.full_like(kernel, 2))


def test_a_range_follows_in_training_and_stays_in_evaluation():
    part = Range()
    part(jnp.array([-1.0, 3.0]))
    # The first batch sets it, zero included; later ones move it.
    assert (part.low[...], part.high[...]) == (-1, 3)
    part(jnp.array([2.0, 4.0]))
    assert part.low[...] == pytest.approx(-0.99)
    assert part.high[...] == pytest.approx(3.01)
    part.eval()
    assert part(jnp.array([100.0])) == pytest.approx(3.01, abs=0.02)
    assert part.high[...] == pytest.approx(3.01)


_NARROW = {"width_multiplier": 0.35, "head_channels": 32}
NETWORKS = {
    "mobile": ("segmentation", _NARROW),
    "decoder": (
        "segmentation",
        {
            **_NARROW,
            "atrous_rates": (1,),
            "separable_aspp": True,
            "decoder": True,
            "shortcut": "expansion",
        },
    ),
    "version 1": ("segmentation", {**_NARROW, "version": 1}),
    "classifier": ("classification", {**_NARROW, "num_classes": 7}),
    "detector": ("detection", {**_NARROW, "num_classes": 3, "image_size": 65}),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    kind, settings = NETWORKS[request.param]
    return weights.build(random_weights(kind, **settings))


def _images(model, count: int = 3) -> list[jax.Array]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 1, 65, 65, 3), np.uint8)
    return [model.normalize(image) for image in pixels]


@pytest.mark.usefixtures("one_block_a_stage")
def test_every_tensor_has_a_range_and_the_file_keeps_it(network, tmp_path):
    (image, *_) = images = _images(network)
    twin = quantize(network, images)
    graph = trace(twin, (65, 65), upsample=True)
    tensors = {op.output for op in graph.operations} | {IMAGE}
    if isinstance(network.config, ModelConfig):
        # Logits are resized in floats.
        tensors.remove("logits")
    assert graph.ranges.keys() == tensors
    for op in graph.operations:
        # What LiteRT gives one scale has one range.
        if isinstance(op, Concat):
            assert len({graph.ranges[name] for name in (*op.inputs, op.output)}) == 1
        if isinstance(op, Resize) and op.output in tensors:
            assert graph.ranges[op.input] == graph.ranges[op.output]
    assert graph.ranges[IMAGE] == image_range(network.config)

    names = {name for name in variables(twin) if is_range(name)}
    assert variables(twin).keys() - names == variables(network).keys()
    weights.save(tmp_path / "twin.safetensors", weights.from_model(twin, {"source": "test"}))
    restored = weights.build(weights.read(str(tmp_path / "twin.safetensors")))
    assert restored.config == twin.config
    ours, theirs = (jax.tree.leaves(apply(model, image)) for model in (restored, twin))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("one_block_a_stage")
def test_before_its_step_a_run_learns_as_without(tmp_path):
    plain, rounded = (TASKS[name](tmp_path) for name in ("segmentation", "quantized"))
    rounded.train.quantize_from, rounded.train.freeze_ranges_from = 3, 0
    ours, _, state = run(rounded, mesh_of(), 4)
    theirs, _, _ = run(plain, mesh_of(), 4)
    np.testing.assert_allclose(ours[:3], theirs[:3], rtol=0.02)
    assert ours[3] != theirs[3]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.batch_stats))


@pytest.mark.usefixtures("one_block_a_stage")
def test_frozen_ranges_stay_while_norm_goes_on(tmp_path):
    config = TASKS["quantized"](tmp_path)
    config.train.quantize_from, config.train.freeze_ranges_from = 0, 1
    after_one, after_three = (run(config, mesh_of(), steps)[2].batch_stats for steps in (1, 3))
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(after_one), jax.tree.leaves(after_three), strict=True
    )
    stayed = {True: [], False: []}
    for (path, before), after in pairs:
        stayed[is_range(".".join(path_names(path)))].append(bool(np.all(before == after)))
    assert all(stayed[True])
    assert not any(stayed[False])


def test_settings_that_cannot_be():
    with pytest.raises(UserError, match=r"model\.dtype='bfloat16'.*'float32' with model.quantized"):
        ModelConfig(quantized=True, dtype="bfloat16").check()
    config = TASKS["segmentation"](None)
    for name in ("quantize_from", "freeze_ranges_from"):
        with pytest.raises(UserError, match=rf"train\.{name}=1 .*with model.quantized"):
            dataclasses.replace(config, train=TrainConfig(total_steps=9, **{name: 1})).check()
