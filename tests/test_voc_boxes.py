"""Boxes in VOC's XML files, and the mistakes in them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.voc_boxes import VocBoxes
from deeplab_mnv2.errors import UserError

CAT = "<name>cat</name><difficult>0</difficult>"
BOX = "<bndbox><xmin>3</xmin><ymin>1</ymin><xmax>10</xmax><ymax>4.5</ymax></bndbox>"
SIZE = "<size><width>20</width><height>10</height><depth>3</depth></size>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("2007_1", "2007_2"):
        Image.new("RGB", (20, 10)).save(tmp_path / f"JPEGImages/{name}.jpg")
        write(tmp_path, SIZE + f"<object>{CAT}{BOX}</object>", name)
    (tmp_path / "ImageSets/Main/trainval.txt").write_text("2007_2\n2007_1\n")
    return tmp_path


def write(root: Path, body: str | bytes, name: str = "2007_1") -> None:
    content = body if isinstance(body, bytes) else f"<annotation>{body}</annotation>".encode()
    (root / f"Annotations/{name}.xml").write_bytes(content)


def test_pixel_numbers_become_edges(root):
    body = f"<object>{CAT}{BOX}<part><name>head</name>{BOX.replace('3', '5')}</part></object>"
    body += f"<object>{CAT.replace('cat', 'person').replace('0', '1')}{BOX}</object>"
    write(root, SIZE + body)
    source = VocBoxes(root=str(root)).open()
    example = source[1]
    assert example["name"] == "2007_1"
    np.testing.assert_allclose(example["pixel_boxes"], [[0, 2, 4.5, 10]] * 2)
    np.testing.assert_allclose(example["boxes"], [[0, 0.1, 0.45, 0.5]] * 2)
    assert [VOC_CLASSES[1:][label] for label in example["label"]] == ["cat", "person"]
    assert example["ignore"].tolist() == [False, True]
    assert example["area"].tolist() == [36, 36]
    assert pickle.loads(pickle.dumps(source))[-2]["name"] == "2007_2"
    for index in (2, -3):
        with pytest.raises(IndexError):
            source[index]


def test_boxes_of_a_pixel_and_beyond_the_image(root):
    one = "<bndbox><xmin>4</xmin><ymin>4</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
    over = "<bndbox><xmin>0</xmin><ymin>0</ymin><xmax>25</xmax><ymax>5</ymax></bndbox>"
    out = "<bndbox><xmin>30</xmin><ymin>1</ymin><xmax>40</xmax><ymax>5</ymax></bndbox>"
    write(root, "".join(f"<object>{CAT}{box}</object>" for box in (one, over, out)))
    example = VocBoxes(root=str(root)).open()[1]
    np.testing.assert_allclose(example["boxes"], [[0.3, 0.15, 0.4, 0.2], [0, 0, 0.5, 1]])
    assert len(example["label"]) == len(example["pixel_boxes"]) == len(example["area"]) == 2


def test_lists_of_names_and_of_pairs_of_paths(root):
    (root / "ImageSets/Segmentation/trainaug.txt").write_text(
        "/JPEGImages/2007_1.jpg /SegmentationClassAug/2007_1.png\n2007_2 -1\n# a comment\n"
    )
    data_set = VocBoxes(
        root=str(root), split="trainaug", lists="ImageSets/Segmentation/{split}.txt"
    )
    assert data_set.open().names == ("2007_1", "2007_2")
    assert VocBoxes(root=str(root), lists="").open().names == ("2007_1", "2007_2")
    assert data_set.digest() != VocBoxes(root=str(root)).digest()


def test_digest_follows_boxes_and_difficulty(root):
    data_set = VocBoxes(root=str(root))
    digests = {data_set.digest()}
    for old, new in (("4.5", "5"), ("cat", "dog"), (">0<", ">1<")):
        write(root, SIZE + f"<object>{CAT}{BOX}</object>".replace(old, new))
        digests.add(data_set.digest())
    assert len(digests) == 4


def test_own_classes(root):
    (root / "classes.txt").write_text("background\nkite\ncat\n")
    assert VocBoxes(root=str(root)).class_names == ("kite", "cat")
    assert VocBoxes(root=str(root)).open()[0]["label"].tolist() == [1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"<object><name>kite</name>{BOX}</object>", "object 1, is of the class 'kite'"),
        (f"<object>{BOX}</object>", "of the class ''"),
        (f"<object>{CAT}</object>", "has xmin ''"),
        (f"<object>{CAT}{BOX.replace('4.5', 'nan')}</object>", "has ymax 'nan'"),
        (f"<object>{CAT}{BOX.replace('4.5', '1e999')}</object>", "has ymax '1e999'"),
        (f"<object>{CAT}{BOX.replace('4.5', '0')}</object>", "before it begins"),
        ("<size><width>a</width></size>", "size, has height ''"),
        ("<object>", "not valid XML"),
        (b"", "not valid XML"),
        (b"\xff\xfe\x00", "not valid XML"),
        (b"<?xml version='1.0' encoding='klingon'?><annotation/>", "not valid XML"),
        (b"<html/>", "holds <html>, not <annotation>"),
    ],
)
def test_mistakes_are_named(root, body, message):
    write(root, body)
    with pytest.raises(UserError, match=message) as caught:
        VocBoxes(root=str(root)).open()[1]
    assert "2007_1.xml" in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_before_they_grow(root, encoding):
    bomb = "<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'>"
    for name, below in zip("bcdefghij", "abcdefghi", strict=True):
        bomb += f"<!ENTITY {name} '{f'&{below};' * 10}'>"
    write(root, (bomb + "]><annotation>&j;</annotation>").encode(encoding))
    with pytest.raises(UserError, match="declares a document type"):
        VocBoxes(root=str(root)).open()[1]


def test_deep_and_long_files_end_in_words(root):
    write(root, "<a>" * 200_000 + "</a>" * 200_000)
    assert len(VocBoxes(root=str(root)).open()[1]["boxes"]) == 0
    write(root, b" " * (2**24 + 1))
    with pytest.raises(UserError, match="more than 16 MiB"):
        VocBoxes(root=str(root)).open()[1]


def test_what_is_missing_is_named(root):
    with pytest.raises(UserError, match=r"test\.txt does not exist; .* there are trainval"):
        VocBoxes(root=str(root), split="test").open()
    (root / "Annotations/2007_1.xml").unlink()
    with pytest.raises(UserError, match=r"2007_1\.xml, the boxes of an image, does not exist"):
        VocBoxes(root=str(root)).open()[1]
    (root / "JPEGImages/2007_1.jpg").unlink()
    with pytest.raises(UserError, match=r"line 2, lists '2007_1', but .* has no such image"):
        VocBoxes(root=str(root)).open()
    with pytest.raises(UserError, match="set the data set's root"):
        VocBoxes(root=str(root / "nowhere")).open()


def test_an_image_of_another_size_is_refused(root):
    Image.new("RGB", (10, 20)).save(root / "JPEGImages/2007_1.jpg")
    with pytest.raises(UserError, match=r"is 10 x 20 pixels, but .* has it as 20 x 10"):
        VocBoxes(root=str(root)).open()[1]


@pytest.mark.parametrize("folder", ["Main", "Segmentation"])
def test_real_voc(shared, folder):
    lists = f"ImageSets/{folder}/{{split}}.txt"
    data_set = VocBoxes(root=str(shared / "voc2012"), split="val", lists=lists)
    source = data_set.open()
    objects = [source.annotation(index) for index in range(len(source))]
    assert len(source) == 443
    assert sum(len(o.label) for o in objects) == 969
    assert sum(int(o.ignore.sum()) for o in objects) == 131
    for index in (0, 100, 442):
        example = source[index]
        assert len(example["boxes"]) == len(objects[index].label)
