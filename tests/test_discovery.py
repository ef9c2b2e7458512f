"""A folder as it comes is read as what it is, or refused in one sentence."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.cli import experiment
from deeplab_mnv2.data.discovery import discover
from deeplab_mnv2.errors import UserError


def write(root: Path, ids: list, image: str, label: str, number: int = 10) -> None:
    """Write images and labels of the given rows, each image in colours of its own."""
    for index in range(number):
        name = f"{index:03}"
        photo, mask = root / image.format(name), root / label.format(name)
        for path in (photo, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(noise).save(photo)
        row = np.asarray(ids, np.uint8)
        Image.fromarray(np.repeat(np.repeat(row[None], 20, 0), 24 // len(row), 1)).save(mask)


def read(root: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Return the ids of the labels of the two splits, without those that occur twice."""
    found = discover(str(root))
    return tuple(
        [list(dict.fromkeys(example["label"][0].tolist())) for example in one.open()]
        for one in (found.train, found.val)
    )  # pyright: ignore[reportReturnType]


def classes(root: Path) -> tuple[str, ...]:
    found = discover(str(root))
    assert found.train.class_names == found.val.class_names
    return found.train.class_names


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("imgs/{}.png", "gt/{}_mask.png"),
        ("img/{}.jpg", "seg/label_{}.png"),
        ("a/b/photos/{}.tif", "a/b/labels/{}_L.png"),
        ("{}.jpg", "{}.png"),
        ("{}.jpg", "masks/{}.png"),
        ("all/{}.png", "all/{}_mask.png"),
    ],
)
def test_one_set_is_split_by_chance(tmp_path, image, label):
    write(tmp_path, [0, 255], image, label)
    train, val = read(tmp_path)
    assert train == [[0, 1]] * 8
    assert val == [[0, 1]] * 2
    assert classes(tmp_path) == ("background", "object")
    said = " ".join(discover(str(tmp_path)).assumed)
    assert "80 % of all are trained on" in said
    assert "labels hold 0, 255" in said
    found = discover(str(tmp_path))
    assert not {*found.train.open().names} & {*found.val.open().names}  # pyright: ignore


@pytest.mark.parametrize(
    ("image", "label", "splits"),
    [
        ("{s}/images/{{}}.jpg", "{s}/masks/{{}}.png", ("train", "val")),
        ("images/{s}/{{}}.jpg", "labels/{s}/{{}}.png", ("training", "validation")),
        ("{s}/{{}}.png", "{s}annot/{{}}.png", ("train", "val")),
        ("{s}/{{}}.jpg", "{s}_masks/{{}}.png", ("train", "test")),
        ("images_{s}/{{}}.jpg", "masks_{s}/{{}}.png", ("Train", "Valid")),
        ("{s}/{{}}.jpg", "{s}/{{}}_mask.png", ("train", "valid")),
    ],
)
def test_splits_are_found_by_their_names(tmp_path, image, label, splits):
    for split, number in zip(splits, (6, 3), strict=True):
        write(tmp_path, [0, 1, 2], image.format(s=split), label.format(s=split), number)
    train, val = read(tmp_path)
    assert (len(train), len(val)) == (6, 3)
    assert train[0] == val[0] == [0, 1, 2]
    assert classes(tmp_path) == ("class 0", "class 1", "class 2")
    assert f"trained on {splits[0]}, scored on {splits[1]}" in discover(str(tmp_path)).assumed


def test_validation_comes_before_test(tmp_path):
    for split in ("train", "val", "test"):
        write(tmp_path, [0, 1], f"{split}/images/{{}}.jpg", f"{split}/masks/{{}}.png", 2)
    assert discover(str(tmp_path)).val.split == "val"


@pytest.mark.parametrize(
    ("row", "ids", "names"),
    [
        ([0, 1], [0, 1], ("background", "object")),
        ([0, 1, 255], [0, 1, 255], ("background", "object")),
        ([0, 128, 255], [0, 1, 255], ("background", "object")),
        ([1, 2, 3], [0, 1, 2], ("class 1", "class 2", "class 3")),
        ([0, 7, 9], [0, 1, 2], ("class 0", "class 7", "class 9")),
        ([[0, 0, 0], [255, 0, 0]], [0, 1], ("background", "object")),
        ([[0, 0, 9], [255, 0, 0]], [0, 1], ("#000009", "#ff0000")),
    ],
)
def test_classes_are_the_values_that_occur(tmp_path, row, ids, names):
    write(tmp_path, row, "images/{}.jpg", "masks/{}.png")
    assert read(tmp_path)[0][0] == ids
    assert classes(tmp_path) == names


@pytest.mark.parametrize(
    ("row", "listed", "ids", "names"),
    [
        ([0, 1], "sky\nsea\n", [0, 1], ("sky", "sea")),
        ([0, 1, 255], "sky\nsea\nland\n", [0, 1, 255], ("sky", "sea", "land")),
        ([0, 255], "other\nroad\n", [0, 1], ("other", "road")),
        ([1, 2, 3], "sky\nsea\nland\n", [0, 1, 2], ("sky", "sea", "land")),
        ([0, 1, 2], "sky\nsea\nUnlabelled\n", [0, 1, 255], ("sky", "sea")),
        ([0, 1, 2], "void\nsea\nland\n", [255, 0, 1], ("sea", "land")),
    ],
)
def test_a_list_names_the_classes(tmp_path, row, listed, ids, names):
    write(tmp_path, row, "images/{}.jpg", "masks/{}.png")
    (tmp_path / "classes.txt").write_text(listed)
    assert read(tmp_path)[0][0] == ids
    assert classes(tmp_path) == names


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labelmap.txt", "# label:rgb:parts\nroad:128,0,0::\nvoid:0,0,0::\nsea:0,0,9::"),
        ("label_colors.txt", "128 0 0\troad\n0 0 0\tVoid\n0 0 9\tsea\n"),
    ],
)  # fmt: skip
def test_a_list_names_the_colours(tmp_path, file, text):
    write(tmp_path, [[0, 0, 0], [128, 0, 0], [0, 0, 9]], "images/{}.jpg", "masks/{}.png")
    (tmp_path / file).write_text(text)
    assert read(tmp_path)[0][0] == [255, 0, 1]
    assert classes(tmp_path) == ("road", "sea")
    (tmp_path / file).write_text(text.replace("128", "129"))
    with pytest.raises(UserError, match=f"hold the colour #800000, which .*{file} does not list"):
        discover(str(tmp_path))


def test_a_list_of_other_classes_is_refused(tmp_path):
    write(tmp_path, [0, 1, 2], "images/{}.jpg", "masks/{}.png")
    (tmp_path / "classes.txt").write_text("sky\nsea\n")
    with pytest.raises(UserError, match=r"names 2 classes, but the labels hold the values 0, 1, 2"):
        discover(str(tmp_path))


def test_what_are_no_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        discover(str(tmp_path))
    with pytest.raises(UserError, match="nowhere is no folder"):
        discover(str(tmp_path / "nowhere"))
    write(tmp_path, [3], "images/{}.jpg", "masks/{}.png")
    with pytest.raises(UserError, match="hold the values 3 alone"):
        discover(str(tmp_path))
    grey = Image.fromarray(np.arange(20 * 24).reshape(20, 24).astype(np.uint8))
    grey.save(tmp_path / "masks/001.png")
    with pytest.raises(UserError, match=r"hold 256 values .* blurred"):
        discover(str(tmp_path))
    (tmp_path / "masks/001.png").unlink()
    with pytest.raises(UserError, match=r"001\.png, the label of .*001\.jpg, does not exist"):
        discover(str(tmp_path))


def test_two_folders_of_labels_are_refused(tmp_path):
    for labels in ("masks", "instances"):
        write(tmp_path, [0, 1], "images/{}.jpg", f"{labels}/{{}}.png")
    with pytest.raises(UserError, match=r"several ways: (masks|instances) labels images or"):
        discover(str(tmp_path))


def test_labels_beside_images_in_folders_of_a_split(tmp_path):
    for folder, number in (("train/x", 4), ("train/y", 3), ("val/x", 2)):
        write(tmp_path, [0, 1], f"{folder}/{{}}.jpg", f"{folder}/{{}}.png", number)
    assert [len(part) for part in read(tmp_path)] == [7, 2]


def test_images_of_splits_without_labels_are_refused(tmp_path):
    for folder in ("a/train", "b/val"):
        write(tmp_path, [0, 1], f"{folder}/{{}}.jpg", f"{folder}/{{}}.png", 3)
    with pytest.raises(UserError, match="folders called train, val, but no labels that are named"):
        discover(str(tmp_path))


def test_labels_of_two_kinds_in_a_folder_are_refused(tmp_path):
    for kind in ("classes", "instances"):
        write(tmp_path, [0, 1], "images/{}.jpg", f"masks/{{}}_{kind}.png")
    with pytest.raises(UserError, match=r"named \{name\}_classes\.png and \{name\}_instances\.png"):
        discover(str(tmp_path))


def test_numbers_within_numbers_are_no_second_kind(tmp_path):
    write(tmp_path, [0, 1], "images/{}.jpg", "masks/{}.png", 3)
    for old in (tmp_path / "images").iterdir():
        old.rename(old.with_stem(str(int(old.stem) * 10 + 1)))
    for old in (tmp_path / "masks").iterdir():
        old.rename(old.with_stem(str(int(old.stem) * 10 + 1)))
    assert [len(part) for part in read(tmp_path)] == [2, 1]


def test_two_splits_of_one_name_are_refused(tmp_path):
    for split in ("train1", "train2", "val"):
        write(tmp_path, [0, 1], f"{split}/images/{{}}.jpg", f"{split}/masks/{{}}.png", 2)
    with pytest.raises(UserError, match="the splits train1 and train2, of which nothing says"):
        discover(str(tmp_path))


def test_many_classes_take_a_list(tmp_path):
    write(tmp_path, [0, 1], "images/{}.jpg", "masks/{}.png")
    ids = np.arange(20 * 24).reshape(20, 24) % 100
    Image.fromarray(ids.astype(np.uint8)).save(tmp_path / "masks/001.png")
    with pytest.raises(UserError, match=r"hold 100 values .* or name all in classes\.txt"):
        discover(str(tmp_path))
    (tmp_path / "classes.txt").write_text("".join(f"thing {index}\n" for index in range(100)))
    assert len(classes(tmp_path)) == 100


def test_a_list_with_a_name_that_no_value_has(tmp_path):
    write(tmp_path, [1, 2, 3], "images/{}.jpg", "masks/{}.png")
    (tmp_path / "classes.txt").write_text("sky\nsea\nland\nice\n")
    # 1 is the first name or the second one.
    with pytest.raises(UserError, match="names 4 classes, but the labels hold the values 1, 2, 3"):
        discover(str(tmp_path))


def test_vocs_layout_with_classes_of_its_own(tmp_path):
    write(tmp_path, [0, 1, 2], "JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split, names in (("trainval", range(6)), ("test", range(6, 10))):
        (lists / f"{split}.txt").write_text("".join(f"{index:03}\n" for index in names))
    assert [len(part) for part in read(tmp_path)] == [6, 4]
    assert classes(tmp_path) == ("class 0", "class 1", "class 2")


def test_vocs_layout(voc):
    for old in [*(voc / "JPEGImages").iterdir(), *(voc / "SegmentationClass").iterdir()]:
        old.rename(old.with_stem(old.stem.replace("_", "_00000")))
    for path in (voc / "ImageSets/Segmentation").iterdir():
        path.write_text(path.read_text().replace("_", "_00000"))
    (voc / "ImageSets/Segmentation/train.txt").write_text("2007_000000\n")
    found = discover(str(voc))
    assert (found.train.split, found.val.split) == ("train", "val")
    assert len(found.train.class_names) == 21


def test_cvats_masks_in_vocs_layout(tmp_path):
    layout = "JPEGImages/{}.jpg", "SegmentationClass/{}.png"
    write(tmp_path, [[0, 0, 0], [250, 50, 83]], *layout)
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nleaf:250,50,83::\n")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    names = "".join(f"{index:03}\n" for index in range(10))
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text(names)
    assert [len(part) for part in read(tmp_path)] == [8, 2]
    assert read(tmp_path)[1][0] == [0, 1]
    assert classes(tmp_path) == ("background", "leaf")


def test_the_page(tmp_path, capsys):
    write(tmp_path, [0, 255], "images/{}.jpg", "masks/{}.png")
    page, config = experiment.load(f"folder:{tmp_path}")
    assert page.name == "folder.py"
    assert config.model.num_classes == 2
    assert config.train.total_steps == 300
    assert dataclasses.is_dataclass(config.data.train)
    config.check()
    assert "folder: labels hold 0, 255: 2 classes (background, object)" in capsys.readouterr().out


def test_the_page_without_a_folder():
    with pytest.raises(UserError, match="--config folder:PATH"):
        experiment.load("folder")


def test_cityscapes_as_it_is_unpacked(tmp_path):
    _, config = experiment.load(f"cityscapes:{tmp_path}")
    for split in ("train", "val"):
        name = f"{split}/aachen/aachen_00{{}}"
        write(
            tmp_path,
            [7, 33, 0, 4],
            f"leftImg8bit/{name}_leftImg8bit.png",
            f"gtFine/{name}_gtFine_labelIds.png",
            2,
        )
        write(tmp_path, [1], f"leftImg8bit/{name}.png", f"gtFine/{name}_gtFine_instanceIds.png", 1)
        for other in (tmp_path / "leftImg8bit" / split).glob("*/aachen_00???.png"):
            other.unlink()
    source = config.data.train.open()
    assert len(source) == 2
    assert list(dict.fromkeys(source[0]["label"][0].tolist())) == [0, 18, 255]
    assert config.model.num_classes == len(config.data.val.class_names) == 19


def test_camvid_as_it_is_published(tmp_path):
    _, config = experiment.load(f"camvid:{tmp_path}")
    for split in ("train", "val"):
        write(tmp_path, [0, 10, 11], f"{split}/{{}}.png", f"{split}annot/{{}}.png", 2)
    assert list(dict.fromkeys(config.data.val.open()[0]["label"][0].tolist())) == [0, 10, 255]
    assert config.model.num_classes == len(config.data.train.class_names) == 11


def test_camvid_is_not_trained_on_with_its_void_as_a_class(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, [0, 10, 11], f"{split}/{{}}.png", f"{split}annot/{{}}.png", 2)
    with pytest.raises(UserError, match=f"--config camvid:{tmp_path}, or name the classes"):
        discover(str(tmp_path))
    # Images of one's own in such folders have a list, and the page of CamVid reads its own.
    names = [*(f"class {number}" for number in range(11)), "unlabelled"]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert classes(tmp_path) == tuple(names[:11])
    _, config = experiment.load(f"camvid:{tmp_path}")
    label = config.data.train.open()[0]["label"]
    assert set(np.unique(label)) == {0, 10, 255}
