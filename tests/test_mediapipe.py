"""MediaPipe's tasks open our LiteRT files: labels, masks, classes and boxes as the network's."""

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import DetectionEvaluationConfig
from deeplab_mnv2.exporting.post_training import quantize
from deeplab_mnv2.exporting.target import Target
from deeplab_mnv2.tasks.detection.decoding import find
from tests.support.networks import apply
from tests.support.random_weights import random_weights

pytestmark = pytest.mark.slow
litert = pytest.importorskip("deeplab_mnv2.exporting.litert")
mediapipe = pytest.importorskip("mediapipe")
vision = pytest.importorskip("mediapipe.tasks.python.vision")
base = pytest.importorskip("mediapipe.tasks.python")

NAMES = ("ash", "birch", "cedar", "Ölbaum")
SIDE = 97


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    # Of the file's own size: MediaPipe scales others, whatever their aspect.
    return np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)


def _options(content: bytes):
    return base.BaseOptions(model_asset_buffer=content)


def _open(photograph: np.ndarray, tmp_path):
    Image.fromarray(photograph[0]).save(tmp_path / "photograph.png")
    return mediapipe.Image.create_from_file(str(tmp_path / "photograph.png"))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_the_segmenter_gives_the_mask_of_the_network(precision, photograph, tmp_path):
    source = random_weights(num_classes=len(NAMES), width_multiplier=0.35, head_channels=32)
    model = weights.build_deeplab(source)
    if precision == "int8":
        model = quantize(model, [model.normalize(photograph)])
    target = Target(class_names=NAMES, size=(SIDE, SIDE), precision=precision)
    content = litert.build(model, target)
    options = vision.ImageSegmenterOptions(
        base_options=_options(content), output_category_mask=True, output_confidence_masks=False
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        assert tuple(segmenter.labels) == NAMES
        # A copy: the memory is the segmenter's.
        mask = segmenter.segment(_open(photograph, tmp_path)).category_mask.numpy_view().copy()
    expected = apply(model, model.normalize(photograph))[0].argmax(-1)
    assert np.mean(mask.reshape(expected.shape) == expected) > 0.97


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_classifier_gives_the_class_of_the_network(precision, photograph, tmp_path):
    source = random_weights("classification", num_classes=len(NAMES), width_multiplier=0.35)
    model = weights.build_classifier(source)
    if precision == "int8":
        model = quantize(model, [model.normalize(photograph)])
    target = Target(class_names=NAMES, size=(SIDE, SIDE), precision=precision)
    options = vision.ImageClassifierOptions(base_options=_options(litert.build(model, target)))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        (found,) = classifier.classify(_open(photograph, tmp_path)).classifications
    expected = apply(model, model.normalize(photograph))[0]
    if precision == "float32":
        assert found.categories[0].category_name == NAMES[int(np.argmax(expected))]
    # They are logits: the file's scores are the network's.
    scores = {category.category_name: category.score for category in found.categories}
    ours = dict(zip(NAMES, np.asarray(expected), strict=True))
    within = 0.15 * np.ptp(expected) if precision == "int8" else 1e-3
    assert all(abs(ours[name] - score) < within for name, score in scores.items())


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_detector_gives_the_boxes_of_the_network(precision, photograph, tmp_path):
    source = random_weights(
        "detection", num_classes=len(NAMES), width_multiplier=0.35, image_size=SIDE
    )
    model = weights.build_detector(source)
    rules = DetectionEvaluationConfig(score_threshold=0.3, max_detections=10)
    target = Target(class_names=NAMES, size=(SIDE, SIDE), precision=precision, box_rules=rules)
    if precision == "int8":
        model = quantize(model, [model.normalize(photograph)])
    options = vision.ObjectDetectorOptions(base_options=_options(litert.build(model, target)))
    with vision.ObjectDetector.create_from_options(options) as detector:
        found = detector.detect(_open(photograph, tmp_path)).detections
    boxes, scores, labels, count = (np.asarray(part)[0] for part in find(model, photograph, rules))
    assert len(found) == int(count)
    best, box = found[0], boxes[0] * SIDE
    assert best.categories[0].category_name == NAMES[int(labels[0])]
    assert best.categories[0].score == pytest.approx(float(scores[0]), abs=0.05)
    corner = best.bounding_box.origin_y, best.bounding_box.origin_x
    np.testing.assert_allclose(corner, box[:2], atol=3)
