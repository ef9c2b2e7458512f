"""Exported classifiers compute what the network computes, in the runtimes they are for."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2 import export as export_module
from deeplab_mnv2 import weights
from deeplab_mnv2.config import ClassificationEvaluationConfig
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.export import export
from deeplab_mnv2.exporting.agreement import LEAST_AGREEMENT, Agreement
from deeplab_mnv2.exporting.graph import LOGITS, evaluate
from deeplab_mnv2.exporting.target import Target
from deeplab_mnv2.exporting.tracing import trace
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.tasks.classification.classifier import scaling_of
from deeplab_mnv2.tasks.classification.transforms import centre
from tests.support.networks import apply
from tests.support.random_weights import random_weights

NAMES = ("a", "b", "c", "d", "é")
NETWORKS = {
    "same": {},
    "symmetric": {"padding": "symmetric"},
    "small": {"early_strides": (1, 2)},
    "small, symmetric": {"early_strides": (1, 2), "padding": "symmetric"},
}
# At 32 pixels the two rules of padding differ.
SIDE = 32
KINDS = ("safetensors", "onnx", "litert", "stablehlo")
PTQ = "tf2_mobilenet_v2_1.0_224_ptq.tflite"


def _source(**settings) -> weights.Weights:
    source = random_weights(
        "classification", width_multiplier=0.35, num_classes=len(NAMES), **settings
    )
    scaling = {"resize": 40, "crop_size": SIDE, "interpolation": "bicubic"}
    return dataclasses.replace(source, class_names=NAMES, scaling=scaling)


def _classifier(source: weights.Weights) -> Classifier:
    return weights.build_classifier(source)


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def _module(kind: str):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    return pytest.importorskip(f"deeplab_mnv2.exporting.{kind}")


@pytest.fixture(scope="module")
def source() -> weights.Weights:
    return _source()


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(class_names=NAMES, size=(SIDE, SIDE))


@pytest.fixture
def photographs(tmp_path) -> Path:
    """A folder with drawn scenes as files."""
    scenes = Shapes(split="train", length=24, size=49).open()
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(24):
        Image.fromarray(scenes[index]["image"]).save(folder / f"{index:02}.png")
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_computes_what_the_network_does(name):
    model = _classifier(_source(**NETWORKS[name]))
    image = model.normalize(_images(2))
    graph = trace(model, (SIDE, SIDE), upsample=True)
    found = jax.jit(lambda x: evaluate(graph, x)[LOGITS])(image)
    expected = apply(model, image)
    assert graph.shapes[LOGITS] == expected.shape[1:] == (len(NAMES),)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_runtimes_agree_with_the_network(kind, name, target, tmp_path):
    """`export` refuses to write a file that does not."""
    if kind != "safetensors":
        _module(kind)
    found = export(_source(**NETWORKS[name]), kind, tmp_path / "file", target)
    assert found.share == 1
    assert found.number == 32
    assert found.logits < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["safetensors", "onnx", "litert"])
def test_half_precision_halves_the_file(kind, source, target, tmp_path):
    if kind != "safetensors":
        _module(kind)
    half = dataclasses.replace(target, precision="float16")
    export(source, kind, tmp_path / "full", target)
    assert export(source, kind, tmp_path / "half", half).logits < 0.1
    sizes = [(tmp_path / name).stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.65 * sizes[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_agrees(name, monkeypatch, target, photographs, tmp_path):
    litert = _module("litert")
    pytest.importorskip("litert_quantizer")
    # A random network hardly tells these scenes apart: its classes are nearly tied.
    monkeypatch.setitem(LEAST_AGREEMENT, "int8", 0.6)
    integer = dataclasses.replace(target, precision="int8")
    source = _source(**NETWORKS[name])
    found = export(source, "litert", tmp_path / "file", integer, photographs)
    assert found.number == 24
    model = _classifier(source)
    run = litert.load((tmp_path / "file").read_bytes(), model)
    image = read_image(photographs / "00.png")
    image = centre(image, scaling_of(source), source.config.mean_pixel)[None]
    expected = apply(model, model.normalize(image))
    np.testing.assert_allclose(run(image)[0], expected, atol=0.25 * np.abs(expected).max())
    floats = 4 * sum(array.size for array in source.tensors.values())
    assert (tmp_path / "file").stat().st_size < floats / 2


def test_biases_of_dead_channels_survive_int8(target, photographs, tmp_path):
    """A channel of zeros has no scale; its bias is what the network computes all the same."""
    litert = pytest.importorskip("deeplab_mnv2.exporting.litert")
    pytest.importorskip("litert_quantizer")
    source = _source()
    source.tensors["head.conv.kernel"][:] = 0
    integer = dataclasses.replace(target, precision="int8")
    found = export(source, "litert", tmp_path / "file", integer, photographs)
    assert found.share == 1
    model = _classifier(source)
    run = litert.load((tmp_path / "file").read_bytes(), model)
    expected = apply(model, model.normalize(_images(1)))
    np.testing.assert_allclose(run(_images(1))[0], expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["onnx", "litert", "stablehlo"])
def test_class_ids(kind, source, target, tmp_path):
    """Of as many classes as there may be, which 8 bits do not hold."""
    module = _module(kind)
    export(source, kind, tmp_path / "file", dataclasses.replace(target, argmax=True))
    model = _classifier(source)
    run = module.load((tmp_path / "file").read_bytes(), model)
    for image in _images(4):
        (found,) = run(image[None])
        assert (found.shape, found.dtype) == ((1,), np.int32)
        assert found == np.argmax(apply(model, model.normalize(image[None])))


def test_onnx_takes_batches_and_tells_how_images_are_made(source, target, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    _module("onnx")
    export(source, "onnx", tmp_path / "file", target)
    session = onnxruntime.InferenceSession(tmp_path / "file")
    model = _classifier(source)
    pixels = model.normalize(_images(3))
    (found,) = session.run(["logits"], {"image": np.asarray(pixels).transpose(0, 3, 1, 2)})
    expected = apply(model, pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    told = session.get_modelmeta().custom_metadata_map
    assert {name: json.loads(value) for name, value in told.items()} == {
        "class_names": list(NAMES),
        "image_mean": [127.5] * 3,
        "image_std": [127.5] * 3,
        "colour_order": "RGB",
        "normalization": "(grey level 0-255 - image_mean) / image_std",
        "resize": 40,
        "crop_size": SIDE,
        "interpolation": "bicubic",
    }


def test_litert_tells_how_images_are_made(source, target, tmp_path):
    litert = _module("litert")
    export(source, "litert", tmp_path / "file", target)
    content = (tmp_path / "file").read_bytes()
    file = litert.file.schema.Model.GetRootAs(content, 0)
    entries = {file.Metadata(i).Name(): file.Metadata(i) for i in range(file.MetadataLength())}
    told, scaling = (
        file.Buffers(entries[name].Buffer()).DataAsNumpy().tobytes()
        for name in (b"TFLITE_METADATA", b"scaling")
    )
    assert json.loads(scaling) == source.scaling
    for text in (b"M001", b"Classification", b"labels.txt", np.full(3, 127.5, "f").tobytes()):
        assert text in told
    assert b"egmentation" not in told


# Of the paper's strides, which is what the importer reads.
@pytest.mark.parametrize("name", ["same", "symmetric"])
def test_litert_files_are_read_back_as_the_same_network(name, target, tmp_path):
    _module("litert")
    source = _source(**NETWORKS[name])
    export(source, "litert", tmp_path / "file.tflite", target)
    found = weights.read(str(tmp_path / "file.tflite"))
    assert found.class_names == NAMES
    model, restored = _classifier(source), _classifier(found)
    assert restored.config.padding == model.config.padding
    image = model.normalize(_images(2))
    expected = apply(model, image)
    np.testing.assert_allclose(apply(restored, image), expected, atol=1e-4 * np.abs(expected).max())


def test_stablehlo_runs_at_any_batch(source, target):
    stablehlo = _module("stablehlo")
    model = _classifier(source)
    content = stablehlo.build(model, target)
    for count in (1, 3):
        images = _images(count)
        expected = apply(model, model.normalize(images))
        (found,) = stablehlo.load(content, model)(images)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    program = jax.export.deserialize(bytearray(content))
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}


def test_safetensors_keeps_names_and_scaling(source, target, tmp_path):
    export(source, "safetensors", tmp_path / "file.safetensors", target)
    restored = weights.read(str(tmp_path / "file.safetensors"))
    assert (restored.kind, restored.class_names) == ("classification", NAMES)
    assert restored.scaling == source.scaling
    for name, array in source.tensors.items():
        np.testing.assert_array_equal(restored.tensors[name], array)


def test_the_check_is_on_photographs_as_the_classifier_sees_them(
    monkeypatch, source, target, photographs, tmp_path
):
    seen = {}

    def compare(model, run, images, target):
        seen.update(images=images, target=target)
        return Agreement(1.0, len(images), 0.0, 0.0)

    monkeypatch.setattr(export_module, "compare", compare)
    # Twice the size that it is scored at: the same part of the image.
    target = dataclasses.replace(target, size=(64, 64))
    export(source, "safetensors", tmp_path / "file.safetensors", target, photographs)
    scaling = ClassificationEvaluationConfig(resize=80, crop_size=64, interpolation="bicubic")
    paths = sorted(photographs.iterdir())
    assert len(seen["images"]) == len(paths)
    for path, image in zip(paths, seen["images"], strict=True):
        expected = centre(read_image(path), scaling, source.config.mean_pixel)
        np.testing.assert_array_equal(image[0], expected)
    told = {"resize": 80, "crop_size": 64, "interpolation": "bicubic"}
    assert seen["target"].scaling == told


@pytest.mark.parametrize(
    ("precision", "number", "least"),
    [("float32", 32, 31), ("float16", 8, 7), ("int8", 33, 29), ("float32", 10**6, 999_000)],
)
def test_the_least_agreement_of_few_images_is_a_whole_number(precision, number, least):
    assert Agreement(least / number, number, None, 0.0).suffices(precision)
    assert not Agreement((least - 1) / number, number, None, 0.0).suffices(precision)


def test_nothing_is_written_that_fails_its_check(monkeypatch, source, target, tmp_path):
    found = Agreement(0.5, 8, None, 0.0)
    monkeypatch.setattr(export_module, "compare", lambda *_: found)
    with pytest.raises(UserError, match=r"is not written.*only 4 of 8 images; choose another"):
        export(source, "safetensors", tmp_path / "file.safetensors", target)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"resize": False}, "--noresize is for segmentation: .* have no size; leave it out"),
        ({"size": (32, 64)}, "--size 32,64 is not square, as a classifier's images are; give one"),
        ({"precision": "int8"}, "int8 needs --calibration FOLDER"),
        ({"argmax": True}, "A weights file holds no output; leave --argmax and --noresize out"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes, sentence, source, target, tmp_path):
    with pytest.raises(UserError, match=sentence):
        export(source, "safetensors", tmp_path / "file", dataclasses.replace(target, **changes))


@pytest.mark.parametrize("kind", ["onnx", "stablehlo"])
def test_images_of_any_size_are_for_segmentation(kind, source, target, tmp_path):
    _module(kind)
    with pytest.raises(UserError, match="--size any is for segmentation; give the height"):
        export(source, kind, tmp_path / "file", dataclasses.replace(target, any_size=True))


def test_the_command(tmp_path):
    _module("onnx")
    weights.save(tmp_path / "tiny.safetensors", _source())
    command = [sys.executable, "-m", "deeplab_mnv2.export", "--weights=tiny.safetensors"]

    def run(*flags: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *flags], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = run("--output=file.onnx", "--format=onnx")
    assert done.returncode == 0, done.stderr
    assert "same class as the network on 32 of 32 images, logits within" in done.stdout
    assert "ms at 32 x 32 on" in done.stdout
    done = run("--output=file.onnx", "--format=onnx", "--noresize")
    assert done.returncode == 2
    assert done.stderr == (
        "error: --noresize is for segmentation: a classifier's logits have no size; leave it out.\n"
    )


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_published_weights_agree_on_photographs(kind, shared, tmp_path):
    _module(kind)
    path, folder = shared / "weights" / PTQ, shared / "imagenet_sample"
    if not path.is_file() or not folder.is_dir():
        pytest.skip(f"{path} or {folder} does not exist")
    some = tmp_path / "some"
    some.mkdir()
    for photograph in sorted(folder.glob("*.jpg"))[::40]:
        (some / photograph.name).symlink_to(photograph)
    source = weights.read(str(path))
    target = Target(class_names=source.class_names, size=(224, 224))
    found = export(source, kind, tmp_path / "file", target, some)
    assert (found.share, found.number) == (1, len(list(some.iterdir())))
    assert found.logits < 1e-3
