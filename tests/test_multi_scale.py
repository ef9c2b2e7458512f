"""Predictions averaged over scales and mirror images."""

import jax.numpy as jnp
import numpy as np

from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.tasks.segmentation.multi_scale import head_logits, predict


class _Colours:
    """Stands in for a network: the probabilities of a pixel are its colours."""

    config = ModelConfig(num_classes=3)

    def normalize(self, image):
        return image

    def __call__(self, image):
        return jnp.log(image)

    def head_logits(self, image):
        # Corner pixels coincide.
        return jnp.log(image[:, ::4, ::4])


def test_every_view_is_brought_back_before_it_counts():
    rows, columns = np.mgrid[:33, :49] / 48
    # Bilinear resizing reproduces ramps at any scale, and their mirror images differ from them.
    ramps = np.stack([0.1 + 0.3 * rows, 0.1 + 0.4 * columns], axis=-1)
    image = np.concatenate([ramps, 1 - ramps.sum(axis=-1, keepdims=True)], axis=-1)
    label, confidence = predict(_Colours(), jnp.asarray(image[None]), (0.5, 1.0, 1.75), flip=True)
    np.testing.assert_allclose(confidence[0], image.max(axis=-1), atol=1e-5)
    # Where two colours are alike, rounding decides.
    first, second = np.sort(image, axis=-1)[..., :0:-1].transpose(2, 0, 1)
    clear = first - second > 1e-4
    assert (np.asarray(label)[0] == image.argmax(axis=-1))[clear].all()


def test_the_head_averages_at_its_own_size():
    rows, columns = np.mgrid[:33, :49] / 48
    ramps = np.stack([0.1 + 0.3 * rows, 0.1 + 0.4 * columns], axis=-1)
    image = np.concatenate([ramps, 1 - ramps.sum(axis=-1, keepdims=True)], axis=-1)[None]
    found = head_logits(_Colours(), jnp.asarray(image), (0.5, 1.0, 1.75), flip=True)
    np.testing.assert_allclose(np.exp(found), image[:, ::4, ::4], atol=1e-5)


def test_a_class_that_is_impossible_has_a_finite_logit():
    image = jnp.zeros((1, 33, 33, 3)).at[..., 0].set(1.0)
    found = head_logits(_Colours(), image, (0.5, 1.0), flip=True)
    assert np.isfinite(found).all()
    assert (np.argmax(found, axis=-1) == 0).all()
