"""Folders as users have them, with the mistakes they make."""

import copy
import dataclasses
import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from tests.support.laid_out_folders import lay_out


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
    assert [example["name"] for example in open_val(voc)] == names
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


def test_a_root_that_is_not_there_is_named_first(voc, config):
    for root in (f"{voc}/nowhere", "~/no such folder", f"{voc}/ImageSets/Segmentation/val.txt"):
        folder = Folder(root=root, split="val")
        shown = f"{os.path.expanduser(root)}/ (does not exist|is no folder);"
        config.data = dataclasses.replace(config.data, train=folder, val=folder)
        for ask in (lambda: folder.class_names, folder.open, folder.digest, config.check):  # noqa: B023
            with pytest.raises(UserError, match=f"^{shown} set the data set's root"):
                ask()


def test_the_root_may_begin_with_the_home_folder(voc, monkeypatch):
    monkeypatch.setenv("HOME", str(voc.parent))
    folder = Folder(root=f"~/{voc.name}", split="val")
    assert folder.open().names == ("2007_1", "2007_0")
    assert folder.digest() == Folder(root=str(voc), split="val").digest()
    assert folder.root == f"~/{voc.name}"


def test_vocs_classes_are_those_of_vocs_layout_alone(voc):
    with pytest.raises(UserError, match=r"names\.txt does not exist; write the classes there"):
        open_val(voc, classes="names.txt")
    assert len(open_val(voc, labels="SegmentationClass")) == 2
    (voc / "JPEGImages").rename(voc / "photos")
    with pytest.raises(UserError, match=r"classes\.txt does not exist; write the classes there"):
        open_val(voc, images="photos")
    (voc / "classes.txt").write_text("".join(f"{number}\n" for number in range(21)))
    assert open_val(voc, images="photos").meaning.num_classes == 21


def found(root: Path, **settings) -> dict[str, str]:
    """Return the label of each image of a folder without lists, and read them all."""
    source = Folder(root=str(root), split="train", lists="", **settings).open()
    assert all(example["label"].tolist() == [[0, 1, 255]] for example in source)
    return {str(i.relative_to(root)): str(j.relative_to(root)) for i, j in source.pairs}


@pytest.mark.parametrize(
    ("files", "settings"),
    [
        # One folder, told apart by the suffix, by a word of the name, or by both.
        ({"d/a.jpg": "d/a.png", "d/b.tif": "d/b.png"}, {"images": "d", "labels": "d"}),
        ({"d/a.jpg": "d/a_mask.png", "d/a1.jpg": "d/a1_mask.png"}, {"images": "d", "labels": "d"}),
        ({"d/a.png": "d/a_L.png", "d/a1.png": "d/a1_L.png"}, {"images": "d", "labels": "d"}),
        ({"a.jpg": "a_mask.png"}, {"images": "", "labels": "."}),
        # The same, described.
        (
            {"d/a.jpg": "d/a_mask.png", "d/b_mask.jpg": "d/b_mask_mask.png"},
            {"images": "d", "labels": "d", "label_pattern": "{name}_mask.png"},
        ),
        (
            {"d/a.jpg": "d/mask_a.png"},
            {"images": "d", "labels": "d", "label_pattern": "mask_{name}.png"},
        ),
        (
            {"d/a.jpg": "d/a/mask.png"},
            {"images": "d", "labels": "d", "label_pattern": "{name}/mask.png"},
        ),
        # CamVid, Cityscapes, and labels in a folder below that of the images.
        ({"i/a.png": "l/a_L.png"}, {"images": "i", "labels": "l", "label_pattern": "{name}_L.png"}),
        (
            {"l8/train/ulm/a_leftImg8bit.png": "gt/train/ulm/a_gtFine_labelTrainIds.png"},
            {
                "images": "l8/{split}",
                "labels": "gt/{split}",
                "image_pattern": "{name}_leftImg8bit",
                "label_pattern": "{name}_gtFine_labelTrainIds.png",
            },
        ),
        ({"d/a.png": "d/masks/a.png"}, {"images": "d", "labels": "d/masks"}),
        ({"d/a.jpg": "d/a.png", "d/in/a.jpg": "d/in/a.png"}, {"images": "d", "labels": "d"}),
    ],
)
def test_labels_beside_images_and_elsewhere(tmp_path, files, settings):
    lay_out(tmp_path, *files, *(f"!{label}" for label in files.values()))
    assert found(tmp_path, **settings) == files
    # What Macs and file managers leave there is no photograph.
    folder = tmp_path / next(iter(files))
    (folder.parent / f"._{folder.name}").write_bytes(b"\0\5\x16\7")
    (folder.parent / ".thumbnails").mkdir()
    lay_out(tmp_path, str(folder.parent / ".thumbnails/a.jpg"))
    assert found(tmp_path, **settings) == files
    # A list of the same names gives the same pairs.
    names = [
        str(Path(image).relative_to(settings["images"].format(split="train"))) for image in files
    ]
    (tmp_path / "list.txt").write_text("\n".join(names))
    source = Folder(root=str(tmp_path), split="train", lists="list.txt", **settings).open()
    assert [str(label.relative_to(tmp_path)) for _, label in source.pairs] == list(files.values())


def test_labels_beside_images_are_not_guessed_where_a_file_is_over(tmp_path):
    lay_out(tmp_path, "d/a.jpg", "!d/a_mask.png", "d/b.jpg")
    with pytest.raises(UserError, match=r"d/a\.png, the label of .*set the data set's labels and"):
        found(tmp_path, images="d", labels="d")


def test_labels_of_no_image_are_passed_over(tmp_path):
    lay_out(tmp_path, "d/a.jpg", "!d/a_mask.png", "!d/b_mask.png")
    settings = {"images": "d", "labels": "d", "label_pattern": "{name}_mask.png"}
    assert found(tmp_path, **settings) == {"d/a.jpg": "d/a_mask.png"}


@pytest.mark.parametrize("setting", ["image_pattern", "label_pattern"])
def test_a_pattern_has_a_place_for_the_name(voc, setting):
    for pattern in ("mask.png", "{name}_{name}.png"):
        with pytest.raises(UserError, match=rf"Folder\.{setting}='.*it must be a file name with"):
            open_val(voc, **{setting: pattern})


def test_twins_are_refused_without_a_list_too(tmp_path):
    lay_out(tmp_path, "i/a.jpg", "i/a.png", "!l/a.png")
    with pytest.raises(UserError, match=r"i/a\.jpg and a\.png share a name.*; rename one\.$"):
        found(tmp_path, images="i", labels="l")


def test_linked_folders_are_followed_once(tmp_path):
    lay_out(tmp_path, "i/in/a.jpg", "!l/in/a.png")
    (tmp_path / "i/also").symlink_to("in")
    (tmp_path / "i/round").symlink_to("..")
    assert found(tmp_path, images="i", labels="l") == {"i/in/a.jpg": "l/in/a.png"}


def test_parts_of_a_split(tmp_path):
    names = [f"{index:02}" for index in range(20)]
    lay_out(tmp_path, *(f"i/{name}.jpg" for name in names), *(f"l/{name}.png" for name in names))
    whole = Folder(
        root=str(tmp_path), split="all", images="i", labels="l", lists="", names=("a", "b")
    )
    train, val = (dataclasses.replace(whole, split=f"all[{p}]") for p in (":80%", "80%:"))
    assert sorted((*train.open().names, *val.open().names)) == names
    assert (len(train.open()), len(val.open())) == (16, 4)
    assert list(train.open().names) == sorted(train.open().names)
    # By chance, not the last ones.
    assert val.open().names != tuple(names[16:])
    # An image that is added moves one other across the cut, at most.
    before = {*val.open().names}
    lay_out(tmp_path, "i/new.jpg", "l/new.png")
    assert len(before - {*val.open().names}) <= 1
    assert len(train.digest()) == 16
    assert train.digest() != val.digest() != whole.digest()


@pytest.mark.parametrize("split", ["all[:80]", "all[:80 %]", "all[80%:20%]", "all[", "all[:0%]"])
def test_a_mistyped_part_is_not_the_whole(tmp_path, split):
    lay_out(tmp_path, "i/a.jpg", "l/a.png")
    folder = Folder(
        root=str(tmp_path), split=split, images="i", labels="l", lists="", names=("a", "b")
    )
    with pytest.raises(UserError, match=r"Folder\.split=.*a part of it such as train\[:90%\]"):
        folder.open()
    # Of a single image nothing is left for one of two parts.
    parts = [dataclasses.replace(folder, split=part) for part in ("all[:80%]", "all[80%:]")]
    with pytest.raises(UserError, match="Of 1 examples none are in the part"):
        [part.open() for part in parts]


def test_the_digest_is_of_the_names_and_of_what_labels_mean(voc):
    """As published scores carry it: the sha256 of the names, a line each."""
    folder = Folder(root=str(voc), split="val")
    assert folder.digest() == hashlib.sha256(b"2007_1\n2007_0\n").hexdigest()[:16]
    (voc / "classes.txt").write_text("a\nb\n")
    for path in (voc / "SegmentationClass").iterdir():
        shutil.copy(path, path.with_name(f"{path.stem}_L.png"))
    others = [
        folder,
        dataclasses.replace(folder, values=(0, 255)),
        dataclasses.replace(folder, values=(255, 0)),
        dataclasses.replace(folder, label_pattern="{name}_L.png"),
    ]
    assert len({other.digest() for other in others}) == len(others)


def test_the_digest_of_real_voc(shared):
    assert Folder(root=str(shared / "voc2012"), split="val").digest() == "32de0cf845f36281"


def test_a_setting_that_does_not_exist_is_refused(voc):
    folder = Folder(root=str(voc), split="val")
    with pytest.raises(UserError, match=r"no setting Folder\.splitt; did you mean Folder\.split\?"):
        folder.splitt = "train"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(UserError, match=r"Folder\.split=3 is of another type.*a text"):
        folder.split = 3  # pyright: ignore[reportAttributeAccessIssue]
    for same in (copy.deepcopy(folder), pickle.loads(pickle.dumps(folder))):
        assert same == folder
        assert same.open().names == folder.open().names


@dataclasses.dataclass
class Backwards(Folder):
    """A subclass with a setting of its own."""

    half: bool = False

    def __post_init__(self):
        self._opened = 0

    def open(self):
        self._opened += 1
        source = super().open()
        pairs, names = source.pairs[::-1], source.names[::-1]
        return dataclasses.replace(source, pairs=pairs, names=names)


def test_a_subclass_has_settings_of_its_own(voc):
    data = dataclasses.replace(Backwards(root=str(voc), split="val"), half=True)
    assert data.open().names == ("2007_0", "2007_1")
    assert data._opened == 1
    data.half = False
    assert pickle.loads(pickle.dumps(data)) == data
    with pytest.raises(
        UserError, match=r"no setting Backwards\.hallf; did you mean Backwards\.half"
    ):
        data.hallf = True  # pyright: ignore[reportAttributeAccessIssue]


def test_a_source_is_a_sequence(voc):
    source = open_val(voc)
    assert [example["name"] for example in source] == ["2007_1", "2007_0"]
    assert source[-1]["name"] == "2007_0"
    for index in (2, -3):
        with pytest.raises(IndexError):
            source[index]
