import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2.config import ClassifierConfig, ModelConfig
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.mobilenet_v2 import MobileNetV2, make_divisible
from tests.support.networks import apply, randomize_norms


def count(model: nnx.Module) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def abstract(module: type, config: ModelConfig) -> nnx.Module:
    return nnx.eval_shape(lambda: module(config, rngs=nnx.Rngs(0)))


def test_parameter_counts_equal_the_papers():
    assert count(abstract(MobileNetV2, ModelConfig())) == 1_811_712
    classifier = ClassifierConfig(num_classes=1000, output_stride=32)
    assert count(abstract(Classifier, classifier)) == 3_504_872


@pytest.mark.parametrize(
    ("width", "millions"),
    # slim's README with 1,001 classes; own counts in parameters.
    [(1.4, 6.111), (1.3, 5.388), (1.0, 3.506), (0.75, 2.638), (0.5, 1.970), (0.35, 1.678)],
)
def test_classifier_counts_at_every_published_width(width, millions):
    config = ClassifierConfig(num_classes=1001, output_stride=32, width_multiplier=width)
    assert count(abstract(Classifier, config)) / 1e6 == pytest.approx(millions, abs=5e-4)


def test_make_divisible_never_drops_more_than_a_tenth():
    for channels in np.linspace(1, 400, 777):
        for divisor in (1, 8):
            rounded = make_divisible(channels, divisor)
            assert rounded % divisor == 0
            assert rounded >= 0.9 * channels
            assert rounded >= divisor


def test_narrow_voc_widths_are_those_of_the_released_graph():
    model = abstract(MobileNetV2, ModelConfig(width_multiplier=0.5, divisible_by=1))
    widths = [model.stem.conv.kernel.shape[-1]]
    widths += [stage[-1].project.conv.kernel.shape[-1] for stage in model.stages]
    assert widths == [16, 8, 12, 16, 32, 48, 80, 160]


@pytest.mark.parametrize(
    ("output_stride", "dilations"),
    # Blocks 7 (first of stage 4) to 17, as in TF-slim and the released graphs.
    [
        (32, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        (16, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2]),
        (8, [1, 2, 2, 2, 2, 2, 2, 2, 4, 4, 4]),
    ],
)
def test_the_block_that_loses_its_stride_keeps_the_old_dilation(output_stride, dilations):
    model = abstract(MobileNetV2, ModelConfig(output_stride=output_stride))
    blocks = [block for stage in model.stages for block in stage]
    assert [block.depthwise.conv.dilation for block in blocks[6:]] == dilations


@pytest.mark.parametrize("size", [(97, 65), (64, 96)])
def test_dilated_features_equal_strided_ones_on_their_grid(size):
    config = ModelConfig(width_multiplier=0.35, padding="symmetric", output_stride=8)
    models = {}
    for output_stride in (8, 16, 32):
        stride = dataclasses.replace(config, output_stride=output_stride)
        model = MobileNetV2(stride, rngs=nnx.Rngs(0))
        randomize_norms(model)
        model.eval()
        models[output_stride] = model
    image = jax.random.normal(jax.random.key(1), (2, *size, 3))
    dense, middle, coarse = (apply(models[stride], image) for stride in (8, 16, 32))
    scale = float(jnp.abs(dense).max())
    np.testing.assert_allclose(dense[:, ::2, ::2] / scale, middle / scale, atol=1e-5)
    np.testing.assert_allclose(middle[:, ::2, ::2] / scale, coarse / scale, atol=1e-5)


def test_same_and_symmetric_padding_agree_where_sizes_are_32k_plus_1():
    outputs = []
    for padding in ("same", "symmetric"):
        model = MobileNetV2(ModelConfig(width_multiplier=0.35, padding=padding), rngs=nnx.Rngs(0))
        model.eval()
        image = jax.random.normal(jax.random.key(1), (1, 65, 97, 3))
        even = jax.random.normal(jax.random.key(1), (1, 64, 96, 3))
        outputs.append((apply(model, image), apply(model, even)))
    (odd_same, even_same), (odd_symmetric, even_symmetric) = outputs
    np.testing.assert_allclose(odd_same, odd_symmetric, atol=1e-6)
    assert not np.allclose(even_same, even_symmetric, atol=1e-3)


def test_endpoints_have_the_strides_they_are_named_for():
    model = abstract(MobileNetV2, ModelConfig(output_stride=16))
    points = jax.eval_shape(
        lambda state, x: nnx.merge(nnx.split(model)[0], state, copy=True).endpoints(x),
        nnx.state(model),
        jax.ShapeDtypeStruct((1, 129, 65, 3), jnp.float32),
    )
    assert points["stem"].shape == (1, 65, 33, 32)
    assert points["stage2"].shape == (1, 33, 17, 24)
    assert points["low_level"].shape == (1, 33, 17, 144)
    assert points["stage7"].shape == points["features"].shape == (1, 9, 5, 320)


def test_shortcut_settings_are_different_networks():
    config = ModelConfig(width_multiplier=0.35, output_stride=32)
    image = jax.random.normal(jax.random.key(0), (1, 33, 33, 3))
    outputs = []
    for shortcut in ("bottleneck", "expansion", "none"):
        model = MobileNetV2(dataclasses.replace(config, shortcut=shortcut), rngs=nnx.Rngs(0))
        model.eval()
        outputs.append(np.asarray(apply(model, image)))
    bottleneck, expansion, none = outputs
    assert not np.allclose(bottleneck, expansion, atol=1e-4)
    assert not np.allclose(bottleneck, none, atol=1e-4)
    assert not np.allclose(expansion, none, atol=1e-4)


def test_nonlinear_bottleneck_clips_what_the_linear_one_keeps():
    image = jax.random.normal(jax.random.key(0), (1, 33, 33, 3))
    linear = MobileNetV2(ModelConfig(width_multiplier=0.35), rngs=nnx.Rngs(0))
    clipped = MobileNetV2(
        ModelConfig(width_multiplier=0.35, linear_bottleneck=False), rngs=nnx.Rngs(0)
    )
    assert float(apply(linear, image).min()) < 0 <= float(apply(clipped, image).min())


def test_other_input_channels_and_classifier_output():
    config = ModelConfig(
        num_classes=7,
        in_channels=5,
        width_multiplier=0.35,
        output_stride=32,
        image_mean=(0,) * 5,
        image_std=(1,) * 5,
    )
    model = Classifier(config, rngs=nnx.Rngs(0))
    model.eval()
    assert apply(model, jnp.ones((2, 41, 37, 5))).shape == (2, 7)
