"""Which settings of a run may change when it goes on."""

import dataclasses
import json
import shutil

import pytest

from deeplab_mnv2.config import EvaluationConfig
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.training.workdir import open_workdir, write_settings


@pytest.fixture
def run(config, voc, tmp_path):
    """A run on a folder, its workdir and the folder."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (voc / name).rename(data / name)
    config.data = dataclasses.replace(config.data, train=Folder(root=str(data), split="val"))
    assert open_workdir(tmp_path / "run", config) == []
    write_settings(tmp_path / "run", config)
    return config, tmp_path / "run", data


def test_the_data_may_move_but_not_change(run):
    config, workdir, data = run
    moved = data.with_name("moved")
    shutil.copytree(data, moved)
    config.data.train.root = str(moved)
    assert "data.train.root was" in open_workdir(workdir, config)[0]
    (moved / "ImageSets/Segmentation/val.txt").write_text("2007_0\n")
    with pytest.raises(UserError, match="holds a run with examples="):
        open_workdir(workdir, config)


def test_the_protocol_of_scores_may_change(run):
    config, workdir, _ = run
    config.evaluation = EvaluationConfig(pad_sizes=(65,), pictures=0)
    assert len(open_workdir(workdir, config)) > 1


def test_settings_from_another_version_are_passed_over(run):
    config, workdir, _ = run
    path = workdir / "config.json"
    stored = json.loads(path.read_text())
    del stored["data"]["damaged"]
    stored["train"]["gone"] = 3
    path.write_text(json.dumps(stored))
    assert open_workdir(workdir, config) == []
