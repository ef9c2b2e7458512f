"""Losses of detection: formulas, which anchors count, and that parts of a batch add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeplab_mnv2.config import FocalBox, MultiBox
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.detection.losses import hard_negatives, loss_sums
from deeplab_mnv2.tasks.detection.matching import Targets

ANCHORS, CLASSES = 40, 3
LOSSES = [MultiBox(), MultiBox(1.5, 0, 2.0), FocalBox(), FocalBox(0.5, 0.25, 0.5), FocalBox(0.0)]


def draw(seed: int, positives: list[int], ignored: int = 6):
    """Return codes, logits and targets of a batch with so many matched anchors an image."""
    rng = np.random.default_rng(seed)
    batch = len(positives)
    codes = rng.normal(0, 1, (batch, ANCHORS, 4)).astype(np.float32)
    logits = rng.normal(0, 2, (batch, ANCHORS, CLASSES + 1)).astype(np.float32)
    matched, left_out = np.zeros((2, batch, ANCHORS), bool)
    for image, number in enumerate(positives):
        order = rng.permutation(ANCHORS)
        matched[image, order[:number]] = True
        left_out[image, order[number : number + ignored]] = True
    classes = np.where(matched, rng.integers(0, CLASSES, matched.shape), -1).astype(np.int32)
    wanted = np.where(matched[..., None], rng.normal(0, 2, codes.shape), 0).astype(np.float32)
    return codes, logits, Targets(*map(jnp.asarray, (wanted, classes, matched, left_out)))


def plain(loss, codes, logits, targets) -> tuple[float, int]:
    """Compute a loss by loops in float64."""
    total = 0.0
    for image in range(len(codes)):
        negatives = []
        for anchor in range(ANCHORS):
            kind, there = int(targets.classes[image, anchor]), bool(targets.matched[image, anchor])
            values = logits[image, anchor].astype(float)
            probability = 1 / (1 + np.exp(-values))
            if isinstance(loss, MultiBox):
                own = np.log(probability[kind + 1])
                rest = np.log(1 - np.delete(probability, kind + 1)).sum()
                class_loss = -own - rest
            else:
                class_loss = 0.0
                for index, p in enumerate(probability[1:]):
                    p, alpha = (p, loss.alpha) if index == kind else (1 - p, 1 - loss.alpha)
                    class_loss -= alpha * (1 - p) ** loss.gamma * np.log(p)
            if there:
                distance = np.abs(codes[image, anchor] - np.asarray(targets.codes[image, anchor]))
                box = np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
                total += class_loss + loss.box_weight * box
            elif not targets.ignored[image, anchor]:
                negatives.append(class_loss)
        if isinstance(loss, MultiBox):
            wanted = int(targets.matched[image].sum())
            count = max(int(loss.negatives * wanted), loss.min_negatives)
            negatives = sorted(negatives, reverse=True)[:count]
        total += sum(negatives)
    return total, int(targets.matched.sum())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("positives", [[4, 7], [0, 3], [0, 0], [12, 20]])
def test_losses_equal_plain_loops(loss, positives):
    given = draw(0, positives)
    total, weight = jax.jit(lambda *arrays: loss_sums(loss, *arrays))(*given)
    wanted, divisor = plain(loss, *given)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    assert weight == divisor


@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_batch_add_up(loss):
    # A part without an object has negatives alone.
    codes, logits, targets = draw(1, [0, 3, 7, 2])
    whole = loss_sums(loss, codes, logits, targets)
    parts = [
        loss_sums(loss, codes[at], logits[at], Targets(*(part[at] for part in targets)))
        for at in (slice(0, 1), slice(1, 4))
    ]
    np.testing.assert_allclose(sum(part[0] for part in parts), whole[0], rtol=1e-5)
    assert sum(part[1] for part in parts) == whole[1] == 12


@pytest.mark.parametrize("loss", LOSSES)
def test_ignored_anchors_have_no_gradient_and_matched_ones_have(loss):
    codes, logits, targets = draw(2, [3, 5])
    for_codes, for_logits = jax.grad(
        lambda codes, logits: loss_sums(loss, codes, logits, targets)[0], argnums=(0, 1)
    )(codes, logits)
    ignored, matched = np.asarray(targets.ignored), np.asarray(targets.matched)
    assert not np.asarray(for_logits)[ignored].any()
    assert np.asarray(for_logits)[matched].any(axis=-1).all()
    assert not np.asarray(for_codes)[~matched].any()
    assert np.asarray(for_codes)[matched].all()


@pytest.mark.parametrize(
    ("loss", "positives", "wanted"),
    [
        (MultiBox(), [0, 1, 5, 12], [3, 3, 15, 22]),
        (MultiBox(min_negatives=0), [0, 1, 5, 12], [0, 3, 15, 22]),
        (MultiBox(negatives=1.5), [0, 1, 3, 6], [3, 3, 4, 9]),
    ],
)
def test_hard_negatives_are_the_hardest_and_as_many_as_asked(loss, positives, wanted):
    _, logits, targets = draw(3, positives)
    losses = np.abs(logits).sum(axis=-1)
    losses[0, :20] = 7.0  # equals
    found = np.asarray(hard_negatives(loss, jnp.asarray(losses), targets))
    # At most all 40 less the matched and the 6 ignored.
    assert found.sum(axis=1).tolist() == wanted
    allowed = ~np.asarray(targets.matched) & ~np.asarray(targets.ignored)
    assert not (found & ~allowed).any()
    for image in range(len(positives)):
        left = losses[image][allowed[image] & ~found[image]]
        taken = losses[image][found[image]]
        assert not len(left) or not len(taken) or left.max() <= taken.min()


@pytest.mark.parametrize("loss", LOSSES)
def test_huge_logits_stay_finite(loss):
    codes, logits, targets = draw(4, [5, 0])
    sums = jax.value_and_grad(lambda logits: loss_sums(loss, codes, logits, targets)[0])
    total, gradient = sums(jnp.asarray(np.sign(logits) * 1e4))
    assert np.isfinite(total)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (MultiBox(negatives=-1.0), "negatives"),
        (MultiBox(min_negatives=-1), "min_negatives"),
        (MultiBox(box_weight=-0.1), "box_weight"),
        (FocalBox(gamma=-1.0), "gamma"),
        (FocalBox(alpha=1.0), "alpha"),
    ],
)
def test_settings_out_of_range_are_refused(loss, name):
    with pytest.raises(UserError, match=rf"loss\.{name}="):
        loss.check(CLASSES)
