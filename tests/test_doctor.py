"""Faults planted in a sound data set, and batches that training left."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.config import Config, DataConfig, ModelConfig
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.doctor import diagnose
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.batch import read_batch
from tests.support import damage
from tests.support.planted_faults import CONSEQUENCES, FAULTS, image, label

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def root(tmp_path) -> Path:
    damage.write_data_set(tmp_path)
    return tmp_path


def examine(root: Path, classes: int = 0):
    train, val = (Folder(root=str(root), split=split) for split in damage.SPLITS)
    if not classes:
        names = root / "classes.txt"
        classes = len(names.read_text().split()) if names.exists() else len(damage.CLASSES)
    config = Config(DataConfig(train, val), ModelConfig(num_classes=classes))
    return diagnose(config, [train, val])


def test_a_sound_data_set_has_no_findings(root):
    surveys, findings = examine(root)
    assert findings == []
    train = surveys[0]
    assert train.pixels[:5].sum() + train.pixels[255] == 6 * 48 * 64
    assert train.void == pytest.approx(4 / 48)
    assert train.images[:5].tolist() == [6] * 5


@pytest.mark.parametrize("fault", FAULTS)
def test_finds_the_fault_and_no_other(root, fault):
    kind, words = fault(root)
    _, findings = examine(root)
    assert any(finding.kind == kind and words in finding.message for finding in findings), findings
    assert {f.kind for f in findings} <= {kind} | CONSEQUENCES.get(fault.__name__, set())


def test_goes_on_past_every_damaged_file(root):
    for name in ("train_0", "train_3", "val_2"):
        image(root, name).write_bytes(image(root, name).read_bytes()[:300])
    label(root, "train_4").unlink()
    surveys, findings = examine(root)
    errors = [finding for finding in findings if finding.severity == "error"]
    assert len(errors) == 4
    assert [len(split.examinations) for split in surveys] == [6, 3]


def test_file_names_that_are_no_text(root):
    """They are shown as Python writes them; the results can be printed and stored in UTF-8."""
    name = os.fsdecode(b"caf\xe9")
    image(root).rename(image(root, name))
    label(root).rename(label(root, name))
    path = root / "ImageSets/Segmentation/train.txt"
    path.write_bytes(path.read_bytes().replace(b"train_1", b"caf\xe9"))
    assert examine(root)[1] == []
    image(root, name).write_bytes(image(root, name).read_bytes()[:-900])
    ids = damage.label()
    ids[10, :7] = 5
    damage.write_label(label(root, name), ids)
    surveys, findings = examine(root)
    assert [f.kind for f in findings] == ["damaged", "label id"]
    assert "JPEGImages/caf\\udce9.jpg" in findings[0].message
    assert "SegmentationClass/caf\\udce9.png holds ids" in findings[1].message
    assert all((f.where + f.message).isprintable() for f in findings)
    assert surveys[0].examinations[1].name == "caf\\udce9"


def test_a_missing_root_is_a_finding(root, config):
    val = Folder(root=f"{root}/nowhere", split="val")
    surveys, findings = diagnose(config, [val])
    assert surveys == []
    assert [f.kind for f in findings] == ["split entry"]
    assert f"{root}/nowhere/ does not exist; set" in findings[0].message


def test_classes_must_agree(root):
    _, findings = examine(root, classes=21)
    assert [f.kind for f in findings] == ["class list"] * 2


def test_data_sets_without_files_are_examined_through_their_source(config):
    train, val = Shapes("train", length=12, size=49), Shapes("val", length=3, size=49)
    surveys, findings = diagnose(config, [train, val])
    assert {f.kind for f in findings} <= {"class absent"}
    assert surveys[1].images[0] == 3
    picture, ids = surveys[1].pictures(2)
    assert picture is not None
    assert ids is not None
    assert picture.shape[:2] == ids.shape
    _, findings = diagnose(config, [train, train])
    assert sum(f.kind == "shared image" for f in findings) == 12


def save_batch(path: Path, **changed) -> None:
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(3, 200, (2, 33, 33, 3), dtype=np.uint8),
        "label": np.full((2, 33, 33), 30, np.uint8),
        "name": np.array(["first", "second"]),
        "step": 7,
    }
    np.savez(path, **{**batch, **changed})


def test_a_batch_is_checked(tmp_path):
    path = tmp_path / "batch.npz"
    save_batch(path)
    assert read_batch(path)["name"].tolist() == ["first", "second"]
    for changed in (
        {"name": np.array(["only one"])},
        {"label": np.zeros((2, 33, 32), np.uint8)},
        {"image": np.zeros((2, 33, 33, 3), np.float32)},
    ):
        save_batch(path, **changed)
        with pytest.raises(UserError, match=r"batch\.npz .* one that train has left"):
            read_batch(path)
    # Pickled objects could hold code.
    save_batch(path, name=np.array([None, {}], object))
    for unreadable in (path, tmp_path / "absent.npz"):
        with pytest.raises(UserError, match=rf"{unreadable.name} does not hold image"):
            read_batch(unreadable)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deeplab_mnv2.doctor", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_command(root):
    (root / "voc.py").write_text((ROOT / "experiments/voc_os16.py").read_text())
    arguments = ["--config=voc.py:.", "--config.data.train.split=train", "--output=out"]
    arguments.append(f"--config.model.num_classes={len(damage.CLASSES)}")
    done = run(*arguments, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "0 errors, 0 warnings, 0 notes" in done.stdout
    # The weights of train are a line to paste.
    line = re.search("^--config.loss.class_weights=(.*)$", done.stdout, re.MULTILINE)
    kept = json.loads((root / "out/doctor.json").read_text())["splits"]["train"]["classes"]
    assert [float(weight) for weight in line[1].split(",")] == pytest.approx(
        [one["weight"] for one in kept.values()]
    )
    assert run(*arguments, line[0], cwd=root).returncode == 0
    Image.open(label(root)).convert("RGB").save(label(root))
    done = run(*arguments, cwd=root)
    assert done.returncode == 1, done.stderr
    assert "error: colour label (1)" in done.stdout
    found = json.loads((root / "out/doctor.json").read_text())
    assert [f["kind"] for f in found["findings"]] == ["colour label", "colour map"]
    assert found["splits"]["train"]["examples"] == 6
    with Image.open(root / "out/doctor.png") as sheet:
        assert sheet.height > 300


def test_the_command_shows_a_batch(tmp_path):
    save_batch(tmp_path / "batch.npz")
    done = run("--batch=batch.npz", "--output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step 7" in done.stdout
    assert "30" in done.stdout
    assert "0.0 %" in done.stdout
    assert (tmp_path / "out/doctor.png").is_file()


def test_real_voc_has_only_what_is_true_of_it(shared):
    """Its splits share no image; animals make up most of what is at hand."""
    data_set = Folder(root=str(shared / "voc2012"), split="val")
    config = Config(DataConfig(data_set, data_set))
    _, findings = diagnose(config, [data_set])
    assert [f for f in findings if f.kind != "unlisted files"] == []
