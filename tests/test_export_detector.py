"""Exported detectors find the boxes that the network finds, in the runtimes they are for."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from deeplab_mnv2 import weights
from deeplab_mnv2.config import DetectionEvaluationConfig
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.export import export
from deeplab_mnv2.exporting.agreement import LEAST_AGREEMENT, _compare_boxes
from deeplab_mnv2.exporting.graph import CODES, LOGITS, evaluate
from deeplab_mnv2.exporting.post_training import quantize
from deeplab_mnv2.exporting.target import Target, found_boxes, outputs_of
from deeplab_mnv2.exporting.tracing import trace
from deeplab_mnv2.tasks.detection.transforms import resize
from tests.support.random_weights import random_weights

NAMES = ("a", "b", "é")
SIDE = 96
NETWORKS = {
    "same": {},
    "symmetric": {"padding": "symmetric"},
    "plain SSD": {"separable": False},
    "MobileNetV1": {"version": 1},
}
KINDS = ("onnx", "litert", "stablehlo")
# Nearly every box is kept, so that what counts is decided among many.
RULES = DetectionEvaluationConfig(nms_iou=0.45, max_detections=50)


def _source(**settings) -> weights.Weights:
    source = random_weights(
        "detection",
        width_multiplier=0.35,
        num_classes=len(NAMES),
        image_size=SIDE,
        **settings,
    )
    for name, array in source.tensors.items():
        # Codes and logits of a trained network's size: boxes near their anchors, some of them
        # partly outside the image.
        if "heads" in name and "predict" in name:
            array *= 0.5
    return dataclasses.replace(source, class_names=NAMES)


def _module(kind: str):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    return pytest.importorskip(f"deeplab_mnv2.exporting.{kind}")


def _image(seed: int = 0) -> np.ndarray:
    return resize(Shapes(split="val", length=8).open()[seed]["image"], SIDE)[None]


def _expected(source: weights.Weights, image: np.ndarray, target: Target):
    return [np.asarray(x) for x in outputs_of(weights.build_detector(source), image, target)]


@pytest.fixture(scope="module")
def source() -> weights.Weights:
    return _source()


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(class_names=NAMES, size=(SIDE, SIDE), box_rules=RULES)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_computes_what_the_network_does(name):
    source = _source(**NETWORKS[name])
    model = weights.build_detector(source)
    graph = trace(model, (SIDE, SIDE), upsample=True)
    found = jax.jit(lambda x: evaluate(graph, x))(model.normalize(_image()))
    raw = Target(class_names=NAMES, size=(SIDE, SIDE))
    for output, expected in zip((CODES, LOGITS), _expected(source, _image(), raw), strict=True):
        assert graph.shapes[output] == expected.shape[1:]
        np.testing.assert_allclose(found[output], expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_runtimes_find_the_same_boxes(kind, name, target, tmp_path):
    """Also those that reach beyond the image, of all classes, in the same order."""
    module = _module(kind)
    source = _source(**NETWORKS[name])
    found = export(source, kind, tmp_path / "file", target)
    assert found.share == 1
    assert found.number > 100
    assert found.logits < 1e-4
    run = module.load((tmp_path / "file").read_bytes(), weights.build_detector(source))
    boxes, scores, labels = run(_image())
    expected = found_boxes(tuple(_expected(source, _image(), target)))
    assert labels.dtype == np.int32
    assert len(set(labels)) > 1
    np.testing.assert_allclose(scores, expected[1], atol=1e-4)
    np.testing.assert_allclose(boxes, expected[0], atol=1e-4)
    np.testing.assert_array_equal(labels, expected[2])
    # The case that the operators do not treat alike by themselves.
    assert ((boxes == 0) | (boxes == 1)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_without_objects_has_no_boxes(kind, source, target):
    module = _module(kind)
    sure = dataclasses.replace(target, box_rules=DetectionEvaluationConfig(score_threshold=0.9999))
    model = weights.build_detector(source)
    boxes, scores, labels = module.load(module.build(model, sure), model)(_image())
    assert (boxes.shape, scores.shape, labels.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("kind", [*KINDS, "safetensors"])
def test_codes_and_logits(kind, source, target, tmp_path):
    """For those who find the boxes in their own program."""
    if kind != "safetensors":
        _module(kind)
    raw = dataclasses.replace(target, box_rules=None)
    found = export(source, kind, tmp_path / "file", raw)
    assert found.share == 1
    assert found.logits < 1e-3


def test_onnx_gives_its_outputs_by_name_and_tells_what_they_are(source, target, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    _module("onnx")
    export(source, "onnx", tmp_path / "file", target)
    session = onnxruntime.InferenceSession(tmp_path / "file")
    assert [output.name for output in session.get_outputs()] == ["boxes", "scores", "labels"]
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == list(NAMES)
    assert "aspect" in json.loads(told["scaling"])
    assert "ymin" in json.loads(told["boxes"])


def test_litert_has_the_outputs_that_its_clients_know(source, target, tmp_path):
    litert = _module("litert")
    export(source, "litert", tmp_path / "file", target)
    content = (tmp_path / "file").read_bytes()
    interpreter = litert.file.Interpreter(model_content=content)
    shapes = [tuple(output["shape"]) for output in interpreter.get_output_details()]
    count = RULES.max_detections
    assert shapes == [(1, count, 4), (1, count), (1, count), (1,)]
    for text in (b"TFLite_Detection_PostProcess", b"number of detections", b"SSDLite"):
        assert text in content


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_litert_loses_no_class_whatever_the_number_of_threads(threads, source, target):
    """Its operator does not look at the class whose number is that of its threads."""
    litert = _module("litert")
    model = weights.build_detector(source)
    interpreter = litert.file.Interpreter(
        model_content=litert.build(model, target), num_threads=threads
    )
    interpreter.allocate_tensors()
    image = np.asarray(model.normalize(_image()))
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    boxes, classes, scores, count = (
        interpreter.get_tensor(output["index"])[0] for output in interpreter.get_output_details()
    )
    expected = found_boxes(tuple(_expected(source, _image(), target)))
    np.testing.assert_array_equal(classes[: int(count)], expected[2])
    np.testing.assert_allclose(scores[: int(count)], expected[1], atol=1e-4)
    np.testing.assert_allclose(boxes[: int(count)], expected[0], atol=1e-4)


def test_stablehlo_takes_any_batch(source, target):
    stablehlo = _module("stablehlo")
    content = stablehlo.build(weights.build_detector(source), target)
    images = np.concatenate([_image(0), _image(1), _image(2)])
    found = jax.export.deserialize(bytearray(content)).call(images)
    for one, other in zip(found, _expected(source, images, target), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_int8_keeps_the_boxes_arithmetic_in_floats(monkeypatch, source, target, tmp_path):
    """The network is in integers, and is as near as a random one can be."""
    litert = _module("litert")
    pytest.importorskip("litert_quantizer")
    monkeypatch.setitem(LEAST_AGREEMENT, "int8", 0.0)
    drawn = [_image(seed) for seed in range(8)]
    integer = dataclasses.replace(target, precision="int8")
    model = weights.build_detector(source)
    content = litert.build(quantize(model, [model.normalize(image) for image in drawn]), integer)
    floats = 4 * sum(array.size for array in source.tensors.values())
    assert len(content) < floats / 2
    boxes, scores, labels = litert.load(content, model)(_image())
    assert len(boxes) == RULES.max_detections
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (np.diff(scores) <= 0).all()
    # Not one of 256 steps: scores are computed from logits as floats.
    assert set(labels) <= set(range(len(NAMES)))


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_half_precision_halves_the_file(kind, source, target, tmp_path):
    _module(kind)
    raw = dataclasses.replace(target, box_rules=None)
    half = dataclasses.replace(raw, precision="float16")
    export(source, kind, tmp_path / "full", raw)
    assert export(source, kind, tmp_path / "half", half).logits < 0.1
    sizes = [(tmp_path / name).stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.65 * sizes[1]


def test_agreement_counts_what_either_side_finds_alone():
    target = Target(class_names=NAMES, size=(300, 300))
    boxes = np.array([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.9, 0.9]], np.float32)
    scores, labels = np.array([0.9, 0.5], np.float32), np.array([0, 1], np.int32)
    expected = boxes, scores, labels
    assert _compare_boxes(expected, expected, target).same.tolist() == [True, True]
    # In another order, with another score.
    found = boxes[::-1], scores[::-1] - np.float32(0.01), labels[::-1]
    compared = _compare_boxes(found, expected, target)
    assert compared.same.all()
    assert compared.difference == pytest.approx(0.01, abs=1e-6)
    # Another class; a side three pixels away; a box missing; one too many.
    for found, same in (
        ((boxes, scores, labels + 1), [False, False, False, False]),
        ((boxes + 0.01, scores, labels), [False, False, False, False]),
        ((boxes[:1], scores[:1], labels[:1]), [True, False]),
        ((boxes[:0], scores[:0], labels[:0]), [False, False]),
    ):
        assert _compare_boxes(found, expected, target).same.tolist() == same
    # Integers move a box by pixels; it is the same as long as it overlaps by a half.
    integer = dataclasses.replace(target, precision="int8")
    for shift, same in ((0.05, [True, True]), (0.3, [False, False, False, False])):
        moved = boxes + np.float32(shift), scores, labels
        assert _compare_boxes(moved, expected, integer).same.tolist() == same
    one = boxes[:1], scores[:1], labels[:1]
    assert _compare_boxes(expected, one, target).same.tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (64, 64)}, "--size 64,64 is not the size of the detector's images; give 96"),
        ({"argmax": True}, "--argmax"),
        ({"resize": False}, "--noresize"),
        ({"box_rules": dataclasses.replace(RULES, score_threshold=0.9999)}, "lower --score"),
    ],
)
def test_what_does_not_fit_is_said(change, message, source, target, tmp_path):
    with pytest.raises(UserError, match=message):
        export(source, "stablehlo", tmp_path / "file", dataclasses.replace(target, **change))
    assert not list(tmp_path.iterdir())


def test_from_the_command_line(source, tmp_path):
    _module("onnx")
    weights.save(tmp_path / "tiny.safetensors", source)

    def run(*flags: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "deeplab_mnv2.export", "--weights=tiny.safetensors"]
        return subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True)

    done = run("--output=file.onnx", "--format=onnx", "--score=0.4")
    assert done.returncode == 0, done.stderr
    assert "same box as the network on" in done.stdout
    assert "boxes, scores within" in done.stdout
    assert "96 x 96" in done.stdout
    done = run("--output=raw.onnx", "--format=onnx", "--noboxes")
    assert "anchors, logits within" in done.stdout
    done = run("--output=file.safetensors")
    assert done.returncode == 0, done.stderr
    done = run("--output=other.onnx", "--format=onnx", "--score=2")
    assert done.returncode == 2
    assert "evaluation.score_threshold" in done.stderr
    assert "Traceback" not in done.stderr
