"""Labelme's outlines are drawn as labelme draws them, or refused in one sentence."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.discovery import discover
from deeplab_mnv2.data.labelme import Labelme
from deeplab_mnv2.errors import UserError

SQUARE = [[2, 1], [6, 1], [6, 4], [2, 4]]


def shape(label: str = "cat", points: Any = SQUARE, kind: str = "polygon", **more) -> dict:
    return {"label": label, "points": points, "shape_type": kind, **more}


def write(root: Path, *shapes: dict, name: str = "a", **changed) -> Path:
    """Write an image of 8 x 10 pixels and its outlines."""
    root.mkdir(exist_ok=True)
    Image.new("RGB", (10, 8), "red").save(root / f"{name}.jpg")
    content = {
        "version": "5.4.1",
        "shapes": list(shapes),
        "imagePath": f"{name}.jpg",
        "imageHeight": 8,
        "imageWidth": 10,
    }
    path = root / f"{name}.json"
    path.write_text(json.dumps(content | changed))
    return path


def label_of(root: Path, *names: str) -> np.ndarray:
    names = names or ("background", "cat", "dog")
    data = Labelme(root=str(root), folder=".", names=names)
    return data.open()[0]["label"]


def test_an_outline_is_in_it(tmp_path):
    write(tmp_path, shape())
    expected = np.zeros((8, 10), int)
    # The pixels at the corners belong to it, as in labelme: its polygons are drawn by Pillow.
    expected[1:5, 2:7] = 1
    assert label_of(tmp_path).tolist() == expected.tolist()


def test_later_outlines_lie_over_earlier_ones(tmp_path):
    write(tmp_path, shape(), shape("dog", [[4, 2], [9, 7]], "rectangle"))
    label = label_of(tmp_path)
    assert label[2, 4] == label[4, 6] == 2
    assert label[1, 4] == label[4, 3] == 1
    assert (label[2:8, 4:10] == 2).all()


@pytest.mark.parametrize("corners", [[[4, 2], [9, 7]], [[9, 7], [4, 2]], [[9, 2], [4, 7]]])
def test_a_rectangle_is_dragged_from_any_corner(tmp_path, corners):
    write(tmp_path, shape("cat", corners, "rectangle"))
    assert np.argwhere(label_of(tmp_path)).min(axis=0).tolist() == [2, 4]
    assert label_of(tmp_path).sum() == 36


def test_a_circle_and_a_mask(tmp_path):
    png = io.BytesIO()
    Image.fromarray(np.array([[0, 1, 1], [1, 0, 1]], np.uint8)).save(png, "PNG")
    mask = base64.b64encode(png.getvalue()).decode()
    write(
        tmp_path,
        shape("cat", [[2, 5], [4, 5]], "circle"),
        shape("dog", [[7, 1], [9, 2]], "mask", mask=mask),
    )
    label = label_of(tmp_path)
    assert label[3, 2] == label[7, 2] == label[5, 0] == label[5, 4] == 1
    assert label[3, 0] == 0
    assert label[1:3, 7:10].tolist() == [[0, 2, 2], [2, 0, 2]]


def test_labelmes_own_names_for_background_and_unlabelled(tmp_path):
    small = [[3, 2], [5, 2], [5, 3], [3, 3]]
    write(
        tmp_path,
        shape(),
        shape("_background_", small),
        shape("__ignore__", [[0, 6], [1, 7]], "rectangle"),
    )
    label = label_of(tmp_path)
    assert label[2, 4] == 0
    assert label[1, 4] == 1
    assert (label[6:8, :2] == 255).all()


def test_the_classes_of_a_file(tmp_path):
    write(tmp_path, shape("dog"))
    (tmp_path / "classes.txt").write_text("ground\ncat\ndog\n")
    data = Labelme(root=str(tmp_path), folder=".")
    assert data.class_names == ("ground", "cat", "dog")
    assert data.open()[0]["label"].max() == 2
    before = data.digest()
    write(tmp_path, shape("cat"))
    assert data.digest() != before


def test_a_photograph_of_another_name_or_machine(tmp_path):
    path = write(tmp_path, shape(), imagePath="C:\\photos\\b.png")
    assert label_of(tmp_path).max() == 1  # a.jpg, beside it
    Image.new("RGB", (10, 8), "blue").save(tmp_path / "b.png")
    data = Labelme(root=str(tmp_path), folder=".", names=("background", "cat"))
    assert data.open()[0]["image"][0, 0].tolist() == [0, 0, 255]
    (tmp_path / "b.png").unlink()
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UserError, match=rf"The image of {path}, .*b\.png', is not beside it"):
        data.open()[0]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([shape("cow")], r"a\.json, shape 0, is labelled 'cow', which is no class"),
        ([shape(), shape(kind="line")], "shape 1, is a line, which encloses nothing"),
        ([shape(points=[[1, 1], [2, 2]])], "too few points"),
        ([shape(points=[[1, 1], [2, 2], [1e9, 3]])], "far away"),
        ([shape(points=[[1, 1], [2, 2], [float("nan"), 3]])], "far away"),
        ([shape(points="abc")], "has no points"),
        ([shape(points=[[1, 2], [3, 4]], kind="mask", mask="###")], "cannot be drawn"),
        ([shape(points=[[1, 2], [3, 4]], kind="mask")], "cannot be drawn"),
        ([{"points": SQUARE}], "shape 0, has no label"),
        (["cat"], "shape 0, has no label"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, shapes, message):
    write(tmp_path, *shapes)
    with pytest.raises(UserError, match=message):
        label_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "has no shapes, as labelme's files have"),
        ('{"shapes": []}', "has no imageHeight"),
        ("[" * 100_000, "is not valid JSON"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    write(tmp_path).write_text(content)
    with pytest.raises(UserError, match=message):
        label_of(tmp_path)


def test_an_image_of_another_size_is_refused(tmp_path):
    write(tmp_path, shape(), imageWidth=9)
    with pytest.raises(UserError, match=r"an image of 9 x 8 pixels but .*a\.jpg is 10 x 8"):
        label_of(tmp_path)


def test_a_folder_is_found_out(tmp_path):
    for index in range(10):
        write(tmp_path, shape("cat" if index % 2 else "dog"), name=f"{index}")
    found = discover(str(tmp_path))
    assert found.train.class_names == ("background", "cat", "dog")
    assert (len(found.train.open()), len(found.val.open())) == (8, 2)
    assert "outlines of labelme's" in found.assumed


def test_splits_of_outlines(tmp_path):
    for split, number in (("train", 3), ("val", 2)):
        for index in range(number):
            write(tmp_path / split, shape(), name=f"{index}")
    found = discover(str(tmp_path))
    assert (len(found.train.open()), len(found.val.open())) == (3, 2)
    for index in range(2):
        write(tmp_path / "more", shape(), name=f"{index}")
    with pytest.raises(UserError, match=r"labelme's files in more and \{split\}"):
        discover(str(tmp_path))


@pytest.mark.parametrize("listed", ["cat\ndog\n", "__ignore__\n_background_\ncat\ndog\n"])
def test_a_list_of_objects_has_a_background_all_the_same(tmp_path, listed):
    for index in range(5):
        write(tmp_path, shape("dog"), name=f"{index}")
    (tmp_path / "classes.txt").write_text(listed)
    found = discover(str(tmp_path))
    assert found.train.class_names == ("background", "cat", "dog")
    assert np.unique(found.train.open()[0]["label"]).tolist() == [0, 2]


def test_a_file_that_is_gone_is_named(tmp_path):
    write(tmp_path, shape())
    (tmp_path / "b.json").symlink_to(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match=r"b\.json cannot be read"):
        discover(str(tmp_path))


def test_labels_can_be_printed(tmp_path):
    write(tmp_path, shape("\ud800"))
    with pytest.raises(UserError, match="shape 0, has no label"):
        label_of(tmp_path)
