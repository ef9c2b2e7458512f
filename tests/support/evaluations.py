"""Evaluations made up without a network, for what is drawn and compared from them."""

import json

import cv2
import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL, EvaluationConfig, ModelConfig
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.evaluation.calibration import LEVELS
from deeplab_mnv2.evaluation.protocol import stamped
from deeplab_mnv2.tasks.segmentation.counting import Counts
from deeplab_mnv2.tasks.segmentation.evaluation import SegmentationEvaluation
from deeplab_mnv2.tasks.segmentation.evaluator import results
from deeplab_mnv2.tasks.segmentation.object_sizes import object_sizes
from deeplab_mnv2.tasks.segmentation.pictures import Picture, choose
from deeplab_mnv2.tasks.segmentation.protocol import protocol

DATA = Shapes(split="val", length=8, size=65)


def confusion_of(label: np.ndarray, prediction: np.ndarray, classes: int = 21) -> np.ndarray:
    """Return the confusion matrix of two (H, W) arrays of class ids."""
    labelled = label != IGNORE_LABEL
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (label[labelled], prediction[labelled]), 1)
    return confusion


def made_up(
    *, wrong: float = 0.3, pictures: int = 6, output_stride: int = 16, seed: int = 0
) -> SegmentationEvaluation:
    """Return an evaluation of drawn scenes that calls a share of the objects another class."""
    rng = np.random.default_rng(round(1000 * wrong) + 10_000 * seed)
    source, names = DATA.open(), DATA.class_names
    config = EvaluationConfig(pad_sizes=(65,), bootstrap_samples=40)
    examples, sizes, objects = [], [], np.zeros((3, 21), np.int64)
    for index in range(len(source)):
        example = source[index]
        label, prediction = example["label"], example["label"].copy()
        for class_id in range(1, 21):
            if rng.random() < wrong:
                prediction[label == class_id] = rng.integers(21)
        prediction[label == IGNORE_LABEL] = 0
        of_pixel, found = object_sizes(label, 21)
        objects += found
        count = np.zeros((3, 21, 2), np.int64)
        labelled = label != IGNORE_LABEL
        right = (prediction == label).astype(int)
        np.add.at(count, (of_pixel[labelled], label[labelled], right[labelled]), 1)
        sizes.append(count)
        examples.append((example, prediction, confusion_of(label, prediction)))
    confusions = np.stack([confusion for _, _, confusion in examples])
    total = confusions.sum(axis=0)
    confidences = np.zeros((LEVELS + 1, 2), np.int64)
    confidences[LEVELS * 9 // 10] = total.sum() - np.trace(total), np.trace(total)
    extents = np.stack(
        [[label_size, (65, 65)] for label_size in (e["label"].shape for e, _, _ in examples)]
    )
    counts = Counts(
        names=[example["name"] for example, _, _ in examples],
        confusions=confusions,
        bands=np.stack([total // 2 ** (6 - width) for width in range(6)]),
        confidences=confidences,
        sizes=np.stack(sizes),
        objects=objects,
        extents=extents,
        compilations=1,
    )
    stamp = protocol(DATA, config, ModelConfig(output_stride=output_stride), extents)
    result = results(counts, names, config, stamped(stamp, f"{wrong:.3f}"))
    chosen = [
        Picture(
            examples[index][0]["name"],
            examples[index][0]["image"],
            examples[index][0]["label"],
            examples[index][1],
            examples[index][2],
            groups,
        )
        for index, groups in choose(confusions, pictures).items()
    ]
    chosen.sort(key=lambda picture: picture.miou)
    return SegmentationEvaluation(json.loads(json.dumps(result)), counts, chosen)


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """Return an image (H, W, 3) uint8 that is about as hard to compress as a photograph."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = rng.normal(0, 30, size=(cells, cells, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + image + rng.normal(0, 4, size=image.shape), 0, 255).astype(np.uint8)
