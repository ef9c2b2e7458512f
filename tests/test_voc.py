"""PASCAL VOC through TFDS, on small archives in the official layout."""

import dataclasses
import functools
import hashlib
import http.server
import io
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
import scipy.io
import tensorflow_datasets as tfds

from deeplab_mnv2.data import voc
from deeplab_mnv2.data.archive import Archive
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.palette import voc_palette
from deeplab_mnv2.data.voc import Voc, VocSegmentation
from deeplab_mnv2.errors import UserError

TRAIN = ["2007_000032", "2008_000015", "2011_000006"]
VAL = ["2007_000033", "2009_000009"]
# SBD's own split: it labels an image of VOC's train again, and two of VOC's val.
SBD_TRAIN = ["2008_000002", "2008_000015", "2009_000009"]
SBD_VAL = ["2007_000033", "2010_000002"]
TRAINAUG = ["2007_000032", "2008_000002", "2008_000015", "2010_000002", "2011_000006"]
SPLITS = {"train": TRAIN, "val": VAL, "trainval": sorted(TRAIN + VAL), "trainaug": TRAINAUG}


@dataclasses.dataclass
class Release:
    """Archives in a folder, and what they hold by image name."""

    folder: Path
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def encode(array: np.ndarray, extension: str, palette: bool = False) -> bytes:
    image = PIL.Image.fromarray(array)
    if palette:
        image.putpalette(voc_palette().tobytes())
        assert image.mode == "P"
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6  # on its side, and to be left so
    file = io.BytesIO()
    image.save(file, extension, **({"quality": 95, "exif": exif} if extension == "jpeg" else {}))
    return file.getvalue()


def write_tar(path: Path, mode: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"{voc.VOC_ROOT}/JPEGImages/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../outside"
        tar.addfile(link)


def describe(path: Path, urls: tuple[str, ...] = ()) -> Archive:
    content = path.read_bytes()
    return Archive(path.name, urls, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture(scope="session")
def archives(tmp_path_factory) -> Release:
    folder = tmp_path_factory.mktemp("archives")
    rng = np.random.default_rng(0)
    images, labels, voc_files, sbd_files = {}, {}, {}, {}
    for index, name in enumerate(sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL})):
        shape = (19 + index, 31 - index)
        jpeg = encode(rng.integers(0, 256, (*shape, 3), np.uint8), "jpeg")
        voc_files[f"{voc.VOC_ROOT}/JPEGImages/{name}.jpg"] = jpeg
        images[name] = np.asarray(PIL.Image.open(io.BytesIO(jpeg)))
        if name in SBD_TRAIN + SBD_VAL:
            label = rng.integers(0, 21, shape, np.uint8)
            struct = {"Boundaries": np.zeros(shape), "Segmentation": label}
            mat = io.BytesIO()
            scipy.io.savemat(mat, {"GTcls": struct}, do_compression=True)
            sbd_files[f"{voc.SBD_ROOT}/cls/{name}.mat"] = mat.getvalue()
            labels[name] = label
        if name in TRAIN + VAL:
            label = rng.integers(0, 21, shape, np.uint8)
            label[[0, -1]] = label[:, [0, -1]] = 255
            png = encode(label, "png", palette=True)
            voc_files[f"{voc.VOC_ROOT}/SegmentationClass/{name}.png"] = png
            labels[name] = label  # VOC's own, whether or not SBD has one
    for split, names in {"train": TRAIN, "val": VAL}.items():
        path = f"{voc.VOC_ROOT}/ImageSets/Segmentation/{split}.txt"
        voc_files[path] = "".join(f"{name}\n" for name in names).encode()
    voc_files |= {"../outside": b"", "/outside": b"", "VOCdevkit/../../outside": b""}
    # SBD's lists have no newline at the end.
    sbd_files[f"{voc.SBD_ROOT}/train.txt"] = "\n".join(SBD_TRAIN).encode()
    sbd_files[f"{voc.SBD_ROOT}/val.txt"] = "\n".join(SBD_VAL).encode()
    write_tar(folder / voc.VOC.filename, "w:", voc_files)
    write_tar(folder / voc.SBD.filename, "w:gz", sbd_files)
    return Release(folder, images, labels)


@pytest.fixture
def release(archives, monkeypatch) -> Release:
    """Makes the small archives the release that the module knows, without addresses."""
    monkeypatch.setattr(voc, "VOC", describe(archives.folder / voc.VOC.filename))
    monkeypatch.setattr(voc, "SBD", describe(archives.folder / voc.SBD.filename))
    monkeypatch.setattr(voc, "NUM_EXAMPLES", {split: len(SPLITS[split]) for split in SPLITS})
    monkeypatch.setattr(voc, "EXAMPLES_PER_SHARD", 2)
    return archives


@pytest.mark.parametrize("split", SPLITS)
def test_reads_what_the_archives_hold(release, tmp_path, split):
    source = Voc(split, str(tmp_path), str(release.folder)).open()
    assert [example["name"] for example in source] == SPLITS[split]
    assert len(source) == len(SPLITS[split])
    for example in source:
        image, label = example["image"], example["label"]
        assert image.dtype == label.dtype == np.uint8
        np.testing.assert_array_equal(label, release.labels[example["name"]])
        # Two builds of libjpeg may round differently; swapped channels differ by far more.
        np.testing.assert_allclose(
            image.astype(int), release.images[example["name"]].astype(int), atol=3
        )


def test_prepared_data_needs_no_archive(release, tmp_path, monkeypatch):
    Voc("val", str(tmp_path), str(release.folder)).open()
    monkeypatch.setattr(voc, "VOC", Archive("gone.tar", (), 1, ""))
    assert len(Voc("trainaug", str(tmp_path)).open()) == len(TRAINAUG)


def test_source_survives_pickling(release, tmp_path):
    source = Voc("val", str(tmp_path), str(release.folder)).open()
    copy = pickle.loads(pickle.dumps(source))
    assert len(copy) == len(source)
    np.testing.assert_array_equal(copy[1]["label"], source[1]["label"])
    np.testing.assert_array_equal(copy[-1]["label"], source[1]["label"])
    with pytest.raises(IndexError):
        copy[2]


def test_digest_is_of_the_names_in_order(release, tmp_path):
    digests = {split: Voc(split, str(tmp_path), str(release.folder)).digest() for split in SPLITS}
    again = {split: Voc(split, str(tmp_path)).digest() for split in SPLITS}  # now from disk
    assert digests == again
    assert len({*digests.values()}) == len(SPLITS)
    assert digests["val"] == hashlib.sha256(b"2007_000033\n2009_000009\n").hexdigest()[:16]


def test_tfds_finds_and_decodes_the_data_set(release, tmp_path):
    Voc("val", str(tmp_path), str(release.folder)).open()
    assert VocSegmentation.name == "voc_segmentation"
    (folder,) = (tmp_path / "voc_segmentation").iterdir()
    builder = tfds.builder_from_directory(folder)
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {
        split: len(SPLITS[split]) for split in SPLITS
    }
    example = builder.as_data_source("val")[0]
    np.testing.assert_array_equal(example["label"][..., 0], release.labels[VAL[0]])


def test_only_prepared_data_and_archives_are_written(release, tmp_path):
    Voc("val", str(tmp_path / "data"), str(release.folder)).open()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert not [path for path in tmp_path.rglob("*") if path.name == "outside"]
    assert sorted(path.name for path in release.folder.iterdir()) == [
        voc.VOC.filename,
        voc.SBD.filename,
    ]


def test_split_of_another_size_is_refused(release, tmp_path, monkeypatch):
    monkeypatch.setattr(voc, "NUM_EXAMPLES", {**voc.NUM_EXAMPLES, "trainaug": 6})
    with pytest.raises(RuntimeError, match="'trainaug': 5"):
        Voc("val", str(tmp_path), str(release.folder)).open()


@pytest.mark.parametrize("filename", [voc.VOC.filename, voc.SBD.filename])
def test_damaged_archive_is_named(release, tmp_path, filename):
    folder = shutil.copytree(release.folder, tmp_path / "manual")
    path = folder / filename
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{path} is damaged"):
        Voc("train", str(tmp_path / "data"), str(folder)).open()
    assert not (tmp_path / "data" / "voc_segmentation" / "1.0.0").exists()


def test_wrong_settings_are_named(release, tmp_path):
    with pytest.raises(UserError, match="no split 'test'"):
        Voc("test", str(tmp_path), str(release.folder)).open()
    with pytest.raises(UserError, match="nowhere does not exist; set manual_dir"):
        Voc("val", str(tmp_path), "nowhere").open()


def test_without_a_home_no_folder_called_tilde_is_made(release, tmp_path, monkeypatch):
    def getpwuid(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", getpwuid)
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    for data_dir in ("", "~/data"):
        with pytest.raises(UserError, match=r"no home folder .*; set data_dir"):
            Voc("val", data_dir, str(release.folder)).open()
    assert not Path("~").exists()


def test_downloads_what_manual_dir_lacks(release, tmp_path, monkeypatch):
    (tmp_path / "manual").mkdir()
    shutil.copy(release.folder / voc.SBD.filename, tmp_path / "manual")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=release.folder)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{voc.VOC.filename}"
        monkeypatch.setattr(voc, "VOC", dataclasses.replace(voc.VOC, urls=(url,)))
        source = Voc("val", str(tmp_path / "data"), str(tmp_path / "manual")).open()
        server.shutdown()
        thread.join()
    np.testing.assert_array_equal(source[0]["label"], release.labels[VAL[0]])
    assert (tmp_path / "data" / "downloads" / voc.VOC.filename).exists()


def test_archives_out_of_reach(release, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # closed again when the download begins
    urls = (f"http://127.0.0.1:{port}/first", f"http://127.0.0.1:{port}/second")
    monkeypatch.setattr(voc, "VOC", dataclasses.replace(voc.VOC, urls=urls))
    with pytest.raises(UserError, match=r"/first .+ or .+/second .+ as manual_dir\.$") as error:
        Voc("val", str(tmp_path)).open()
    assert "\n" not in str(error.value)


def test_official_archives_have_two_hosts_and_a_checksum():
    for archive in (voc.VOC, voc.SBD):
        hosts = {urllib.parse.urlsplit(url).hostname for url in archive.urls}
        assert len(hosts) == 2
        assert len(bytes.fromhex(archive.sha256)) == 32
    assert voc.NUM_EXAMPLES["trainval"] == voc.NUM_EXAMPLES["train"] + voc.NUM_EXAMPLES["val"]


def test_command_ends_in_one_sentence(tmp_path):
    command = [sys.executable, "-m", "deeplab_mnv2.data.voc"]
    arguments = [f"--data_dir={tmp_path}", f"--manual_dir={tmp_path / 'nowhere'}"]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: The folder {tmp_path / 'nowhere'} does not exist; ")
    assert "Traceback" not in result.stderr


def test_classes_and_palette():
    assert len(VOC_CLASSES) == 21
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette[VOC_CLASSES.index("person")].tolist() == [192, 128, 128]
    assert palette[VOC_CLASSES.index("tvmonitor")].tolist() == [0, 64, 128]
    assert palette[255].tolist() == [224, 224, 192]
    assert len(np.unique(palette, axis=0)) == 256
