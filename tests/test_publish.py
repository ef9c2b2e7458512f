"""A published folder: read back as the same network, with a card that tells what it scores."""

import sys
import types

import numpy as np
import pytest
import yaml

from deeplab_mnv2 import publish, weights
from deeplab_mnv2.errors import UserError
from tests.support.random_weights import random_weights


@pytest.fixture
def folder(tmp_path):
    publish.publish(weights.read(str(weights.PACKAGED)), tmp_path / "repository", "me/voc")
    return tmp_path / "repository"


def _header(folder) -> dict:
    _, header, _ = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header)


def test_the_folder_is_read_as_the_same_network(folder):
    found, expected = weights.read(str(folder)), weights.read(str(weights.PACKAGED))
    assert found.class_names == expected.class_names
    assert found.config == expected.config
    assert found.scores == expected.scores
    for name, array in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def test_the_card_has_the_score_of_the_file(folder):
    scores = weights.read(str(weights.PACKAGED)).scores
    assert scores is not None
    header = _header(folder)
    assert header["pipeline_tag"] == "image-segmentation"
    (result,) = header["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(100 * scores["miou"], 2)
    text = (folder / "README.md").read_text()
    assert f"{100 * scores['ci95'][0]:.2f} to {100 * scores['ci95'][1]:.2f}" in text
    assert 'Segmenter.load("hf://me/voc")' in text
    assert "background, aeroplane" in text
    assert "2,113,557 parameters" in text


def test_a_network_without_a_score_says_so(tmp_path):
    publish.publish(random_weights(width_multiplier=0.35, head_channels=8), tmp_path, "me/tiny")
    assert "model-index" not in _header(tmp_path)
    assert "The file tells none" in (tmp_path / "README.md").read_text()


class _Hub:
    """Stands in for the hub's client."""

    def __init__(self):
        self.calls: list[tuple[str, dict]] = []

    def create_repo(self, name, **settings):
        self.calls.append((name, settings))

    def upload_folder(self, **settings):
        self.calls.append(("upload", settings))


def _replace_hub(monkeypatch, client) -> None:
    module = types.SimpleNamespace(HfApi=lambda: client)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_what_is_uploaded(folder, monkeypatch):
    client = _Hub()
    _replace_hub(monkeypatch, client)
    assert publish.push(folder, "me/voc") == "hf://me/voc"
    (name, made), (_, sent) = client.calls
    assert (name, made) == ("me/voc", {"exist_ok": True})
    assert sent["repo_id"] == "me/voc"
    assert {*sent["allow_patterns"]} == {path.name for path in sent["folder_path"].iterdir()}


def test_a_hub_that_refuses_ends_in_one_sentence(folder, monkeypatch):
    client = _Hub()
    client.upload_folder = lambda **_: (_ for _ in ()).throw(OSError("401 Client Error. More"))
    _replace_hub(monkeypatch, client)
    with pytest.raises(UserError, match=r"me/voc cannot be uploaded \(401 Client Error\); log in"):
        publish.push(folder, "me/voc")


def test_a_backbone_alone_is_refused_before_anything_is_written(tmp_path):
    source = random_weights(kind="backbone")
    with pytest.raises(UserError, match="holds a backbone alone"):
        publish.publish(source, tmp_path / "out", "owner/name")
    assert not (tmp_path / "out").exists()
