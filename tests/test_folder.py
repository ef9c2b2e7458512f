"""Folders as users have them, with the mistakes they make."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError


def open_val(root: Path, **settings):
    return Folder(root=str(root), split="val", **settings).open()


def test_reads_vocs_layout_in_the_order_of_the_list(voc):
    source = open_val(voc)
    assert len(source) == 2
    example = source[0]
    assert example["name"] == "2007_1"
    assert example["image"].shape == (13, 10, 3)
    assert example["label"].dtype == np.uint8
    assert np.unique(example["label"]).tolist() == [1, 20, 255]
    assert Folder(root=str(voc), split="val").class_names == VOC_CLASSES


def test_two_folders_without_lists(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "photos" / split).mkdir(parents=True)
        (tmp_path / "ids" / split).mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(tmp_path / "photos" / split / f"{split}.png")
        Image.new("L", (8, 6), 2).save(tmp_path / "ids" / split / f"{split}.png")
    (tmp_path / "classes.txt").write_text("sky\nsea\nland\n")
    folder = Folder(
        root=str(tmp_path), split="val", images="photos/{split}", labels="ids/{split}", lists=""
    )
    assert folder.class_names == ("sky", "sea", "land")
    assert folder.open()[0]["name"] == "val"
    assert (folder.open()[0]["label"] == 2).all()


def test_list_of_pairs_of_paths(voc):
    path = voc / "ImageSets/Segmentation/pairs.txt"
    # Published lists of trainaug begin their paths with a slash.
    for slash in ("", "/"):
        path.write_text(f"{slash}JPEGImages/2007_0.jpg {slash}SegmentationClass/2007_0.png\n")
        assert Folder(root=str(voc), split="pairs").open()[0]["name"] == "2007_0"


def test_upright_by_exif_and_grey_photographs(voc):
    photo = Image.new("L", (10, 12))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned upside down
    photo.putpixel((0, 0), 255)
    photo.save(voc / "JPEGImages/2007_0.jpg", exif=exif, quality=100)
    image = open_val(voc)[1]["image"]
    assert image.shape == (12, 10, 3)
    assert image[-1, -1].min() > 200


def test_names_may_hold_dots_and_spaces(voc):
    for old, new in (("2007_0", "a photo"), ("2007_1", "frame.0001")):
        (voc / f"JPEGImages/{old}.jpg").rename(voc / f"JPEGImages/{new}.jpg")
        (voc / f"SegmentationClass/{old}.png").rename(voc / f"SegmentationClass/{new}.png")
    path = voc / "ImageSets/Segmentation/val.txt"
    path.write_bytes("\ufeffa photo\r\nframe.0001\r\na photo.jpg\r\n".encode())
    names = ["a photo", "frame.0001", "a photo"]
    assert [example["name"] for example in read_all(voc)] == names
    assert [image.stem for image, _ in open_val(voc, lists="").pairs] == names[:2]


def test_entries_go_on_past_problems(voc):
    (voc / "SegmentationClass/2007_1.png").unlink()
    entries = list(Folder(root=str(voc), split="val").entries())
    assert [type(entry) for entry in entries] == [UserError, tuple]


def test_digest_follows_the_list(voc):
    folder = Folder(root=str(voc), split="val")
    before = folder.digest()
    assert before == Folder(root=str(voc), split="val").digest()
    (voc / "ImageSets/Segmentation/val.txt").write_text("2007_0\n")
    assert folder.digest() != before


def test_digest_tells_images_of_one_name_apart(voc):
    digests = set()
    for camera in ("left", "right"):
        (voc / camera).mkdir()
        shutil.copy(voc / "JPEGImages/2007_0.jpg", voc / camera / "0.jpg")
        path = voc / f"ImageSets/Segmentation/{camera}.txt"
        path.write_text(f"{camera}/0.jpg SegmentationClass/2007_0.png\n")
        folder = Folder(root=str(voc), split=camera)
        assert folder.open()[0]["name"] == f"{camera}/0"
        digests.add(folder.digest())
    assert len(digests) == 2


def test_classes_have_names_of_their_own(voc):
    (voc / "classes.txt").write_text("background\nunused\nunused\n")
    with pytest.raises(UserError, match="names 'unused' twice"):
        Folder(root=str(voc), split="val").open()


def break_missing_folder(root):
    (root / "SegmentationClass").rename(root / "elsewhere")
    return "SegmentationClass does not exist"


def break_missing_list(root):
    (root / "ImageSets/Segmentation/val.txt").rename(root / "ImageSets/Segmentation/test.txt")
    return r"val\.txt does not exist.*there are test"


def break_image_without_label(root):
    (root / "SegmentationClass/2007_0.png").unlink()
    return r"2007_0\.png does not exist"


def break_label_without_image(root):
    (root / "JPEGImages/2007_0.jpg").unlink()
    return "no such image"


def break_sizes(root):
    Image.new("L", (10, 10)).save(root / "SegmentationClass/2007_0.png")
    return r"10 x 10 pixels but .* is 10 x 12"


def break_ids(root):
    Image.new("L", (10, 12), 21).save(root / "SegmentationClass/2007_0.png")
    return r"2007_0\.png holds the label id 21"


def break_colours(root):
    Image.new("RGB", (10, 12)).save(root / "SegmentationClass/2007_0.png")
    return "mode RGB, not class ids"


def break_jpeg(root):
    path = root / "JPEGImages/2007_0.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    return r"2007_0\.jpg cannot be read"


def break_png(root):
    path = root / "SegmentationClass/2007_0.png"
    path.write_bytes(path.read_bytes()[:-30])
    return r"2007_0\.png cannot be read"


def break_no_image(root):
    (root / "JPEGImages/2007_0.jpg").write_text("not an image")
    return r"2007_0\.jpg cannot be read"


def break_empty_list(root):
    (root / "ImageSets/Segmentation/val.txt").write_text("\n")
    return "names no images"


def break_escape(root):
    line = "../secret.jpg SegmentationClass/2007_0.png\n"
    (root / "ImageSets/Segmentation/val.txt").write_text(line)
    return "lies outside"


def break_twins(root):
    Image.new("RGB", (10, 12)).save(root / "JPEGImages/2007_0.png")
    return "share a name"


def read_all(root):
    source = open_val(root)
    return [source[index] for index in range(len(source))]


@pytest.mark.parametrize(
    "fault", [value for name, value in list(globals().items()) if name.startswith("break_")]
)
def test_faults_end_in_one_sentence_that_names_the_file(voc, fault):
    message = fault(voc)
    with pytest.raises(UserError, match=message) as caught:
        read_all(voc)
    assert "\n" not in str(caught.value)
    assert str(voc) in str(caught.value)


def test_too_many_pixels_are_refused_before_decoding(voc, monkeypatch):
    monkeypatch.setattr("deeplab_mnv2.data.decode.MAX_PIXELS", 100)
    with pytest.raises(UserError, match="above the limit"):
        open_val(voc)[0]
