"""MobileNetV1: the published counts, dilation as in TF-slim, and all that runs on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.config import ClassifierConfig, Config, DataConfig, ModelConfig
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.graph import LOGITS, evaluate
from deeplab_mnv2.exporting.tracing import trace
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.costs import layer_costs
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.mobilenet_v1 import MobileNetV1
from deeplab_mnv2.weights.hugging_face import to_hugging_face
from deeplab_mnv2.weights.model_weights import abstract_model, fill, from_model
from tests.support.networks import apply, randomize_norms
from tests.support.tiny_runs import classification

TINY = ModelConfig(version=1, width_multiplier=0.25, head_channels=16, num_classes=5)


def test_the_classifier_has_the_published_parameters_and_multiply_adds():
    costs = layer_costs(abstract_model(ClassifierConfig(version=1)), (224, 224))
    assert sum(cost.parameters for cost in costs) == 4_231_976
    assert sum(cost.multiply_adds for cost in costs) == 568_740_352
    assert [cost.output for cost in costs[-3:]] == [(7, 7, 1024), (7, 7, 1024), (1, 1, 1000)]


def test_deeplab_with_aspp_has_the_parameters_of_the_mobilenet_v2_paper():
    costs = layer_costs(
        abstract_model(ModelConfig(version=1, atrous_rates=(6, 12, 18))), (513,) * 2
    )
    assert sum(cost.parameters for cost in costs) == 11_145_301


@pytest.mark.parametrize(
    ("output_stride", "dilations"),
    # The blocks of the last two stages.
    [(32, [1] * 8), (16, [1, 1, 1, 1, 1, 1, 1, 2]), (8, [1, 2, 2, 2, 2, 2, 2, 4])],
)
def test_the_block_that_loses_its_stride_keeps_the_old_dilation(output_stride, dilations):
    backbone = abstract_model(ModelConfig(version=1, output_stride=output_stride)).backbone
    blocks = [block for stage in backbone.stages for block in stage]
    assert len(blocks) == 13
    assert [block.depthwise.conv.dilation for block in blocks[5:]] == dilations


def test_dilated_features_equal_strided_ones_on_their_grid():
    config = dataclasses.replace(TINY, padding="symmetric")
    image = jax.random.normal(jax.random.key(1), (2, 97, 65, 3))
    features = []
    for stride in (8, 16, 32):
        model = MobileNetV1(dataclasses.replace(config, output_stride=stride), rngs=nnx.Rngs(0))
        randomize_norms(model)
        model.eval()
        features.append(apply(model, image))
    dense, middle, coarse = (f / jnp.abs(features[0]).max() for f in features)
    np.testing.assert_allclose(dense[:, ::2, ::2], middle, atol=1e-5)
    np.testing.assert_allclose(middle[:, ::2, ::2], coarse, atol=1e-5)


def test_early_strides_keep_the_resolution_of_small_images():
    config = ClassifierConfig(version=1, early_strides=(1, 1))
    outputs = [cost.output for cost in layer_costs(abstract_model(config), (32, 32))]
    assert outputs[0] == (32, 32, 32)
    assert outputs[-2] == (4, 4, 1024)


@pytest.mark.parametrize(
    "settings", [{}, {"atrous_rates": (6,), "decoder": True, "separable_aspp": True, "remat": True}]
)
def test_deeplab_runs_learns_and_is_exported(settings):
    model = DeepLab(dataclasses.replace(TINY, **settings), rngs=nnx.Rngs(0))
    randomize_norms(model)
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    image = jax.random.normal(jax.random.key(0), (2, 33, 47, 3))

    def loss(params):
        return nnx.merge(graphdef, params, rest, copy=True)(image, rngs=nnx.Rngs(dropout=0)).var()

    for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert float(jnp.abs(grad).max()) > 0, jax.tree_util.keystr(path)
    model.eval()
    logits = apply(model, image)
    assert logits.shape == (2, 33, 47, 5)
    exported = jax.jit(lambda image: evaluate(trace(model, (33, 47), upsample=True), image)[LOGITS])
    np.testing.assert_allclose(exported(image), logits, atol=1e-4 * float(jnp.abs(logits).max()))


def test_the_classifier_takes_images_of_any_size():
    config = ClassifierConfig(version=1, width_multiplier=0.25, num_classes=7)
    model = Classifier(config, rngs=nnx.Rngs(0))
    model.eval()
    assert apply(model, jnp.ones((2, 41, 37, 3))).shape == (2, 7)


@pytest.mark.parametrize("settings", [{"linear_bottleneck": False}, {"shortcut": "none"}])
def test_settings_of_mobilenet_v2_are_refused(settings):
    with pytest.raises(UserError, match=f"model.{next(iter(settings))}=.* with model.version=1"):
        DeepLab(dataclasses.replace(TINY, **settings), rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match=r"model\.version=3.* 1 or 2"):
        DeepLab(dataclasses.replace(TINY, version=3), rngs=nnx.Rngs(0))


def test_parts_that_it_has_not_cannot_be_frozen(tmp_path):
    data = Shapes(split="train")
    config = Config(
        DataConfig(data, data), dataclasses.replace(TINY, num_classes=len(data.class_names))
    )
    config.data.crop_size = 65
    config.train.freeze = ("backbone.stages.4",)
    config.check()
    config.train.freeze = ("backbone.stages.5",)
    with pytest.raises(UserError, match=r"train\.freeze=.*stages 0 to 4 and no head"):
        config.check()
    config = classification(tmp_path, freeze=("head",))
    config.check()
    config.model = dataclasses.replace(config.model, version=1)
    with pytest.raises(UserError, match=r"train\.freeze=.*stages 0 to 4 and no head"):
        config.check()


def test_weights_are_stored_and_never_taken_for_those_of_mobilenet_v2(tmp_path):
    model = DeepLab(TINY, rngs=nnx.Rngs(0))
    stored = from_model(model, {"source": "v1"})
    weights.save(tmp_path / "v1.safetensors", stored)
    found = weights.read(str(tmp_path / "v1.safetensors"))
    assert found.config == TINY
    fill(DeepLab(dataclasses.replace(TINY, divisible_by=1), rngs=nnx.Rngs(1)), found)
    other = DeepLab(dataclasses.replace(TINY, version=2), rngs=nnx.Rngs(1))
    with pytest.raises(UserError, match=r"was trained with model\.version=1, but the model has 2"):
        fill(other, found, ("backbone",))
    with pytest.raises(UserError, match=r"transformers has no network with model\.version=1"):
        to_hugging_face(stored, tmp_path / "hub")


def test_weights_of_before_there_were_two_versions_are_of_mobilenet_v2():
    assert weights.read(str(weights.PACKAGED)).config.version == 2
