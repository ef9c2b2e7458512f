"""YOLO's outlines are filled as class ids, or refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.discovery import discover
from deeplab_mnv2.data.yolo_masks import YoloMasks
from deeplab_mnv2.errors import UserError

# In an image of 10 x 8: columns 2 to 5, rows 1 to 3.
SQUARE = "0.2 0.125 0.6 0.125 0.6 0.5 0.2 0.5"
WHOLE = "0 0 1 0 1 1 0 1"


def write(root: Path, *lines: str, split: str = "train", name: str = "a", roboflow: bool = False):
    """Write one image and its text file."""
    layout = "{split}/{kind}" if roboflow else "{kind}/{split}"
    images, labels = (root / layout.format(split=split, kind=k) for k in ("images", "labels"))
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 8), "red").save(images / f"{name}.jpg")
    (labels / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    (root / "data.yaml").write_text("names: [cat, dog]\nnc: 2\n")
    return YoloMasks(root=str(root))


def test_outlines_are_filled_and_smaller_ones_seen(tmp_path):
    data = write(tmp_path, f"1 {SQUARE}", f"0 {WHOLE}")
    assert data.class_names == ("background", "cat", "dog")
    expected = np.ones((8, 10), int)
    expected[1:4, 2:6] = 2
    assert data.open()[0]["label"].tolist() == expected.tolist()


def test_an_image_without_a_file_has_no_objects(tmp_path):
    data = write(tmp_path, f"0 {SQUARE}")
    Image.new("RGB", (10, 8)).save(tmp_path / "images/train/b.png")
    source = data.open()
    assert len(source) == 2
    assert source[1]["label"].max() == 0
    (tmp_path / "labels/train/a.txt").unlink()
    with pytest.raises(UserError, match="holds no text file of any image"):
        data.open()


def test_names_by_number_in_text_and_in_the_page(tmp_path):
    data = write(tmp_path, f"1 {SQUARE}")
    (tmp_path / "data.yaml").write_text("names:\n  1: dog\n  0: cat\n")
    assert data.class_names == ("background", "cat", "dog")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    data.classes = "classes.txt"
    assert data.class_names == ("background", "a", "b", "c")
    data.names = ("x", "y")
    assert data.class_names == ("background", "x", "y")


@pytest.mark.parametrize("file", ["data.yaml", "classes.txt"])
def test_a_background_in_the_list_has_the_number_0(tmp_path, file):
    data = write(tmp_path, f"1 {SQUARE}")
    (tmp_path / "data.yaml").write_text("names: [background, cat, dog]\n")
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n")
    data.classes = file
    assert data.class_names == ("background", "cat", "dog")
    assert set(np.unique(data.open()[0]["label"])) == {0, 1}
    # Of a list without it, number 1 is the second class.
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert data.class_names == ("background", "cat", "dog")
    assert set(np.unique(data.open()[0]["label"])) == {0, 2}


def test_the_digest_is_of_the_outlines(tmp_path):
    before = write(tmp_path, f"0 {SQUARE}").digest()
    assert write(tmp_path, f"0 {SQUARE}").digest() == before
    assert write(tmp_path, f"1 {SQUARE}").digest() != before
    assert write(tmp_path, f"0 {WHOLE}").digest() != before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", r"a\.txt, line 1, is a box, not an outline"),
        ("0 0.1 0.1 0.2 0.2 0.3", "x and y of three corners"),
        ("0", "x and y of three corners"),
        (f"2 {SQUARE}", r"the class 2, but there are 2 \(0 to 1\)"),
        (f"-1 {SQUARE}", "the class -1"),
        (f"0.0 {SQUARE}", r"the class 0\.0"),
        ("0 0.1 0.1 0.2 0.2 0.3 1.3", "a corner outside the image"),
        ("0 0.1 0.1 0.2 0.2 0.3 nan", "a corner outside the image"),
        ("0 a b c d e f", "x and y of three corners"),
    ],
)
def test_what_is_no_outline_is_refused(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, line).open()[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [", "is not valid YAML"),
        ("- a\n- b\n", "has no list of names"),
        ("names: {0: a, 2: b}\n", "has no list of names"),
        ("names: [1, 2]\n", "has no list of names"),
        ("names: [a, a]\n", "names 'a' twice"),
        ("names: !!python/object:os.system [a]\n", "is not valid YAML"),
    ],
)
def test_what_names_no_classes_is_refused(tmp_path, text, message):
    data = write(tmp_path, f"0 {SQUARE}")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        data.open()


@pytest.mark.parametrize("roboflow", [False, True])
def test_a_folder_is_found_out(tmp_path, roboflow):
    for split, number in (("train", 3), ("valid", 2)):
        for index in range(number):
            write(tmp_path, f"1 {SQUARE}", split=split, name=f"{index}", roboflow=roboflow)
    found = discover(str(tmp_path))
    assert [len(one.open()) for one in (found.train, found.val)] == [3, 2]
    assert found.train.class_names == ("background", "cat", "dog")
    assert np.unique(found.val.open()[0]["label"]).tolist() == [0, 2]
    assert "YOLO's outlines" in found.assumed[0]


def test_one_folder_is_split_by_chance(tmp_path):
    for index in range(10):
        write(tmp_path / "x", f"1 {SQUARE}", name=f"{index}")
    for kind in ("images", "labels"):
        (tmp_path / "x" / kind / "train").rename(tmp_path / kind)
    (tmp_path / "x/data.yaml").rename(tmp_path / "data.yaml")
    found = discover(str(tmp_path))
    assert [len(one.open()) for one in (found.train, found.val)] == [8, 2]
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(UserError, match=r"data\.yaml or classes\.txt"):
        discover(str(tmp_path))
