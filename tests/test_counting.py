"""Counts on the device against counts by hand."""

import dataclasses
import re

import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2.config import IGNORE_LABEL, PAD_SIZES, EvaluationConfig, ModelConfig
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.evaluation.protocol import differing_fields
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.tasks.segmentation.evaluator import SegmentationEvaluator
from tests.support.meshes import mesh_of
from tests.support.networks import apply, randomize_norms

pytestmark = pytest.mark.usefixtures("one_block_a_stage")
DATA = Shapes(split="val", length=5, size=49)


@pytest.fixture(scope="module")
def model(one_block_a_stage):
    model = DeepLab(ModelConfig(width_multiplier=0.35, head_channels=16), rngs=nnx.Rngs(0))
    randomize_norms(model)
    return model


def evaluate(model, pictures=0, mesh=None, dataset=DATA, **settings):
    settings = {"batch_size": 2, "pad_sizes": (49,), "bootstrap_samples": 20, **settings}
    evaluator = SegmentationEvaluator(
        model, dataset, EvaluationConfig(**settings), threads=1, mesh=mesh or mesh_of()
    )
    _, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return evaluator(params, batch_stats, pictures=pictures)


@pytest.fixture(scope="module")
def evaluation(model):
    return evaluate(model, pictures=5)


def test_confusions_are_those_of_the_pictures(evaluation):
    by_name = dict(zip(evaluation.counts.names, evaluation.counts.confusions, strict=True))
    assert len(evaluation.pictures) == 5
    for picture in evaluation.pictures:
        expected = np.zeros((21, 21), np.int64)
        labelled = picture.label != IGNORE_LABEL
        np.add.at(expected, (picture.label[labelled], picture.prediction[labelled]), 1)
        np.testing.assert_array_equal(by_name[picture.name], expected)
    total = np.array(evaluation.result["confusion"])
    np.testing.assert_array_equal(total, evaluation.counts.confusions.sum(axis=0))


def test_every_labelled_pixel_counts_once_and_no_other(evaluation):
    source = DATA.open()
    labels = [source[i]["label"] for i in range(len(source))]
    expected = [int((label != IGNORE_LABEL).sum()) for label in labels]
    assert evaluation.counts.confusions.sum(axis=(1, 2)).tolist() == expected
    rows = np.stack([np.bincount(label.ravel(), minlength=256)[:21] for label in labels])
    np.testing.assert_array_equal(evaluation.counts.confusions.sum(axis=2), rows)


def test_predictions_are_the_models(model, evaluation):
    picture = evaluation.pictures[0]
    model.eval()
    height, width = picture.label.shape
    padded = np.full((1, 49, 49, 3), 128, np.uint8)
    padded[0, :height, :width] = picture.image
    logits = apply(model, model.normalize(padded))
    model.train()
    prediction = np.argmax(np.asarray(logits), axis=-1)[0, :height, :width]
    assert (prediction == picture.prediction).mean() > 0.999


def test_bands_grow_to_the_whole(evaluation):
    bands = evaluation.counts.bands
    assert (np.diff(bands, axis=0) >= 0).all()
    assert (bands[-1] <= evaluation.counts.confusions.sum(axis=0)).all()


@pytest.mark.parametrize(
    "axes", [{"data": 2}, {"data": 4}, {"data": 8}, {"data": 2, "fsdp": 2}, {"space": 2}]
)
def test_same_counts_on_any_number_of_devices(model, evaluation, axes):
    sharded = evaluate(model, mesh=mesh_of(**axes))
    np.testing.assert_array_equal(sharded.counts.confusions, evaluation.counts.confusions)
    assert sharded.counts.names == evaluation.counts.names


def test_one_compilation_for_all_sizes_of_a_bucket(evaluation):
    assert evaluation.result["compilations"] == 1


def test_what_images_are_padded_to_is_counted_and_stamped(model, evaluation):
    source = DATA.open()
    sizes = [source[i]["label"].shape for i in range(len(source))]
    np.testing.assert_array_equal(evaluation.counts.extents[:, 0], sizes)
    assert (evaluation.counts.extents[:, 1] == 49).all()
    square = evaluation.result["protocol"]["pad"]
    assert square == "mean pixel and label 255, bottom and right, square, never resized"
    strips = evaluate(model, dataset=_Strips(), pad_sizes=PAD_SIZES)
    assert strips.counts.extents[:, 1].tolist() == [[33, 97], [33, 97], [97, 33]]
    assert strips.result["protocol"]["pad"] != square
    assert strips.counts.confusions.sum(axis=(1, 2)).tolist() == [20 * 90, 20 * 90, 90 * 20]


def test_much_padding_is_warned_of(model, evaluation):
    """Drawn scenes of 97 pixels lose 13 points in squares of 513 (the quick start's weights)."""
    assert not any("padded" in warning for warning in evaluation.warnings())
    (warning,) = (w for w in evaluate(model, pad_sizes=(193,)).warnings() if "padded" in w)
    assert re.search(r"padded to 2\d times their pixels.*evaluation\.pad_sizes", warning)


def test_scales_and_flip_average_probabilities(model):
    flipped = evaluate(model, scales=(1.0,), flip=True)
    scaled = evaluate(model, scales=(0.5, 1.0))
    plain = evaluate(model)
    for other in (flipped, scaled):
        assert other.counts.confusions.sum() == plain.counts.confusions.sum()
        assert not np.array_equal(other.counts.confusions, plain.counts.confusions)


def test_protocol_hash_follows_the_protocol_not_the_weights(model, evaluation):
    stamp = evaluation.result["protocol"]
    other = DeepLab(model.config, rngs=nnx.Rngs(1))
    again = evaluate(other).result["protocol"]
    assert again["protocol_hash"] == stamp["protocol_hash"]
    assert again["weights"] != stamp["weights"]
    flipped = evaluate(model, flip=True).result["protocol"]
    assert flipped["protocol_hash"] != stamp["protocol_hash"]
    assert differing_fields(stamp, flipped) == ["flip"]
    seed = evaluate(model, dataset=dataclasses.replace(DATA, seed=9)).result["protocol"]
    assert differing_fields(stamp, seed) == ["split_digest"]


def test_pictures_are_spread_from_worst_to_best(model):
    evaluation = evaluate(model, pictures=3)
    values = [picture.miou for picture in evaluation.pictures]
    assert len(values) == 3
    assert values == sorted(values)


class _Strips:
    """Three grey images more than four times as long as wide."""

    split = "val"
    class_names = DATA.class_names

    def open(self):
        return [
            {
                "image": np.full((*size, 3), 99, np.uint8),
                "label": np.ones(size, np.uint8),
                "name": "",
            }
            for size in ((20, 90), (20, 90), (90, 20))
        ]

    def digest(self):
        return "strips"
