"""Calibration by hand, and the device's counts against the model's own probabilities."""

import jax
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2.config import IGNORE_LABEL, EvaluationConfig, ModelConfig
from deeplab_mnv2.evaluation.calibration import LEVELS, calibration
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.tasks.segmentation.evaluator import SegmentationEvaluator
from deeplab_mnv2.tasks.segmentation.object_sizes import object_sizes
from tests.support.evaluations import DATA
from tests.support.meshes import mesh_of
from tests.support.networks import apply, randomize_norms


def counted(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    counts = np.zeros((LEVELS + 1, 2), np.int64)
    np.add.at(counts, (np.rint(confidence * LEVELS).astype(int), right.astype(int)), 1)
    return counts


def test_by_hand():
    found = calibration(counted(np.repeat([0.6, 0.9], 10), np.arange(20) % 2 == 0))
    # Both half right: off by 0.1 and by 0.4.
    assert found["ece"] == pytest.approx((0.1 + 0.4) / 2)
    assert [n for n in found["pixels"] if n] == [10, 10]
    assert found["correct"][8] == 5
    assert found["confidence"][8] == pytest.approx(6)  # 0.6 lies in (8/15, 9/15]
    assert found["confidence"][13] == pytest.approx(9)


def test_knowing_its_own_errors_is_calibrated():
    counts = np.zeros((LEVELS + 1, 2), np.int64)
    counts[900] = 40, 60
    counts[LEVELS] = 0, 70
    assert calibration(counts)["ece"] == 0


def test_agrees_with_the_definition():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(1 / 21, 1, 20_000)
    right = rng.random(len(confidence)) < confidence**2
    edges = np.digitize(confidence, np.arange(1, 15) / 15, right=True)
    gaps = [
        abs(right[edges == b].mean() - confidence[edges == b].mean()) * (edges == b).mean()
        for b in range(15)
        if (edges == b).any()
    ]
    assert calibration(counted(confidence, right))["ece"] == pytest.approx(sum(gaps), abs=1e-3)


def test_nothing_labelled_is_none():
    assert calibration(np.zeros((LEVELS + 1, 2), np.int64))["ece"] is None


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.usefixtures("one_block_a_stage")
def test_the_device_counts_the_models_probabilities_and_objects(flip):
    model = DeepLab(ModelConfig(width_multiplier=0.35, head_channels=16), rngs=nnx.Rngs(0))
    randomize_norms(model)
    config = EvaluationConfig(batch_size=3, pad_sizes=(65,), bootstrap_samples=0, flip=flip)
    _, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    evaluation = SegmentationEvaluator(model, DATA, config, threads=1, mesh=mesh_of())(
        params, batch_stats, pictures=8
    )
    counts = evaluation.counts
    assert counts.confidences.sum() == counts.confusions.sum()
    assert counts.confidences[:, 1].sum() == np.trace(counts.confusions.sum(axis=0))

    padded = np.full((8, 65, 65, 3), 128, np.uint8)
    for picture, image in zip(evaluation.pictures, padded, strict=True):
        height, width = picture.label.shape
        image[:height, :width] = picture.image
    model.eval()
    softmax = jax.nn.softmax(apply(model, model.normalize(padded)))
    if flip:
        mirrored = jax.nn.softmax(apply(model, model.normalize(padded[:, :, ::-1])))
        softmax = (softmax + mirrored[:, :, ::-1]) / 2
    winners = np.asarray(softmax.max(axis=-1))

    expected = np.zeros_like(counts.confidences)
    objects = np.zeros_like(counts.objects)
    for picture, winner in zip(evaluation.pictures, winners, strict=True):
        sizes, found = object_sizes(picture.label, 21)
        objects += found
        labelled = picture.label != IGNORE_LABEL
        right = (picture.prediction == picture.label).astype(int)
        by_size = np.zeros((3, 21, 2), np.int64)
        np.add.at(by_size, (sizes[labelled], picture.label[labelled], right[labelled]), 1)
        np.testing.assert_array_equal(counts.sizes[counts.names.index(picture.name)], by_size)
        height, width = picture.label.shape
        expected += counted(winner[:height, :width][labelled], right[labelled])
    np.testing.assert_array_equal(counts.objects, objects)
    # Float rounding moves a pixel in a thousand to the next level.
    assert np.abs(counts.confidences - expected).sum() < 0.01 * expected.sum()
