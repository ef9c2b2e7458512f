"""What `doctor` finds in data sets of classified images and of boxes."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.boxes import as_objects, box_example
from deeplab_mnv2.data.class_folder import ClassFolder
from deeplab_mnv2.data.shapes_boxes import ShapesBoxes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.boxes import quick_box_check, survey_boxes
from deeplab_mnv2.inspection.classes import quick_class_check
from deeplab_mnv2.inspection.diagnosis import diagnose_boxes, diagnose_classes


def quiet(data_set):
    return lambda: None


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(3):
                level = 40 * index + 120 * (name == "bee") + 15 * (split == "val")
                picture = Image.new("RGB", (24, 24), (level, 0, 0))
                picture.save(tmp_path / split / name / f"{index}.png")
    return tmp_path


def kinds(folder):
    data_sets = [ClassFolder(root=str(folder), split=split) for split in ("train", "val")]
    found = diagnose_classes(data_sets, threads=1, progress=quiet)
    return {finding.kind for finding in found.findings}, found


def test_a_sound_folder_has_no_findings(folder):
    found, diagnosis = kinds(folder)
    assert found == set()
    assert diagnosis.rows == [["ant", "3", "3"], ["bee", "3", "3"]]
    assert len(diagnosis.tiles) == 12
    assert quick_class_check(ClassFolder(root=str(folder))) == []


def test_data_sets_whose_splits_are_called_alike_are_two(folder):
    (folder / "val" / "ant" / "shared.png").write_bytes(
        (folder / "train" / "ant" / "1.png").read_bytes()
    )
    data_sets = [ClassFolder(root=str(folder / part), split="") for part in ("train", "val")]
    found = diagnose_classes(data_sets, threads=1, progress=quiet)
    assert [finding.kind for finding in found.findings] == ["shared image"]
    assert [found.splits[name]["ant"]["images"] for name in ("", " (2)")] == [3, 4]


def test_what_is_wrong_with_classes_is_found(folder):
    train = folder / "train"
    (train / "bee" / "twin.png").write_bytes((train / "ant" / "0.png").read_bytes())
    (train / "bee" / "again.png").write_bytes((train / "bee" / "0.png").read_bytes())
    (folder / "val" / "ant" / "shared.png").write_bytes((train / "ant" / "1.png").read_bytes())
    Image.new("RGB", (3, 40)).save(train / "ant" / "narrow.png")
    (folder / "val" / "bee" / "damaged.png").write_bytes(b"no picture")
    found, _ = kinds(folder)
    assert found == {"two classes", "duplicate image", "shared image", "tiny image", "unreadable"}
    with pytest.raises(UserError, match=r"which is of another class|cannot be read"):
        quick_class_check(ClassFolder(root=str(folder), split="train"))


@dataclasses.dataclass
class Boxes:
    """One image with given boxes."""

    boxes: tuple
    label: tuple
    split: str = "train"
    class_names: tuple = ("a", "b")

    def open(self):
        image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
        return [box_example(image, as_objects(self.boxes, self.label), "only")]

    def digest(self):
        return "0" * 16


def test_what_is_wrong_with_boxes_is_found():
    box, other = (10, 10, 60, 60), (20, 70, 90, 95)
    for boxes, label, kind in (
        ((box, box), (0, 0), "box twice"),
        ((box, box), (0, 1), "box of two classes"),
        ((box, (50, 50, 51, 90)), (0, 1), "tiny box"),
        ((box, other), (0, 0), "class absent"),
    ):
        found = survey_boxes(Boxes(boxes, label), 300, threads=1)
        assert kind in {finding.kind for finding in found.findings}, kind
    sound = survey_boxes(Boxes((box, other), (0, 1)), 300, threads=1)
    assert sound.findings == []
    assert sound.objects.tolist() == sound.images.tolist() == [1, 1]
    with pytest.raises(UserError, match=r"None of the images sampled from train has an object"):
        quick_box_check(Boxes((), ()))


def test_drawn_scenes_are_sound_and_shared_images_are_found():
    train, val = (ShapesBoxes(split=split, length=6) for split in ("train", "val"))
    found = diagnose_boxes([train, val], 160, threads=1, progress=quiet)
    assert {finding.severity for finding in found.findings} <= {"warning"}
    assert len(found.tiles) == 12
    assert found.splits["train"].keys() == {*train.class_names}
    # The same scenes under another name of the split.
    other = dataclasses.replace(train)
    again = diagnose_boxes([train, _Renamed(other)], 160, threads=1, progress=quiet)
    assert sum(finding.kind == "shared image" for finding in again.findings) == 6


@dataclasses.dataclass
class _Renamed:
    data_set: ShapesBoxes
    split: str = "elsewhere"

    @property
    def class_names(self):
        return self.data_set.class_names

    def open(self):
        return self.data_set.open()

    def digest(self):
        return self.data_set.digest()
