"""Intervals against SciPy's, and what must hold of any."""

import numpy as np
import pytest
from scipy import stats

from deeplab_mnv2.tasks.segmentation.intervals import difference_intervals, score_intervals
from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class, miou


def random_confusions(images: int = 60, classes: int = 4, seed: int = 0) -> np.ndarray:
    """Return confusion matrices of images that are hard to a different degree."""
    rng = np.random.default_rng(seed)
    right = rng.beta(4, 2, size=(images, 1, 1)) * np.eye(classes)
    wrong = rng.dirichlet(np.ones(classes), size=(images, classes)) * 0.3
    return (1000 * (right + wrong)).astype(np.int64)


def test_agrees_with_scipy():
    confusions = random_confusions()
    found = score_intervals(confusions, samples=4000)

    def peer(statistic):
        return stats.bootstrap(
            (np.arange(len(confusions)),),
            lambda drawn: statistic(confusions[drawn].sum(axis=0)),
            n_resamples=4000,
            method="percentile",
            vectorized=False,
            rng=np.random.default_rng(1),
        ).confidence_interval

    np.testing.assert_allclose(found[0], peer(miou), atol=0.004)
    per_class = peer(iou_per_class)
    np.testing.assert_allclose(found[1:], np.stack(per_class, axis=-1), atol=0.006)


def test_images_that_are_alike_leave_no_doubt():
    one = random_confusions(images=1)[0]
    found = score_intervals(np.stack([one] * 5), samples=30)
    assert found[0] == pytest.approx([float(miou(one))] * 2)


def test_same_seed_same_interval():
    confusions = random_confusions()
    assert score_intervals(confusions, samples=120) == score_intervals(confusions, samples=120)


def test_a_run_does_not_differ_from_itself():
    confusions = random_confusions()
    found = difference_intervals([confusions], [confusions], samples=50)
    assert found == [(0, 0)] * 5


def test_pairing_tells_apart_what_the_intervals_alone_do_not():
    first = random_confusions()
    second = first.copy()
    # Every image a little better: each error of 8 becomes right once.
    moved = second[:, 0, 1] // 8
    second[:, 0, 1] -= moved
    second[:, 0, 0] += moved
    apart = [score_intervals(c, samples=500)[0] for c in (first, second)]
    assert apart[0][1] > apart[1][0]
    low, high = difference_intervals([first], [second], samples=500)[0]
    assert 0 < low < high
    backwards = difference_intervals([second], [first], samples=500)[0]
    assert backwards == pytest.approx((-high, -low))


def seeds_of_one_recipe(number: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return runs whose scores differ by the seed, by far more than by the images."""
    runs = []
    for shift in rng.normal(0.7, 0.03, size=number):
        right = np.full((40, 1, 1), shift) + rng.normal(0, 0.02, size=(40, 1, 1))
        share = right * np.eye(3) + (1 - right) * (1 - np.eye(3)) / 2
        runs.append((1000 * share).astype(np.int64))
    return runs


def test_an_interval_over_runs_holds_zero_for_two_arms_of_one_recipe():
    """95 % of comparisons of a recipe with itself; one over images alone fails most of them."""
    rng = np.random.default_rng(3)
    apart = {1: 0, 3: 0}
    for number in apart:
        for _ in range(100):
            arms = [seeds_of_one_recipe(number, rng) for _ in range(2)]
            low, high = difference_intervals(*arms, samples=200)[0]
            apart[number] += low > 0 or high < 0
    assert apart[1] > 50
    assert apart[3] <= 8


def test_an_interval_over_runs_finds_a_better_recipe():
    rng = np.random.default_rng(4)
    worse, better = ([run // 2 for run in seeds_of_one_recipe(5, rng)] for _ in range(2))
    for run in better:
        run[:, range(3), range(3)] += 500
    low, high = difference_intervals(worse, better, samples=200)[0]
    assert 0 < low < high


def test_no_interval_from_too_little():
    confusions = random_confusions(images=3)
    confusions[1:, 2] = 0  # class 2 is labelled in one image only
    found = score_intervals(confusions, samples=50)
    assert [interval is None for interval in found] == [False, False, False, True, False]
    for few in (confusions[:1], confusions[:0]):
        assert score_intervals(few, samples=50) == [None] * 5
        assert difference_intervals([few], [few], samples=50) == [None] * 5
