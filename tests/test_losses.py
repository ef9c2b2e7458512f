import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeplab_mnv2.config import IGNORE_LABEL, CrossEntropy
from deeplab_mnv2.models.layers import resize
from deeplab_mnv2.tasks.segmentation.losses import loss_sums

STEP = jnp.zeros((), jnp.int32)


def loss(logits, label, config=None, step=STEP, align_corners=True):
    total, weight = loss_sums(
        config or CrossEntropy(), logits, label, step, align_corners=align_corners
    )
    return total / jnp.maximum(weight, 1e-5)


@pytest.fixture
def example():
    logits = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
    label = jax.random.randint(jax.random.key(1), (2, 4, 5), 0, 3)
    return logits, label.at[0, :2].set(IGNORE_LABEL)


def test_is_the_mean_negative_log_likelihood_of_labelled_pixels(example):
    logits, label = (np.asarray(x) for x in example)
    likelihood = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = [-np.log(likelihood[i][label[i]]) for i in zip(*np.where(label != 255), strict=True)]
    np.testing.assert_allclose(loss(*example), np.mean(expected), rtol=1e-5)


def test_ignored_pixels_change_neither_value_nor_gradient(example):
    logits, label = example
    changed = logits.at[0, :2].add(100.0)
    np.testing.assert_array_equal(loss(logits, label), loss(changed, label))
    gradient = jax.grad(loss)(logits, label)
    assert float(jnp.abs(gradient[0, :2]).max()) == 0


def test_nothing_labelled_is_zero_and_finite():
    logits = jnp.ones((1, 2, 2, 3))
    label = jnp.full((1, 2, 2), IGNORE_LABEL)
    assert float(loss(logits, label)) == 0
    assert bool(jnp.isfinite(jax.grad(loss)(logits, label)).all())


def test_parts_add_up_to_the_whole_batch(example):
    logits, label = example
    parts = [
        loss_sums(CrossEntropy(), logits[i : i + 1], label[i : i + 1], STEP, align_corners=True)
        for i in range(2)
    ]
    totals, weights = zip(*parts, strict=True)
    np.testing.assert_allclose(sum(totals) / sum(weights), loss(logits, label), rtol=1e-6)


def test_class_weights_weigh_pixels_and_divisor(example):
    logits, label = example
    only_first = jnp.where(label == 0, 0, IGNORE_LABEL)
    weighted = loss(logits, label, CrossEntropy(class_weights=(2.0, 0.0, 0.0)))
    np.testing.assert_allclose(weighted, loss(logits, only_first), rtol=1e-5)


def test_hard_pixels_are_annealed_to_the_worst_share(example):
    logits, label = example
    config = CrossEntropy(top_k=0.25, top_k_steps=10)
    np.testing.assert_allclose(loss(logits, label, config), loss(logits, label), rtol=1e-5)
    flat = -jax.nn.log_softmax(logits)[label != 255, label[label != 255]]
    worst = np.sort(np.asarray(flat))[::-1]
    worst = worst[: int(np.ceil(0.25 * worst.size))]
    late = loss(logits, label, config, step=jnp.asarray(10, jnp.int32))
    np.testing.assert_allclose(late, worst.sum() / (0.25 * flat.size), rtol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
def test_small_logits_lose_what_resized_ones_do(align_corners):
    logits = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    label = jax.random.randint(jax.random.key(1), (2, 37, 29), 0, 3).at[0, :2].set(IGNORE_LABEL)
    total = jnp.sum(label != IGNORE_LABEL)

    def resized(logits):
        full = resize(logits, label.shape[1:], align_corners=align_corners)
        losses = -jax.nn.log_softmax(full) * jax.nn.one_hot(label, 3)
        return jnp.sum(losses) / total

    def small(logits):
        return loss(logits, label, align_corners=align_corners)

    ours, expected = (jax.value_and_grad(f)(logits) for f in (small, resized))
    np.testing.assert_allclose(ours[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], expected[1], rtol=1e-4, atol=1e-7)
