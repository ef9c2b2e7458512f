"""Which importer reads what, and the sentence where none does."""

import importlib

import pytest

from deeplab_mnv2 import files, weights
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError
from tests.support.random_weights import random_weights

TINY = {"width_multiplier": 0.35, "head_channels": 32}


def saved(tmp_path, kind: str) -> str:
    path = tmp_path / f"{kind}.safetensors"
    weights.save(path, random_weights(kind, output_stride=32, **TINY))
    return str(path)


def test_each_loader_points_at_the_other(tmp_path):
    with pytest.raises(UserError, match="load_classifier"):
        weights.load(saved(tmp_path, "classification"))
    with pytest.raises(UserError, match=r"weights\.load\."):
        weights.load_classifier(saved(tmp_path, "segmentation"))
    with pytest.raises(UserError, match="init_weights"):
        weights.load(saved(tmp_path, "backbone"))


def test_loaded_networks_are_ready_for_evaluation(tmp_path):
    model = weights.load(saved(tmp_path, "segmentation"), output_stride=8)
    assert model.config.output_stride == 8
    assert model.dropout.deterministic
    assert model.backbone.stem.norm.use_running_average
    classifier = weights.load_classifier(saved(tmp_path, "classification"))
    assert classifier.dropout.deterministic


def test_networks_whose_file_names_no_classes(tmp_path):
    assert weights.read(saved(tmp_path, "segmentation")).class_names == VOC_CLASSES
    weights.save(tmp_path / "net.safetensors", random_weights(num_classes=3, **TINY))
    found = weights.read(str(tmp_path / "net.safetensors"))
    assert found.class_names == ("class 0", "class 1", "class 2")
    assert weights.read(saved(tmp_path, "classification")).class_names == ()


def test_a_model_of_ones_own_is_not_taken_for_vocs(tmp_path):
    model = weights.build(random_weights(**TINY))
    weights.save(tmp_path / "own.safetensors", weights.from_model(model, {"source": "own"}))
    assert weights.read(str(tmp_path / "own.safetensors")).class_names[1] == "class 1"
    with pytest.raises(UserError, match="names 2 classes, but its network has 21"):
        weights.save(tmp_path / "x", weights.from_model(model, {"source": "own"}, ["a", "b"]))


@pytest.mark.parametrize("name", ["absent.tflite", "absent.safetensors", "absent.h5", "absent"])
def test_absent_files_are_named(tmp_path, name):
    with pytest.raises(UserError, match=name):
        weights.read(str(tmp_path / name))


def test_unknown_formats_are_told_what_is_read(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"x")
    with pytest.raises(UserError, match=r"net\.onnx .* give \.safetensors"):
        weights.read(str(tmp_path / "net.onnx"))
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        weights.read(str(tmp_path))


def test_files_too_large_to_be_a_network_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    with open(path, "wb") as file:
        file.truncate(files.LARGEST_BYTES + 1)
    with pytest.raises(UserError, match="GiB"):
        weights.read(str(path))


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("net.h5", "h5py", "keras"), ("hf://a/b", "hub", "hf")],
)
def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name, package, extra):
    def absent(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    path = name if name.startswith("hf://") else str(tmp_path / name)
    if path != name:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=rf"{package}.*pip install 'deeplab_mnv2\[{extra}\]'"):
        weights.read(path)
