"""Norm statistics measured on images: exact, and sound to start training from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.weights.model_weights import variables
from tests.support.networks import apply
from tests.support.random_weights import random_weights, relative_error

IMAGES = np.random.default_rng(0).normal(0, 1, (6, 49, 49, 3)).astype(np.float32)


@pytest.fixture
def model() -> DeepLab:
    """A network as a folded file gives it: mean 0 and variance 1 are not its statistics."""
    given = random_weights(width_multiplier=0.35, head_channels=32, dropout=0.0)
    for name, array in given.tensors.items():
        if name.endswith(("norm.mean", "norm.var")):
            array[:] = name.endswith("var")
    return weights.build(given)


def train_mode(model: DeepLab) -> jax.Array:
    """Return the logits under the statistics of the batch."""
    probe = nnx.clone(model)
    probe.train()
    return apply(probe, jnp.asarray(IMAGES), "head_logits", training=True)


def test_training_starts_at_the_function_of_the_file(model):
    before = apply(model, jnp.asarray(IMAGES), "head_logits")
    assert relative_error(train_mode(model), before) > 0.1
    weights.calibrate(model, [IMAGES])
    assert relative_error(apply(model, jnp.asarray(IMAGES), "head_logits"), before) < 1e-4
    assert relative_error(train_mode(model), before) < 1e-3


def test_precise_norm_takes_over_the_statistics_of_training(model):
    scale = np.asarray(model.backbone.stem.norm.scale[...])
    wanted = train_mode(model)
    weights.calibrate(model, [IMAGES], keep_function=False)
    assert relative_error(apply(model, jnp.asarray(IMAGES), "head_logits"), wanted) < 1e-3
    np.testing.assert_array_equal(model.backbone.stem.norm.scale[...], scale)


def test_statistics_do_not_depend_on_how_images_are_batched(model):
    other = nnx.clone(model)
    weights.calibrate(model, [IMAGES])
    weights.calibrate(other, iter([IMAGES[:1], IMAGES[1:3], IMAGES[3:]]))
    for name, variable in variables(model).items():
        found = np.asarray(variables(other)[name][...])
        np.testing.assert_allclose(found, variable[...], rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_model_stays_in_its_mode(model):
    weights.calibrate(model, [IMAGES[:1]])
    assert model.backbone.stem.norm.use_running_average
    assert isinstance(model.backbone.stem.norm, nnx.BatchNorm)


def test_other_parts_stay_as_they_are(model):
    before = {name: np.asarray(variable[...]) for name, variable in variables(model).items()}
    weights.calibrate(model, [IMAGES], parts=("backbone",))
    for name, variable in variables(model).items():
        changed = not np.array_equal(variable[...], before[name])
        assert changed == (name.startswith("backbone.") and ".norm." in name), name


def test_no_images_is_an_error(model):
    with pytest.raises(UserError, match="no images"):
        weights.calibrate(model, [])
