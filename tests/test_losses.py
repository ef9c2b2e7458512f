import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeplab_mnv2.config import (
    IGNORE_LABEL,
    CrossEntropy,
    Dice,
    Focal,
    Jaccard,
    LovaszSoftmax,
    Sum,
    Term,
)
from deeplab_mnv2.models.layers import resize
from deeplab_mnv2.tasks.segmentation.losses import loss_sums
from deeplab_mnv2.tasks.segmentation.metrics import miou

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


@pytest.mark.parametrize("other", [CrossEntropy(), Dice(), Jaccard(), LovaszSoftmax()])
def test_a_part_without_labels_does_not_count(example, other):
    logits, label = example
    label = label.at[0].set(IGNORE_LABEL)
    parts = [
        loss_sums(other, logits[i : i + 1], label[i : i + 1], STEP, align_corners=True)
        for i in range(2)
    ]
    totals, weights = zip(*parts, strict=True)
    assert weights[0] == 0
    np.testing.assert_allclose(sum(totals) / sum(weights), loss(logits, label, other), rtol=1e-5)


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


def cross_entropy_of(probability, target):
    return -jnp.sum(target * jnp.log(probability)) / jnp.sum(target)


def jaccard_of(probability, target):
    probability *= jnp.sum(target, axis=-1, keepdims=True)  # nothing where unlabelled
    overlap = jnp.sum(probability * target, axis=(0, 1, 2))
    union = jnp.sum(probability, axis=(0, 1, 2)) + jnp.sum(target, axis=(0, 1, 2)) - overlap
    return jnp.mean(1 - overlap / union)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CrossEntropy(), cross_entropy_of),
        (Jaccard(), jaccard_of),
        (
            Sum((Term(CrossEntropy()), Term(Jaccard(), 3.0))),
            lambda p, target: cross_entropy_of(p, target) + 3 * jaccard_of(p, target),
        ),
    ],
)
def test_small_logits_lose_what_resized_ones_do(config, expected, align_corners):
    logits = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    label = jax.random.randint(jax.random.key(1), (2, 37, 29), 0, 3).at[0, :2].set(IGNORE_LABEL)

    def resized(logits):
        full = resize(logits, label.shape[1:], align_corners=align_corners)
        return expected(jax.nn.softmax(full), jax.nn.one_hot(label, 3))

    def small(logits):
        return loss(logits, label, config, align_corners=align_corners)

    ours, theirs = (jax.value_and_grad(f)(logits) for f in (small, resized))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-7)


def probabilities_of(example):
    """Return probabilities and labels of the labelled pixels, (N, 3) and (N,)."""
    logits, label = (np.asarray(x) for x in example)
    labelled = label != IGNORE_LABEL
    exponents = np.exp(logits[labelled])
    return exponents / exponents.sum(-1, keepdims=True), label[labelled]


def test_label_smoothing_spreads_a_share_of_the_target(example):
    p, label = probabilities_of(example)
    own = p[np.arange(len(label)), label]
    expected = -(0.9 * np.log(own) + 0.1 * np.log(p).mean(-1)).mean()
    np.testing.assert_allclose(loss(*example, CrossEntropy(label_smoothing=0.1)), expected, 1e-5)
    np.testing.assert_allclose(
        loss(*example, CrossEntropy(label_smoothing=1e-9)), loss(*example), rtol=1e-5
    )


def test_focal_loss_weighs_down_what_is_easy(example):
    p, label = probabilities_of(example)
    own = p[np.arange(len(label)), label]
    expected = (-np.log(own) * (1 - own) ** 2).mean()
    np.testing.assert_allclose(loss(*example, Focal()), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(*example, Focal(gamma=0.0)), loss(*example), rtol=1e-5)


def test_soft_overlaps_by_hand(example):
    p, label = probabilities_of(example)
    target = np.eye(3)[label]
    overlap, sizes = (p * target).sum(0), p.sum(0) + target.sum(0)
    present = target.sum(0) > 0
    dice = (1 - 2 * overlap / sizes)[present].mean()
    jaccard = (1 - overlap / (sizes - overlap))[present].mean()
    np.testing.assert_allclose(loss(*example, Dice()), dice, rtol=1e-5)
    np.testing.assert_allclose(loss(*example, Jaccard()), jaccard, rtol=1e-5)


@pytest.mark.parametrize("overlap", [Jaccard(), LovaszSoftmax()])
def test_of_certain_predictions_it_is_one_minus_the_iou(overlap):
    label = jax.random.randint(jax.random.key(0), (1, 6, 7), 0, 3).at[0, 0, :2].set(IGNORE_LABEL)
    prediction = jax.random.randint(jax.random.key(1), (1, 6, 7), 0, 3)
    confusion = np.zeros((3, 3))
    labelled = np.asarray(label) != IGNORE_LABEL
    np.add.at(confusion, (np.asarray(label)[labelled], np.asarray(prediction)[labelled]), 1)
    logits = 100.0 * jax.nn.one_hot(prediction, 3)
    np.testing.assert_allclose(loss(logits, label, overlap), 1 - miou(confusion), atol=1e-5)


def test_lovasz_of_two_pixels_by_hand():
    # Class 1: errors 0.6 (a hit) and 0.3 (none); Jaccard of the first is 1, of both 1.
    logits = jnp.log(jnp.array([[[[0.6, 0.4], [0.7, 0.3]]]]))
    label = jnp.array([[[1, 0]]])
    # Class 0: the same errors, 0.6 without and 0.3 with a hit: 1/2 of the first, 1 of both.
    expected = (0.6 * 1.0 + 0.6 * 0.5 + 0.3 * 0.5) / 2
    np.testing.assert_allclose(loss(logits, label, LovaszSoftmax()), expected, rtol=1e-5)


def test_a_sum_adds_weighted_losses(example):
    both = Sum((Term(CrossEntropy()), Term(Jaccard(), 0.5)))
    expected = loss(*example) + 0.5 * loss(*example, Jaccard())
    np.testing.assert_allclose(loss(*example, both), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_of_certain_pixels_has_a_finite_gradient(gamma):
    # Right, wrong and unlabelled; softmax is 1 in float32.
    logits = jnp.zeros((1, 1, 3, 2)).at[..., 0].set(30.0)
    label = jnp.array([[[0, 1, IGNORE_LABEL]]])
    value, gradient = jax.value_and_grad(loss)(logits, label, Focal(gamma))
    np.testing.assert_allclose(value, 15, rtol=1e-5)
    np.testing.assert_allclose(gradient[0, 0], [[0, 0], [0.5, -0.5], [0, 0]], atol=1e-3)


@pytest.mark.parametrize(
    "other", [CrossEntropy(label_smoothing=0.1), Focal(), Dice(), Jaccard(), LovaszSoftmax()]
)
def test_no_loss_sees_unlabelled_pixels_or_ends_where_none_is_labelled(example, other):
    logits, label = example
    changed = logits.at[0, :2].add(100.0)
    np.testing.assert_allclose(loss(logits, label, other), loss(changed, label, other), rtol=1e-6)
    value, gradient = jax.value_and_grad(loss)(logits, label, other)
    assert float(jnp.abs(gradient[0, :2]).max()) == 0
    assert float(jnp.abs(gradient[1]).max()) > 0
    nothing = jnp.full_like(label, IGNORE_LABEL)
    value, gradient = jax.value_and_grad(loss)(logits, nothing, other)
    assert float(value) == 0
    assert bool(jnp.isfinite(gradient).all())


@dataclasses.dataclass
class _Brightness:
    """A loss of one's own: the mean of the first class's logits."""

    def sums(self, logits, label, step):
        return jnp.sum(logits[..., 0]), jnp.asarray(float(label.size))


def test_an_object_of_ones_own_sees_logits_at_full_size():
    logits = jnp.arange(4.0).reshape(1, 2, 2, 1).repeat(3, axis=-1)
    label = jnp.zeros((1, 5, 5), jnp.int32)
    np.testing.assert_allclose(loss(logits, label, _Brightness()), 1.5, rtol=1e-6)
