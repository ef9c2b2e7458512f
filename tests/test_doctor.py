"""Faults planted in a sound data set, and batches that training left."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.config import Config, DataConfig, ModelConfig
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.doctor import diagnose, read_batch
from deeplab_mnv2.errors import UserError
from tests.support import damage

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


def image(root: Path, name: str = "train_1") -> Path:
    return root / f"JPEGImages/{name}.jpg"


def label(root: Path, name: str = "train_1") -> Path:
    return root / f"SegmentationClass/{name}.png"


def relist(root: Path, split: str, *names: str) -> None:
    path = root / f"ImageSets/Segmentation/{split}.txt"
    path.write_text("\n".join([*path.read_text().split(), *names]))


# Each plants a fault and returns its kind and words of its message.


def fault_unreadable(root):
    image(root).write_text("not an image")
    return "unreadable", "train_1.jpg"


def fault_truncated(root):
    image(root).write_bytes(image(root).read_bytes()[:-900])
    return "damaged", "train_1.jpg"


def fault_flipped_bit_in_a_label(root):
    data = label(root).read_bytes()
    label(root).write_bytes(damage.flip(data, 8 * data.index(b"IDAT") + 200))
    return "damaged", "train_1.png"


def fault_decompression_bomb(root):
    image(root).write_bytes(damage.png(30_000, 30_000))
    return "too large", "train_1.jpg"


def fault_cmyk(root):
    Image.open(image(root)).convert("CMYK").save(image(root))
    return "CMYK", "train_1.jpg"


def fault_sixteen_bits(root):
    grey = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
    Image.fromarray(grey).save(root / "JPEGImages/train_1.png")
    image(root).unlink()
    return "16-bit", "train_1.png"


def fault_sixteen_bits_in_colour(root):
    pixels = np.zeros((48, 1 + 64 * 6), np.uint8).tobytes()
    image(root).write_bytes(damage.png(64, 48, depth=16, colour=2, pixels=pixels))
    return "16-bit", "train_1.jpg"


def fault_animated(root):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    frames[0].save(root / "JPEGImages/train_1.webp", save_all=True, append_images=frames[1:])
    image(root).unlink()
    return "several frames", "train_1.webp"


def fault_exif(root):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(image(root)).save(image(root), exif=exif)
    return "EXIF rotation", "train_1.jpg"


def fault_float_samples(root):
    Image.fromarray(np.zeros((48, 64), np.float32)).save(root / "JPEGImages/train_1.tif")
    image(root).unlink()
    return "sample type", "floating-point numbers"


def fault_label_size(root):
    damage.write_label(label(root), damage.label()[:, :-1])
    return "label size", "63 x 48"


def fault_label_not_turned_with_its_image(root):
    damage.write_label(label(root), damage.label().T.copy())
    return "label size", "turned"


def fault_label_id(root):
    ids = damage.label()
    ids[10, :7] = 5
    damage.write_label(label(root), ids)
    return "label id", "5 (7 pixels)"


def fault_label_of_sixteen_bits(root):
    Image.fromarray(damage.label().astype(np.uint16)).save(label(root))
    return "label mode", "train_1.png"


def fault_label_of_four_bits(root):
    pixels = np.full((48, 1 + 64 // 2), 0x11, np.uint8)
    pixels[:, 0] = 0  # filter
    label(root).write_bytes(damage.png(64, 48, depth=4, pixels=pixels.tobytes()))
    return "label mode", "4 bits"


def fault_lossy_label(root):
    Image.open(label(root)).convert("L").save(label(root), "JPEG")
    return "label mode", "JPEG"


def fault_padding(root):
    padded = np.zeros((80, 64, 3), np.uint8)
    padded[:48] = np.asarray(Image.open(image(root)))
    Image.fromarray(padded).save(image(root), quality=95)
    ids = np.zeros((80, 64), np.uint8)
    ids[:48] = damage.label()
    damage.write_label(label(root), ids)
    return "padding as class", "train_1.png"


def fault_void_label(root):
    damage.write_label(label(root), np.full((48, 64), 255, np.uint8))
    return "void label", "train_1.png"


def fault_shared_image(root):
    shutil.copy(image(root), image(root, "val_other"))
    shutil.copy(label(root), label(root, "val_other"))
    relist(root, "val", "val_other")
    return "shared image", "val_other in val is the same picture as train_1 in train"


def fault_duplicate_image(root):
    # Other bytes, the same pixels.
    Image.open(image(root)).save(root / "JPEGImages/twin.png")
    shutil.copy(label(root), label(root, "twin"))
    relist(root, "train", "twin")
    return "duplicate image", "twin in train is the same picture as train_1"


def fault_entry_without_label(root):
    label(root, "val_2").unlink()
    return "split entry", "val_2.png"


def fault_entry_without_image(root):
    relist(root, "train", "ghost")
    return "split entry", "ghost"


def fault_no_list(root):
    (root / "ImageSets/Segmentation/val.txt").unlink()
    return "split entry", "val.txt"


def fault_file_without_entry(root):
    Image.new("RGB", (64, 48)).save(root / "JPEGImages/unlisted.jpg")
    return "unlisted files", "unlisted.jpg"


def fault_absent_class(root):
    for index in range(damage.SPLITS["val"]):
        ids = damage.label()
        ids[ids == 3] = 0
        damage.write_label(label(root, f"val_{index}"), ids)
    return "class absent", "3 (ship)"


def fault_masks_of_0_and_255(root):
    (root / "classes.txt").write_text("sea\nland\n")
    for path in (root / "SegmentationClass").iterdir():
        damage.write_label(path, np.where(damage.label() > 2, 255, 0).astype(np.uint8))
    return "black and white", "if 255 is land in them, set the data set's values=(0, 255)"


def fault_some_masks_of_0_and_255(root):
    (root / "classes.txt").write_text("sea\nland\n")
    for path in (root / "SegmentationClass").iterdir():
        land = 255 if path == label(root) else 1
        damage.write_label(path, np.where(damage.label() > 2, land, 0).astype(np.uint8))
    return "some black and white", "1 of 6 labels of train"


def fault_class_file(root):
    (root / "classes.txt").unlink()
    (root / "SegmentationClass").rename(root / "labels")
    return "split entry", "classes.txt does not exist"


def fault_grey_label(root):
    Image.fromarray(damage.label()).save(label(root))
    return "grey labels", "1 of 6 labels of train"


def fault_mostly_void(root):
    for index in range(damage.SPLITS["val"]):
        ids = damage.label()
        ids[:40] = 255
        damage.write_label(label(root, f"val_{index}"), ids)
    return "mostly void", "val is unlabelled (255) in 83 %"


FAULTS = [value for name, value in list(globals().items()) if name.startswith("fault_")]
# What else is then true: files of a list that is gone are unlisted, and so on.
CONSEQUENCES = {
    "fault_no_list": {"unlisted files"},
    "fault_masks_of_0_and_255": {"class absent"},
    "fault_entry_without_label": {"unlisted files"},
}


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
