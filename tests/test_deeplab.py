import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from deeplab_mnv2.config import ClassifierConfig, ModelConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.costs import cost_table, layer_costs
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.layers import Conv, resize
from tests.support.networks import apply

TINY = ModelConfig(width_multiplier=0.35, head_channels=16, num_classes=5)


def abstract(config: ModelConfig) -> DeepLab:
    return nnx.eval_shape(lambda: DeepLab(config, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("settings", "parameters", "giga_multiply_adds"),
    [
        ({}, 2_113_557, 2.741),
        ({"width_multiplier": 0.5, "divisible_by": 1}, 697_013, 0.867),
        ({"width_multiplier": 0.5, "divisible_by": 1, "output_stride": 8}, 697_013, 2.819),
        ({"atrous_rates": (6, 12, 18)}, 4_523_541, None),
        ({"atrous_rates": (6, 12, 18), "separable_aspp": True}, 2_568_021, None),
    ],
)
def test_costs_equal_the_published_ones(settings, parameters, giga_multiply_adds):
    model = abstract(ModelConfig(**settings))
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    costs = layer_costs(model, (513, 513))
    assert total == parameters
    assert sum(cost.parameters for cost in costs) == parameters
    if giga_multiply_adds is not None:
        counted = sum(cost.multiply_adds for cost in costs) / 1e9
        assert counted == pytest.approx(giga_multiply_adds, abs=1e-3)


def test_the_cost_table_has_a_line_for_every_convolution():
    table = cost_table(abstract(ModelConfig(decoder=True, atrous_rates=(6, 12, 18))), (257, 129))
    assert "decoder.refine.0.depthwise" in table
    assert "aspp.branches.3" in table
    assert "16x8x320" not in table
    assert "17x9x256" in table
    assert table.splitlines()[-1].startswith("total at 257 x 129")


@pytest.mark.parametrize("output_stride", [8, 16])
def test_rates_follow_the_output_stride(output_stride):
    config = ModelConfig(atrous_rates=(6, 12, 18), output_stride=output_stride)
    model = abstract(config)
    rates = [branch.conv.dilation for branch in model.aspp.branches[1:]]
    assert rates == [rate * 16 // output_stride for rate in (6, 12, 18)]


@pytest.mark.parametrize(
    ("size", "decoder"), [((33, 33), False), ((64, 47), True), ((51, 80), False)]
)
def test_logits_have_the_size_of_the_image(size, decoder):
    config = dataclasses.replace(TINY, decoder=decoder, atrous_rates=(6,), in_channels=3)
    model = DeepLab(config, rngs=nnx.Rngs(0))
    model.eval()
    logits = apply(model, jnp.ones((2, *size, 3)))
    assert logits.shape == (2, *size, 5)
    assert bool(jnp.isfinite(logits).all())
    stride = 4 if decoder else 16
    small = apply(model, jnp.ones((2, *size, 3)), "head_logits")
    assert small.shape == (2, -(-size[0] // stride), -(-size[1] // stride), 5)


@pytest.mark.parametrize(
    "settings",
    [
        {"atrous_rates": (6, 12, 18), "separable_aspp": True, "decoder": True},
        {
            "shortcut": "expansion",
            "linear_bottleneck": False,
            "image_pool_crop": 33,
            "remat": True,
        },
    ],
)
def test_every_parameter_gets_a_gradient(settings):
    model = DeepLab(dataclasses.replace(TINY, **settings), rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    image = jax.random.normal(jax.random.key(0), (4, 65, 65, 3))
    label = jax.random.randint(jax.random.key(1), (4, 65, 65), 0, 5)

    def loss(params):
        model = nnx.merge(graphdef, params, rest, copy=True)
        logits = model(image, rngs=nnx.Rngs(dropout=0))
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    grads = jax.jit(jax.grad(loss))(params)
    dead = [
        jax.tree_util.keystr(path)
        for path, grad in jax.tree_util.tree_leaves_with_path(grads)
        if not float(jnp.abs(grad).max()) > 0
    ]
    assert dead == []


def test_rematerialising_changes_no_value():
    image = jax.random.normal(jax.random.key(0), (2, 33, 33, 3))
    outputs = []
    for remat in (False, True):
        model = DeepLab(dataclasses.replace(TINY, remat=remat), rngs=nnx.Rngs(0))
        outputs.append(apply(model, image, training=True))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_state():
    config = dataclasses.replace(TINY, dtype="bfloat16", decoder=True, atrous_rates=(6,))
    model = DeepLab(config, rngs=nnx.Rngs(0))
    exact = DeepLab(dataclasses.replace(config, dtype="float32"), rngs=nnx.Rngs(0))
    model.eval()
    exact.eval()
    image = jax.random.normal(jax.random.key(0), (2, 33, 33, 3))
    assert apply(model.backbone, image).dtype == jnp.bfloat16
    logits, reference = apply(model, image), apply(exact, image)
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model)))
    # bfloat16 keeps three digits; some fifty layers lose one of them.
    assert float(jnp.abs(logits - reference).max()) < 0.05 * float(jnp.abs(reference).max())


def test_gradient_of_a_bias_in_bfloat16_is_the_sum_over_all_pixels():
    conv = Conv(8, 4, use_bias=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(conv)
    x = jnp.ones((2, 65, 65, 8), jnp.bfloat16)
    grads = jax.jit(jax.grad(lambda params: nnx.merge(graphdef, params)(x).sum(dtype="float32")))(
        params
    )
    np.testing.assert_array_equal(grads["bias"][...], 2 * 65 * 65)


def test_image_pooling_window_of_the_training_crop():
    fixed = abstract(dataclasses.replace(TINY, image_pool_crop=65))
    assert fixed.aspp.pool_window == 5
    model = DeepLab(dataclasses.replace(TINY, image_pool_crop=65), rngs=nnx.Rngs(0))
    whole = DeepLab(TINY, rngs=nnx.Rngs(0))
    model.eval()
    whole.eval()
    crop = jax.random.normal(jax.random.key(0), (1, 65, 65, 3))
    larger = jax.random.normal(jax.random.key(0), (1, 129, 129, 3))
    np.testing.assert_allclose(apply(model, crop), apply(whole, crop), atol=1e-5)
    assert not np.allclose(apply(model, larger), apply(whole, larger), atol=1e-4)


def test_normalize_maps_grey_levels_to_the_convention():
    model = abstract(TINY)
    levels = jnp.array([0, 255], jnp.uint8).reshape(1, 1, 2, 1) * jnp.ones((1, 1, 1, 3), jnp.uint8)
    np.testing.assert_allclose(model.normalize(levels)[0, 0, :, 0], [-1, 1])


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((1, 3, 33, 33), r"image\.transpose\(0, 2, 3, 1\)"),
        ((1, 33, 33, 4), r"image\[\.\.\., :3\]"),
        ((1, 33, 33, 1), r"image\.repeat\(3, -1\)"),
        ((33, 33, 3), r"image\[None\]"),
        ((1, 33, 33, 2), "give 3 channels, last"),
        ((3, 33, 33), r"image\.transpose\(1, 2, 0\)\[None\]"),
        ((1, 0, 33, 3), "give one pixel or more"),
        ((1, 33, 33), "give 3 channels, last"),
        ((1, 1, 33, 33, 3), "give 3 channels, last"),
        ((33,), "give 3 channels, last"),
    ],
)
def test_images_of_another_form_are_refused_with_the_remedy(shape, remedy):
    classifier = nnx.eval_shape(lambda: Classifier(ClassifierConfig(), rngs=nnx.Rngs(0)))
    model = abstract(TINY)
    image = np.zeros(shape, np.float32)
    sentence = rf"\(B, H, W, 3\), not .*; .*{remedy}"
    for take in (model, model.head_logits, model.normalize, model.backbone.endpoints, classifier):
        with pytest.raises(UserError, match=sentence):
            take(image)


def test_grey_levels_that_were_not_normalised_are_refused():
    with pytest.raises(UserError, match=r"uint8.*net\.normalize\(image\)"):
        abstract(TINY)(np.zeros((1, 33, 33, 3), np.uint8))


def test_a_network_for_other_channels_takes_those():
    four = {"in_channels": 4, "image_mean": (0.0,) * 4, "image_std": (1.0,) * 4}
    model = abstract(dataclasses.replace(TINY, **four))
    assert layer_costs(model, (33, 33))[0].kernel[2] == 4
    assert model.normalize(np.zeros((1, 33, 33, 4), np.uint8)).shape == (1, 33, 33, 4)
    with pytest.raises(UserError, match=r"\(B, H, W, 4\), not \(1, 33, 33, 3\)"):
        model(np.zeros((1, 33, 33, 3), np.float32))


@pytest.mark.parametrize(
    ("field", "value"),
    [("output_stride", 4), ("padding", "valid"), ("shortcut", "both"), ("num_classes", 1)],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(UserError, match=f"model.{field}"):
        DeepLab(dataclasses.replace(TINY, **{field: value}), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(9, 13), (17, 5), (1, 1), (3, 4)])
def test_resize_samples_a_plane_exactly(size, align_corners):
    rows, columns = jnp.meshgrid(jnp.arange(5.0), jnp.arange(7.0), indexing="ij")
    plane = (2 * rows + 3 * columns)[None, :, :, None]
    new = resize(plane, size, align_corners=align_corners)[0, :, :, 0]

    def positions(length, new_length):
        at = np.arange(new_length)
        if align_corners:
            return at * (length - 1) / max(new_length - 1, 1)
        return np.clip((at + 0.5) * length / new_length - 0.5, 0, length - 1)

    expected = 2 * positions(5, size[0])[:, None] + 3 * positions(7, size[1])[None, :]
    np.testing.assert_allclose(new, expected, atol=1e-5)


def test_resize_agrees_with_jax_at_half_pixels():
    image = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))
    ours = resize(image, (13, 10), align_corners=False)
    np.testing.assert_allclose(ours, jax.image.resize(image, ours.shape, "bilinear"), atol=1e-5)
