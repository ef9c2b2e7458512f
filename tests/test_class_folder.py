"""Folders of class folders, and archives of them, read in place."""

import io
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.class_folder import ClassFolder
from deeplab_mnv2.errors import UserError

CLASSES = ("ant", "bee", "cow")


def picture(seed):
    """Return the content of a JPEG of a few pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def files(splits=("train", "val"), classes=CLASSES, number=10):
    """Return the content of each file of a small data set by its path."""
    return {
        f"{split}/{name}/{index:02}.jpg": picture(zlib.crc32(f"{split}{name}{index}".encode()))
        for split in splits
        for name in classes
        for index in range(number)
    }


def as_folder(path, content):
    for name, data in content.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return str(path)


def as_tar(path, content):
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path.with_suffix(".tar"))


def as_zip(path, content):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return str(path.with_suffix(".zip"))


STORES = (as_folder, as_tar, as_zip)


@pytest.mark.parametrize("store", STORES)
def test_examples_are_the_files_wherever_they_are(tmp_path, store):
    content = files()
    data_set = ClassFolder(root=store(tmp_path / "data", content), split="train")
    assert data_set.class_names == CLASSES
    # Reader processes get a copy.
    source = pickle.loads(pickle.dumps(data_set.open()))
    assert len(source) == 30
    for index in (0, 13, 29, -1):
        example = source[index]
        name = CLASSES[example["label"]]
        assert example["name"].startswith(f"{name}/")
        expected = np.asarray(Image.open(io.BytesIO(content[f"train/{example['name']}.jpg"])))
        np.testing.assert_array_equal(example["image"], expected)
    with pytest.raises(IndexError):
        source[30]


def test_one_digest_for_one_content(tmp_path):
    content = files()
    digests = {
        ClassFolder(root=store(tmp_path / store.__name__, content), split="val").digest()
        for store in STORES
    }
    assert len(digests) == 1
    other = as_tar(tmp_path / "other", files(number=9))
    assert ClassFolder(root=other, split="val").digest() not in digests


def test_parts_of_a_split_divide_every_class(tmp_path):
    root = as_tar(tmp_path / "data", files())
    first, second = (
        ClassFolder(root=root, split=split).open() for split in ("train[:90%]", "train[90%:]")
    )
    assert np.bincount(first.labels).tolist() == [9, 9, 9]
    assert np.bincount(second.labels).tolist() == [1, 1, 1]
    assert not {*first.names} & {*second.names}
    assert {*first.names} | {*second.names} == {*ClassFolder(root=root).open().names}


def test_a_root_without_splits(tmp_path):
    root = as_folder(tmp_path, {f"{n}/{i}.png": picture(i) for n in CLASSES for i in range(2)})
    assert len(ClassFolder(root=root, split="").open()) == 6
    assert len(ClassFolder(root=root, split="[:50%]").open()) == 3


def test_a_class_file_fixes_order_and_names_and_lets_classes_be_absent(tmp_path):
    content = files(("val",), ("bee", "cow"))
    lines = "\ufeffcow\tBos taurus\r\nbee\r\n\r\nant\r\n"
    root = as_tar(tmp_path / "data", {**content, "classes.txt": lines.encode()})
    data_set = ClassFolder(root=root, split="val")
    assert data_set.class_names == ("Bos taurus", "bee", "ant")
    assert {int(label) for label in data_set.open().labels} == {0, 1}


def test_a_tar_in_a_tar_is_a_folder(tmp_path):
    """As in ImageNet's training archive."""
    inner = {
        f"{name}.tar": Path(
            as_tar(tmp_path / name, {f"{name}_{i}.JPEG": picture(i) for i in range(3)})
        ).read_bytes()
        for name in CLASSES
    }
    source = ClassFolder(root=as_tar(tmp_path / "outer", inner), split="").open()
    assert np.bincount(source.labels).tolist() == [3, 3, 3]
    expected = np.asarray(Image.open(io.BytesIO(picture(2))))
    np.testing.assert_array_equal(source[5]["image"], expected)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("changes", "split", "message"),
    [
        ({"val/dog/1.jpg": b""}, "val", "The folder dog .* is no class; train has no such folder"),
        ({"train/ant/05.png": b""}, "train", "Two images .* are called ant/05"),
        ({}, "test", "holds no class folders"),
        ({}, "train[90%:10%]", "the name of a split, or a part of it"),
    ],
)
def test_what_is_wrong_ends_in_one_sentence(tmp_path, store, changes, split, message):
    root = store(tmp_path / "data", {**files(), **changes})
    with pytest.raises(UserError, match=message) as caught:
        ClassFolder(root=root, split=split).open()
    assert "\n" not in str(caught.value)


def test_an_empty_class_folder(tmp_path):
    root = as_folder(tmp_path, files())
    (tmp_path / "train" / "dog").mkdir()
    with pytest.raises(UserError, match=r"The class folder dog in .* holds no images"):
        ClassFolder(root=root).open()
    with tarfile.open(as_tar(tmp_path / "data", files()), "a") as archive:
        folder = tarfile.TarInfo("train/dog")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    with pytest.raises(UserError, match=r"The class folder dog in .* holds no images"):
        ClassFolder(root=str(tmp_path / "data.tar")).open()


def test_one_class_is_no_classification(tmp_path):
    root = as_folder(tmp_path, files(classes=("ant",)))
    with pytest.raises(UserError, match="1 class folders"):
        ClassFolder(root=root).open()


def test_a_truncated_image_is_named(tmp_path):
    content = files()
    content["train/bee/03.jpg"] = content["train/bee/03.jpg"][:-200]
    for store in STORES:
        source = ClassFolder(root=store(tmp_path / store.__name__, content)).open()
        with pytest.raises(UserError, match=r"train/bee/03.jpg.*cannot be read as an image"):
            source[13]


def test_damaged_and_hostile_archives(tmp_path):
    def refused(message, root):
        with pytest.raises(UserError, match=message) as caught:
            ClassFolder(root=str(root)).open()
        assert "\n" not in str(caught.value)

    whole = Path(as_tar(tmp_path / "whole", files())).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2 + 700])
    refused("cut short|cannot be read as an archive", tmp_path / "cut.tar")
    (tmp_path / "noise.zip").write_bytes(b"noise" * 100)
    refused("cannot be read as an archive", tmp_path / "noise.zip")
    (tmp_path / "all.tar.gz").write_bytes(b"")
    refused("compressed as a whole", tmp_path / "all.tar.gz")
    refused("a path that leads out of it", as_tar(tmp_path / "a", {"../train/ant/1.jpg": b""}))
    refused("a path that leads out of it", as_zip(tmp_path / "b", {"/train/ant/1.jpg": b""}))
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("train/ant/1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    refused("which is a link and no file", tmp_path / "link.tar")
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("train/ant/1.jpg"))
    refused("two files of the name", tmp_path / "twice.tar")
    refused("does not exist", tmp_path / "nowhere")
