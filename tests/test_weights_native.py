"""Our own file: nothing is lost in it, and damage is noticed."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from deeplab_mnv2 import weights
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError
from tests.support.random_weights import random_weights

TINY = {"width_multiplier": 0.35, "head_channels": 32}


@pytest.fixture
def given() -> weights.Weights:
    return random_weights(atrous_rates=(6, 12), decoder=True, image_mean=(1.0, 2.0, 3.0), **TINY)


def rewrite(path, tensors=None, **metadata) -> None:
    """Write a file again with other tensors or other metadata."""
    with safetensors.safe_open(path, "numpy") as file:
        stored = file.metadata()
    tensors = safetensors.numpy.load_file(path) if tensors is None else tensors
    safetensors.numpy.save_file(tensors, path, {**stored, **metadata})


def test_everything_comes_back(tmp_path, given):
    path = tmp_path / "net.safetensors"
    given.class_names = Shapes().class_names
    weights.save(path, given, scores={"miou": 0.75})
    found = weights.read(str(path))
    assert found.class_names == Shapes().class_names
    assert (found.kind, found.config, found.scores) == (given.kind, given.config, {"miou": 0.75})
    assert found.tensors.keys() == given.tensors.keys()
    for name, array in given.tensors.items():
        assert found.tensors[name].dtype == np.float32
        np.testing.assert_array_equal(found.tensors[name], array)
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize("kind", ["classification", "backbone"])
def test_other_kinds_come_back(tmp_path, kind):
    given = random_weights(kind, output_stride=32, **TINY)
    weights.save(tmp_path / "net.safetensors", given)
    assert weights.read(str(tmp_path / "net.safetensors")).kind == kind


def test_half_precision_is_half_as_large_and_keeps_norm_and_first_layers_exact(tmp_path, given):
    path, half = tmp_path / "net.safetensors", tmp_path / "half.safetensors"
    weights.save(path, given)
    weights.save(half, given, half=True)
    assert half.stat().st_size < 0.6 * path.stat().st_size
    for name, array in weights.read(str(half)).tensors.items():
        assert array.dtype == np.float32
        tolerance = 1e-3 if name.endswith("kernel") else 0
        np.testing.assert_allclose(array, given.tensors[name], rtol=tolerance, atol=1e-6)
        first = ("backbone.stem", "backbone.stages.0", "backbone.stages.1")
        if "norm" in name or name.startswith(first):
            np.testing.assert_array_equal(array, given.tensors[name])


def test_provenance_names_the_file_and_the_first_origin(tmp_path, given):
    origin = {"source": "/home/me/a.tflite", "sha256": "ab", "importer": "tflite", "norm": "folded"}
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    weights.save(first, dataclasses.replace(given, provenance=origin))
    weights.save(second, weights.read(str(first)))
    found = weights.read(str(second)).provenance
    assert found["source"] == str(second)
    assert len(found["sha256"]) == 64
    assert (found["made_from"], found["made_from_sha256"]) == ("a.tflite", "ab")
    assert (found["importer"], found["norm"]) == ("tflite", "folded")
    assert b"/home/me" not in second.read_bytes()


def test_changed_values_are_noticed(tmp_path, given):
    path = tmp_path / "net.safetensors"
    weights.save(path, given)
    tensors = safetensors.numpy.load_file(path)
    tensors["classifier.bias"] = tensors["classifier.bias"] + 1
    rewrite(path, tensors)
    with pytest.raises(UserError, match="do not match the digest"):
        weights.read(str(path))


def test_truncated_and_foreign_files_end_in_one_sentence(tmp_path, given):
    path = tmp_path / "net.safetensors"
    weights.save(path, given)
    data = path.read_bytes()
    huge_header = (2**62).to_bytes(8, "little") + b"{}"
    for content in (b"", b"garbage!garbage!", data[:100], data[: len(data) // 2], huge_header):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"net\.safetensors is damaged") as error:
            weights.read(str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"version": "2"}, "update the package"),
        ({"config": "{"}, "metadata cannot be read"),
        ({"config": json.dumps({"num_classes": "many"})}, "num_classes"),
        ({"config": json.dumps({"invented": 1})}, "invented"),
        ({"config": json.dumps({"output_stride": 5})}, "output_stride"),
        ({"provenance": "[]"}, "metadata cannot be read"),
        ({"kind": "detector"}, "metadata cannot be read"),
        ({"class_names": "7"}, "metadata cannot be read"),
        ({"class_names": '["a", "b"]'}, "names 2 classes"),
    ],
    ids=str,
)
def test_strange_metadata_is_refused(tmp_path, given, metadata, words):
    path = tmp_path / "net.safetensors"
    weights.save(path, given)
    rewrite(path, **metadata)
    with pytest.raises(UserError, match=words):
        weights.read(str(path))


def test_failed_write_leaves_the_old_file(tmp_path, given, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"old")
    broken = dataclasses.replace(given, tensors={})
    with pytest.raises(UserError, match="missing"):
        weights.save(path, broken)

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(UserError, match="No space left"):
        weights.save(path, given)
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]
    assert path.read_bytes() == b"old"
    with pytest.raises(UserError, match="cannot be written"):
        weights.save(tmp_path / "nowhere" / "net.safetensors", given)
