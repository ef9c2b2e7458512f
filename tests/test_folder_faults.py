"""Mistakes in a folder end in one sentence that names the file."""

from pathlib import Path

import pytest
from PIL import Image

from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError


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
    Image.new("RGB", (10, 12), "red").save(root / "SegmentationClass/2007_0.png")
    return r"mode RGB\), not class ids"


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
    return "is outside"


def break_twins(root):
    Image.new("RGB", (10, 12)).save(root / "JPEGImages/2007_0.png")
    return "share a name"


def open_val(root: Path):
    return Folder(root=str(root), split="val").open()


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
