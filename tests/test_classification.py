"""Classification: augmentation, mixing, losses, scores, and a run from end to end."""

import dataclasses
import json
import shutil

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2 import Classifier, weights
from deeplab_mnv2.config import (
    AdamW,
    ClassificationDataConfig,
    ClassificationEvaluationConfig,
    ClassifierConfig,
    Config,
    CrossEntropy,
    Dice,
    OptimizerConfig,
    RandAugment,
    TrainConfig,
    TrivialAugmentWide,
)
from deeplab_mnv2.data.class_folder import ClassFolder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluate import evaluate
from deeplab_mnv2.tasks.classification.losses import loss_sums
from deeplab_mnv2.tasks.classification.metrics import difference_intervals, scores
from deeplab_mnv2.tasks.classification.mixing import mix
from deeplab_mnv2.tasks.classification.policies import USUAL, WIDE
from deeplab_mnv2.tasks.classification.transforms import (
    augment,
    centre,
    check_example,
    padded_crop,
    random_part,
)
from deeplab_mnv2.train import train
from tests.support.tiny_runs import COLOURS, write_colours

MEAN = (10, 20, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Class folders of noisy pictures in three colours."""
    root = tmp_path_factory.mktemp("colours")
    write_colours(root / "colours")
    return str(root / "colours")


@pytest.fixture(scope="module")
def settings(folder):
    return Config(
        data=ClassificationDataConfig(
            train=ClassFolder(root=folder, split="train"),
            val=ClassFolder(root=folder, split="val"),
            crop_size=32,
            area_range=(0.5, 1.0),
            mixup=0.1,
            threads=1,
        ),
        model=ClassifierConfig(num_classes=3, width_multiplier=0.35, backbone_momentum=0.8),
        optimizer=OptimizerConfig(rule=AdamW(), learning_rate=3e-3),
        loss=CrossEntropy(label_smoothing=0.1),
        train=TrainConfig(
            total_steps=60, batch_size=16, log_every=20, eval_every=60, checkpoint_every=30
        ),
        evaluation=ClassificationEvaluationConfig(
            batch_size=8, resize=36, crop_size=32, bootstrap_samples=50, pictures=6
        ),
    )


@pytest.fixture(scope="module")
def finished(one_block_a_stage, settings, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("classification") / "run"
    return workdir, train(settings, workdir)


def test_a_run_learns_colours_and_leaves_what_it_promises(finished):
    workdir, result = finished
    assert result["top1"] > 0.9
    assert result["top5"] == 1.0
    assert result["images"] == 24
    assert result == json.loads((workdir / "eval.json").read_text())
    assert result["protocol"]["crop_size"] == 32
    page = (workdir / "report.html").read_text()
    assert "top-1" in page
    assert page.count('class="card"') == 6
    stored = np.load(workdir / "predictions.npz")
    right = stored["classes"][:, 0] == stored["labels"]
    assert right.mean() == pytest.approx(result["top1"])


def test_a_photograph_is_seen_as_it_was_scored(finished, folder):
    workdir, result = finished
    classifier = Classifier.load(workdir)
    assert classifier.class_names == tuple(COLOURS)
    assert (classifier.scaling.resize, classifier.scaling.crop_size) == (36, 32)
    source = ClassFolder(root=folder, split="val").open()
    found = [classifier(source[index]["image"]) for index in range(len(source))]
    labels = [each.label == tuple(COLOURS)[source[i]["label"]] for i, each in enumerate(found)]
    assert np.mean(labels) == pytest.approx(result["top1"])
    assert sum(p for _, p in found[0].top(3)) == pytest.approx(1, abs=1e-5)
    paths = [f"{folder}/val/red/{index}.png" for index in range(3)]
    together = list(classifier.batch(paths))
    for path, each in zip(paths, together, strict=True):
        np.testing.assert_allclose(each.probabilities, classifier(path).probabilities, atol=1e-5)


def test_weights_keep_names_and_scaling(finished, tmp_path):
    workdir, _ = finished
    found = weights.read(str(workdir))
    assert found.kind == "classification"
    weights.save(tmp_path / "c.safetensors", found)
    again = weights.read(str(tmp_path / "c.safetensors"))
    assert again.class_names == tuple(COLOURS)
    assert again.scaling == found.scaling == {
        "resize": 36, "crop_size": 32, "interpolation": "bilinear",
    }  # fmt: skip


def test_evaluating_again_gives_the_same_scores(finished, settings):
    workdir, result = finished
    network = weights.load_classifier(str(workdir))
    assert evaluate(network, settings).result["top1"] == result["top1"]


def test_runs_are_compared(finished, command_line, tmp_path):
    workdir, _ = finished
    output = tmp_path / "out"
    status, told = command_line("compare", str(workdir), str(workdir))
    assert status == 2
    shutil.copytree(workdir, tmp_path / "again")
    status, told = command_line(
        "compare", str(workdir), str(tmp_path / "again"), "--output", str(output)
    )
    assert status == 0, told
    assert "top-1" in told
    assert "includes zero" in told


def test_random_parts_have_the_area_and_aspect_asked_for():
    image = np.zeros((60, 90, 3), np.uint8)
    # Red and green tell the place of each pixel.
    image[..., 0] = np.arange(60)[:, None] * 4
    image[..., 1] = np.arange(90)[None] * 2
    rng = np.random.default_rng(0)
    shapes = []
    for _ in range(200):
        part = random_part(image, rng, _Part())
        assert part.shape == (50, 50, 3)
        rows = (int(part[-1, 0, 0]) - int(part[0, 0, 0])) / 4 * 50 / 49
        columns = (int(part[0, -1, 1]) - int(part[0, 0, 1])) / 2 * 50 / 49
        shapes.append((rows, columns))
    rows, columns = np.array(shapes).T
    area, aspect = rows * columns / (60 * 90), columns / rows
    assert 0.17 < area.min() < 0.25 < 0.5 < area.max() < 0.63
    assert 0.72 < aspect.min() < 0.85
    assert 1.18 < aspect.max() < 1.4


@dataclasses.dataclass
class _Part:
    """What `random_part` reads of the config."""

    crop_size: int = 50
    area_range: tuple = (0.2, 0.6)
    aspect_range: tuple = (0.8, 1.25)
    interpolation: str = "bilinear"


def test_padded_crops_show_every_offset_and_the_mean_colour_around():
    image = np.full((8, 8, 3), 200, np.uint8)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        crop = padded_crop(image, rng, 8, 2, MEAN)
        inside = (crop == 200).all(axis=-1)
        assert (crop[~inside] == MEAN).all()
        rows, columns = np.nonzero(inside)
        seen.add((rows.min(), rows.max(), columns.min(), columns.max()))
    assert len(seen) == 25


def test_the_centre_is_torchvisions():
    """The shorter side exactly, the longer rounded down, the offset rounded to the nearest."""
    image = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    config = ClassificationEvaluationConfig(resize=50, crop_size=32)
    expected = Image.fromarray(image).resize((67, 50), Image.Resampling.BILINEAR)
    left, top = round((67 - 32) / 2), round((50 - 32) / 2)
    np.testing.assert_array_equal(
        centre(image, config, MEAN), np.asarray(expected)[top : top + 32, left : left + 32]
    )
    small = centre(image[:20, :20], dataclasses.replace(config, resize=0), MEAN)
    assert (small[0, 0] == MEAN).all()
    np.testing.assert_array_equal(small[6:26, 6:26], image[:20, :20])


@pytest.mark.parametrize("operations", [WIDE, USUAL])
def test_operations_keep_the_form_and_do_something(operations):
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (48, 40), interpolation=cv2.INTER_CUBIC)
    unchanged = 0
    for operation in operations:
        results = [
            np.asarray(operation(Image.fromarray(image), strength, sign, MEAN))
            for strength in (0.0, 1.0)
            for sign in (1, -1)
        ]
        assert all(found.shape == image.shape and found.dtype == np.uint8 for found in results)
        unchanged += all(np.array_equal(found, image) for found in results)
    # The identity, and autocontrast of a picture with all levels.
    assert unchanged <= 2


@pytest.mark.parametrize("policy", [TrivialAugmentWide(), RandAugment(), None])
def test_augmentation_depends_on_the_generator_alone(settings, policy):
    data = dataclasses.replace(settings.data, policy=policy, erase=0.5, photometric=True)
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    first, again, other = (
        augment(image, np.random.default_rng(seed), data, MEAN) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (32, 32, 3)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.0, 0.0), (0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixing_weighs_labels_by_what_the_image_shows(mixup, cutmix):
    values = jnp.arange(4, dtype=jnp.float32)
    image = jnp.broadcast_to(values[:, None, None, None], (4, 12, 10, 3))
    target = jax.nn.one_hot(jnp.arange(4), 4)
    shares = []
    for seed in range(20):
        mixed, weights_ = mix(
            image, target, jax.random.key(seed), mixup=mixup, cutmix=cutmix, repeats=1
        )
        np.testing.assert_allclose(weights_.sum(axis=1), 1, rtol=1e-6)
        # Every image is one grey level, so its mean tells how much of it is left.
        np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), weights_ @ values, atol=1e-4)
        shares.append(float(weights_[0, 0]))
        if cutmix and not mixup:
            assert {*np.unique(mixed).tolist()} <= {0.0, 1.0, 2.0, 3.0}
    assert (np.std(shares) > 0.05) == bool(mixup or cutmix)


def test_repeats_of_a_photograph_are_not_mixed_with_each_other():
    photograph = jnp.arange(12) // 3  # three in a row of each of four
    image = jnp.broadcast_to(photograph[:, None, None, None].astype(jnp.float32), (12, 8, 8, 3))
    target = jax.nn.one_hot(photograph, 4)
    _, mixed = mix(image, target, jax.random.key(0), mixup=0.4, cutmix=0.0, repeats=3)
    np.testing.assert_array_equal((mixed > 0).sum(axis=1), 2)


def test_the_loss_is_cross_entropy_and_parts_add_up():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)
    label = np.array([0, 2, 1, 1, 0, 2])
    target = jax.nn.one_hot(label, 3)
    total, weight = loss_sums(CrossEntropy(), logits, target, jnp.zeros(()))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probability[np.arange(6), label])
    assert weight == 6
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-5)
    parts = [
        loss_sums(CrossEntropy(), logits[i : i + 2], target[i : i + 2], jnp.zeros(()))
        for i in (0, 2, 4)
    ]
    np.testing.assert_allclose(sum(part for part, _ in parts), total, rtol=1e-5)
    weighted = CrossEntropy(class_weights=(2.0, 1.0, 0.0), label_smoothing=0.2)
    total, weight = loss_sums(weighted, logits, target, jnp.zeros(()))
    smooth = 0.8 * np.eye(3)[label] + 0.2 / 3
    np.testing.assert_allclose(
        total, -(np.array([2, 1, 0]) * smooth * np.log(probability)).sum(), rtol=1e-5
    )
    assert weight == 2 * 2 + 2 * 1


def test_scores_are_those_counted_by_hand():
    labels = np.array([0, 0, 1, 1, 1, 2])
    predictions = np.array([[0, 1], [1, 0], [1, 0], [2, 0], [1, 2], [2, 1]])
    found = scores(labels, predictions, np.full((6, 2), 0.5), ["a", "b", "c", "d"], samples=100)
    assert found["top1"] == pytest.approx(4 / 6)
    assert found["top5"] == pytest.approx(5 / 6)
    assert found["accuracy"] == {"a": 0.5, "b": pytest.approx(2 / 3), "c": 1.0, "d": None}
    assert found["mean_class_accuracy"] == pytest.approx((0.5 + 2 / 3 + 1) / 3)
    assert found["images_per_class"] == {"a": 2, "b": 3, "c": 1, "d": 0}
    assert found["mistaken"][0]["images"] == 1
    # A single image says nothing about others.
    assert found["accuracy_ci95"]["c"] is None
    assert sum(found["calibration"]["images"]) == 6


def test_a_recipe_against_itself_has_an_interval_that_holds_zero():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 40)
    hard = rng.random(200)
    runs = [(rng.random(200) > 0.5 * hard) for _ in range(6)]
    low, high = difference_intervals(labels, runs[:3], runs[3:], 5, samples=200)[0]
    assert low < 0 < high
    better = [run | (rng.random(200) < 0.5) for run in runs[3:]]
    low, _ = difference_intervals(labels, runs[:3], better, 5, samples=200)[0]
    assert low > 0


def test_settings_of_another_task_are_refused(settings, config):
    with pytest.raises(UserError, match=r"config.data=.*ClassificationDataConfig"):
        dataclasses.replace(settings, data=config.data).check()
    with pytest.raises(UserError, match=r"config.evaluation=.*ClassificationEvaluationConfig"):
        dataclasses.replace(settings, evaluation=config.evaluation).check()
    with pytest.raises(UserError, match="loss"):
        loss_sums(Dice(), jnp.zeros((1, 3)), jnp.zeros((1, 3)), jnp.zeros(()))
    with pytest.raises(UserError, match=r"model.num_classes=5 but the data set names 3"):
        dataclasses.replace(
            settings, model=dataclasses.replace(settings.model, num_classes=5)
        ).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 7}, "but there are 3 classes"),
        ({"label": "cat"}, "has the label 'cat'"),
        ({"image": np.zeros((4, 4), np.uint8)}, r"has the image uint8\(4, 4\)"),
        ({"image": None}, "has the image NoneType"),
    ],
)
def test_an_example_of_another_form_is_refused(changes, message):
    example = {"image": np.zeros((4, 4, 3), np.uint8), "label": 1, "name": "x", **changes}
    with pytest.raises(UserError, match=message):
        check_example(example, 3)
