"""Exported files compute what the network computes, in the runtimes they are for."""

import dataclasses
import io
import json
import zipfile

import cv2
import jax
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import export as export_module
from deeplab_mnv2 import weights
from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.export import export
from deeplab_mnv2.exporting import stablehlo
from deeplab_mnv2.exporting.agreement import LEAST_AGREEMENT
from deeplab_mnv2.exporting.graph import LOGITS, evaluate
from deeplab_mnv2.exporting.target import Target, outputs_of
from deeplab_mnv2.exporting.tracing import trace
from deeplab_mnv2.models.deeplab import DeepLab
from tests.support.exported_networks import NETWORKS, SIZE, drawn, images_for, source_of
from tests.support.networks import apply

# Height and width apart; 129 is no whole multiple of the logits' 9, 64 pads unevenly.
SIZES = (SIZE, (129, 64))


@pytest.fixture(scope="module")
def source() -> weights.Weights:
    return source_of()


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(class_names=("a", "b", "c", "d", "é"), size=SIZE)


@pytest.mark.parametrize(
    ("name", "size"), [*((name, (65, 97)) for name in NETWORKS), ("symmetric", (64, 50))]
)
def test_the_graph_computes_what_the_network_does(name, size):
    model = weights.build(source_of(**NETWORKS[name]))
    image = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
    graph = trace(model, size, upsample=True)
    found = jax.jit(lambda x: evaluate(graph, x)[LOGITS])(image)
    expected = apply(model, image)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    head = trace(model, size, upsample=False)
    assert head.shapes[LOGITS] == apply(model, image, "head_logits").shape[1:]
    assert not any("norm" in operation.output for operation in graph.operations)


@pytest.mark.parametrize("kind", ["onnx", "litert"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", SIZES)
def test_runtimes_agree_with_the_network(kind, name, size, target, tmp_path):
    """`export` refuses to write a file that does not."""
    pytest.importorskip("onnxruntime" if kind == "onnx" else "ai_edge_litert")
    target = dataclasses.replace(target, size=size)
    found = export(source_of(**NETWORKS[name]), kind, tmp_path / "file", target)
    assert found.share > 0.999
    assert found.logits < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", SIZES)
def test_opencv_reads_the_onnx_file(name, size, target):
    onnx = pytest.importorskip("deeplab_mnv2.exporting.onnx")
    model = weights.build(source_of(**NETWORKS[name]))
    content = onnx.build(model, dataclasses.replace(target, size=size))
    network = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    image = model.normalize(drawn(1, size, model)[0])
    network.setInput(np.ascontiguousarray(np.asarray(image).transpose(0, 3, 1, 2)))
    found = network.forward().transpose(0, 2, 3, 1)
    expected = np.asarray(apply(model, image))
    assert found.shape == (1, *size, 5)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["mobile", "symmetric", "decoder"])
def test_one_onnx_file_takes_images_of_any_size(name, target):
    onnx = pytest.importorskip("deeplab_mnv2.exporting.onnx")
    source = source_of(**NETWORKS[name])
    model = weights.build(source)
    for changes in ({}, {"resize": False}, {"argmax": True}):
        run = onnx.load(
            onnx.build(model, dataclasses.replace(target, any_size=True, **changes)), model
        )
        for size in (SIZE, (33, 97), (129, 65)):
            image = drawn(1, size, model)[0]
            asked = dataclasses.replace(target, size=size, **changes)
            (found,), (expected,) = run(image), outputs_of(model, image, asked)
            assert found.shape == expected.shape
            if "argmax" in changes:
                assert np.mean(found == expected) > 0.999
            else:
                scale = np.abs(expected).max()
                np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


def test_onnx_scales_make_the_size_that_is_asked_for():
    """Resize rounds the product down: in float32, 9 * (129 / 9) is less than 129."""
    onnx = pytest.importorskip("deeplab_mnv2.exporting.onnx")
    for before in range(1, 130):
        for after in (*range(before, 300), 16 * before + 1):
            factor = onnx.writer._factor(before, after)
            assert int(float(factor) * before) == int(factor * np.float32(before)) == after


@pytest.mark.parametrize("kind", ["onnx", "litert", "stablehlo"])
@pytest.mark.parametrize("changes", [{"argmax": True}, {"resize": False}])
def test_outputs(kind, changes, source, target, tmp_path):
    module = pytest.importorskip(f"deeplab_mnv2.exporting.{kind}")
    target = dataclasses.replace(target, **changes)
    export(source, kind, tmp_path / "file", target)
    model = weights.build(source)
    image = images_for(1, model)[0]
    (found,) = module.load((tmp_path / "file").read_bytes(), model)(image)
    if target.argmax:
        assert found.shape == (1, *SIZE)
        assert found.dtype == np.uint8
    else:
        assert found.shape == apply(model, model.normalize(image), "head_logits").shape


def test_half_precision_halves_the_file(source, target, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ai_edge_litert")
    half = dataclasses.replace(target, precision="float16")
    for kind in ("safetensors", "onnx", "litert"):
        export(source, kind, tmp_path / "full", target)
        export(source, kind, tmp_path / "half", half)
        sizes = [(tmp_path / name).stat().st_size for name in ("half", "full")]
        assert sizes[0] < 0.65 * sizes[1]


def test_kernels_of_the_first_layers_stay_exact_in_half_precision(source, target):
    onnx = pytest.importorskip("onnx")
    module = pytest.importorskip("deeplab_mnv2.exporting.onnx")
    half = dataclasses.replace(target, precision="float16")
    graph = onnx.load_from_string(module.build(weights.build(source), half)).graph
    kinds = {constant.name: constant.data_type for constant in graph.initializer}
    early = {name: kind for name, kind in kinds.items() if "stages.1.0" in name}
    assert early
    assert onnx.TensorProto.FLOAT16 not in early.values()
    assert any(
        kind == onnx.TensorProto.FLOAT16 for name, kind in kinds.items() if "stages.2.0" in name
    )


def test_onnx_takes_batches_and_tells_labels_and_normalisation(source, target):
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("deeplab_mnv2.exporting.onnx")
    model = weights.build(source)
    session = onnxruntime.InferenceSession(onnx.build(model, target))
    images = np.concatenate(images_for(3, model))
    pixels = np.asarray(model.normalize(images)).transpose(0, 3, 1, 2)
    (found,) = session.run(None, {"image": pixels})
    expected = apply(model, model.normalize(images)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == list(target.class_names)
    assert json.loads(told["image_mean"]) == [127.5] * 3


# At 64 pixels the two rules of padding differ.
@pytest.mark.parametrize(
    ("name", "size"), [("mobile", (65, 97)), ("symmetric", (64, 64)), ("mobile", (129, 64))]
)
def test_litert_files_are_read_back_as_the_same_network(name, size, target, tmp_path):
    """The importer, which reads published files, is a reader that knows nothing of the writer."""
    pytest.importorskip("ai_edge_litert")
    source = source_of(**NETWORKS[name])
    target = dataclasses.replace(target, size=size)
    export(source, "litert", tmp_path / "file.tflite", target)
    found = weights.read(str(tmp_path / "file.tflite"))
    assert found.class_names == target.class_names
    model, restored = weights.build(source), weights.build(found)
    image = model.normalize(images_for(1, model)[0])
    expected = apply(model, image)
    np.testing.assert_allclose(apply(restored, image), expected, atol=1e-4 * np.abs(expected).max())
    assert restored.config.padding == model.config.padding


def test_litert_metadata_and_alignment(source, target):
    litert = pytest.importorskip("deeplab_mnv2.exporting.litert")
    content = litert.build(weights.build(source), target)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("labels.txt").decode() == "a\nb\nc\nd\né\n"
    file = litert.file.schema.Model.GetRootAs(content, 0)
    entries = {file.Metadata(i).Name(): file.Metadata(i) for i in range(file.MetadataLength())}
    told = file.Buffers(entries[b"TFLITE_METADATA"].Buffer()).DataAsNumpy().tobytes()
    assert told[4:8] == b"M001"
    assert np.full(3, 127.5, np.float32).tobytes() in told
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    for index in range(file.BuffersLength()):
        if file.Buffers(index).DataLength():
            data = file.Buffers(index).DataAsNumpy().__array_interface__["data"][0]
            assert (data - start) % 16 == 0


def test_stablehlo_runs_at_any_batch_and_size(source, target):
    stablehlo = pytest.importorskip("deeplab_mnv2.exporting.stablehlo")
    model = weights.build(source)
    content = stablehlo.build(model, target)
    run = stablehlo.load(content, model)
    for shape in ((1, 33, 97, 3), (2, 65, 65, 3)):
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        expected = apply(model, model.normalize(images))
        np.testing.assert_allclose(run(images)[0], expected, atol=1e-4 * np.abs(expected).max())
    program = jax.export.deserialize(bytearray(content))
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}


def test_safetensors_keeps_scores_and_where_the_weights_come_from(source, target, tmp_path):
    source = dataclasses.replace(source, scores={"miou": 0.5})
    export(source, "safetensors", tmp_path / "file.safetensors", target)
    restored = weights.read(str(tmp_path / "file.safetensors"))
    assert restored.scores == source.scores
    assert restored.class_names == target.class_names
    assert restored.provenance["made_from"] == source.provenance["source"]
    for name, array in source.tensors.items():
        np.testing.assert_array_equal(restored.tensors[name], array)


def test_nothing_is_written_that_fails_its_check(monkeypatch, source, target, tmp_path):
    monkeypatch.setitem(LEAST_AGREEMENT, "float32", 1.1)
    with pytest.raises(UserError, match=r"is not written.*100\.000%"):
        export(source, "safetensors", tmp_path / "file.safetensors", target)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("stablehlo", {"size": (49, 65)}, "49,65 is not of multiples of 32 plus one.*is 65,65"),
        ("onnx", {"any_size": True, "size": (64, 65)}, "64,65 is not of.*as onnx files.*is 65,65"),
        ("litert", {"any_size": True}, "--size any is not for litert files"),
        ("litert", {"precision": "int8"}, "needs --calibration"),
        ("safetensors", {"argmax": True}, "holds no output"),
    ],
)
def test_settings_that_do_not_fit_are_named(kind, changes, sentence, source, target, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnx")
    target = dataclasses.replace(target, **changes)
    with pytest.raises(UserError, match=sentence):
        export(source, kind, tmp_path / "file", target)


def test_stablehlo_takes_no_window_of_a_fixed_size(target):
    model = DeepLab(
        ModelConfig(width_multiplier=0.35, head_channels=8, image_pool_crop=513), rngs=nnx.Rngs(0)
    )
    with pytest.raises(UserError, match=r"image_pool_crop=513 does not.*set --format onnx"):
        stablehlo.build(model, target)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch, source, target, tmp_path):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="onnx")

    monkeypatch.setattr(export_module.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"package onnx.*deeplab_mnv2\[onnx\]"):
        export(source, "onnx", tmp_path / "file", target)


@pytest.mark.slow
def test_mediapipe_finds_labels_and_normalisation(shared, tmp_path):
    """What it is given is a file alone, so what it needs must be in there."""
    vision = pytest.importorskip("mediapipe.tasks.python.vision")
    mediapipe = pytest.importorskip("mediapipe")
    pytest.importorskip("ai_edge_litert")
    source = weights.read(str(shared / "weights" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"))
    file = tmp_path / "file.tflite"
    export(source, "litert", file, Target(class_names=VOC_CLASSES, size=(257, 257)))
    path = shared / "voc2012" / "JPEGImages" / "2007_000033.jpg"
    photo = cv2.resize(cv2.imread(str(path))[..., ::-1], (257, 257), interpolation=cv2.INTER_AREA)
    options = vision.ImageSegmenterOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(file)),
        output_category_mask=True,
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        assert tuple(segmenter.labels) == VOC_CLASSES
        image = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(photo))
        # A copy: the mask is the segmenter's memory.
        found = segmenter.segment(image).category_mask.numpy_view().copy()
    model = weights.build(source)
    expected = np.asarray(apply(model, model.normalize(photo[None])))[0].argmax(-1)
    assert len(np.unique(expected)) > 1
    assert (found.reshape(257, 257) == expected).mean() > 0.999


def test_published_weights_agree_on_photographs(shared, tmp_path):
    pytest.importorskip("onnxruntime")
    source = weights.read(str(shared / "weights" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"))
    target = Target(class_names=VOC_CLASSES, size=(257, 257))
    folder = shared / "voc2012" / "JPEGImages"
    assert export(source, "onnx", tmp_path / "file.onnx", target, folder).share > 0.9999
