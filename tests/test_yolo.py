"""Boxes in YOLO's text files, and the mistakes in them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.yolo import Yolo
from deeplab_mnv2.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / kind / "train/night").mkdir(parents=True)
    for name in ("a", "b", "night/c"):
        Image.new("RGB", (20, 10)).save(tmp_path / f"images/train/{name}.png")
    (tmp_path / "labels/train/a.txt").write_text("1 0.5 0.4 0.5 0.2\r\n0 0.1 0.5 0.3 1\n\n")
    (tmp_path / "labels/train/night/c.txt").write_text("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0 0.1\n")
    (tmp_path / "classes.txt").write_text("cat\nkite\n")
    return tmp_path


def test_reads_boxes_of_images_and_of_those_in_folders(root):
    source = Yolo(root=str(root)).open()
    assert source.names == ("a", "b", "night/c")
    example = source[0]
    np.testing.assert_allclose(
        example["boxes"], [[0.3, 0.25, 0.5, 0.75], [0, 0, 1, 0.25]], rtol=1e-6
    )
    np.testing.assert_allclose(example["pixel_boxes"], [[3, 5, 5, 15], [0, -1, 10, 5]], atol=1e-9)
    assert example["label"].tolist() == [1, 0]
    np.testing.assert_allclose(example["area"], [20, 60])
    assert not example["ignore"].any()
    # Without a text file no boxes; one of no height is left out.
    assert [len(source[index]["boxes"]) for index in (1, 2)] == [0, 1]
    assert pickle.loads(pickle.dumps(source))[-1]["name"] == "night/c"
    for index in (3, -4):
        with pytest.raises(IndexError):
            source[index]


def test_digest_follows_boxes_labels_and_names(root):
    data_set = Yolo(root=str(root))
    digests = {data_set.digest()}
    for text in ("1 0.5 0.4 0.5 0.2", "0 0.5 0.4 0.5 0.2", "0 0.5 0.4 0.5 0.3"):
        (root / "labels/train/a.txt").write_text(text)
        digests.add(data_set.digest())
    (root / "images/train/b.png").rename(root / "images/train/d.png")
    digests.add(data_set.digest())
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", r"class 2, but there are 2 \(0 to 1\)"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
        ("nan 0.5 0.5 0.1 0.1", "class nan"),
        ("0 0.5 0.5 0.1", "must be a class and the box's"),
        ("cat 0.5 0.5 0.1 0.1", "must be a class and the box's"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", "7 numbers, as outlines"),
        ("0 100 50 20 20", "outside the image"),
        ("0 0.5 0.5 -0.1 0.1", "outside the image"),
        ("0 0.5 0.5 nan 0.1", "outside the image"),
    ],
)
def test_mistakes_are_named(root, line, message):
    (root / "labels/train/b.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(UserError, match=message) as caught:
        Yolo(root=str(root)).open()[1]
    assert "b.txt, line 2," in str(caught.value)


def test_what_is_missing_is_named(root):
    with pytest.raises(UserError, match=r"images/val does not exist"):
        Yolo(root=str(root), split="val").open()
    with pytest.raises(UserError, match="no text file of any image, such as"):
        Yolo(root=str(root), labels="images/{split}").open()
    (root / "classes.txt").write_text("background\n")
    with pytest.raises(UserError, match="names no classes"):
        Yolo(root=str(root)).open()
    (root / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"classes\.txt does not exist"):
        Yolo(root=str(root)).open()


def test_a_class_has_the_number_of_its_line_whatever_it_is_called(root):
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    (root / "labels/train/a.txt").write_text("2 0.5 0.5 0.5 0.5\n")
    source = Yolo(root=str(root)).open()
    assert source.class_names[source[0]["label"][0]] == "dog"


def test_labels_may_lie_beside_their_images(root):
    (root / "images/train/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    source = Yolo(root=str(root), labels="images/{split}").open()
    assert source[0]["label"].tolist() == [1]


def test_images_of_one_name_are_refused(root):
    Image.new("RGB", (20, 10)).save(root / "images/train/a.jpg")
    with pytest.raises(UserError, match="share a name"):
        Yolo(root=str(root)).open()
