"""What the values and colours of a label's file mean."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from tests.support.laid_out_folders import lay_out


def values_of(root: Path, values: tuple[int | str, ...], *rows: list[int]) -> Folder:
    lay_out(root, "i/a.jpg")
    (root / "l").mkdir(exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(root / "l/a.png")
    return Folder(root=str(root), split="", images="i", labels="l", lists="", values=values)


@pytest.mark.parametrize(
    ("values", "row", "ids"),
    [
        ((), [0, 1, 255], [0, 1, 255]),
        ((0, 255), [0, 255, 255], [0, 1, 1]),
        ((255, 0), [0, 255, 255], [1, 0, 0]),
        ((1, 2), [0, 1, 2], [255, 0, 1]),
        ((1, 2), [255, 1, 2], [255, 0, 1]),
        ((50, 200), [0, 50, 200], [255, 0, 1]),
        ([0, 128], [0, 128, 255], [0, 1, 255]),
    ],
)
def test_values_say_which_class_a_label_means(tmp_path, values, row, ids):
    folder = values_of(tmp_path, values, row)
    label = folder.open()[0]["label"]
    assert label.tolist() == [ids]
    assert label.dtype == np.uint8
    assert pickle.loads(pickle.dumps(folder.open()))[0]["label"].tolist() == [ids]


def test_values_that_are_no_class_are_refused(tmp_path):
    folder = values_of(tmp_path, (0, 255), [0, 127, 255])
    with pytest.raises(
        UserError, match=r"a\.png holds the value 127, which is no class's \(0, 255\)"
    ):
        folder.open()[0]
    for values in ((1,), (1, 1), (0, 1 << 24), (-1, 0), (0, 1, 2), (0, "#ff0000"), ("red", "blue")):
        folder = values_of(tmp_path, values, [0, 1, 1])
        with pytest.raises(UserError, match=r"Folder\.values=.*2 different numbers or colours"):
            folder.open()


def colours_of(root: Path, mode: str, **settings) -> Folder:
    """A label in black, red and blue, and names for three classes."""
    lay_out(root, "i/a.jpg")
    (root / "l").mkdir(exist_ok=True)
    row = np.array([[[0, 0, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    Image.fromarray(row).convert(mode).save(root / "l/a.png")
    return Folder(root=str(root), images="i", labels="l", lists="", names=("a", "b"), **settings)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_labels_in_colour(tmp_path, mode):
    red_and_blue = {"values": ("#ff0000", "#0000ff"), "unlabelled": ("#000000",)}
    folder = colours_of(tmp_path, mode, **red_and_blue)
    assert folder.open()[0]["label"].tolist() == [[255, 0, 1]]
    folder = colours_of(tmp_path, mode, values=("#ff0000", "#0000ff"))
    # Neither black nor white is unlabelled by itself, and blue, 0x0000ff, is not 255.
    with pytest.raises(UserError, match=r"the value #000000, which is no class's \(#ff0000, #00"):
        folder.open()[0]
    folder = colours_of(tmp_path, mode, values=("#000000", "#ff0000"))
    with pytest.raises(UserError, match="the value #0000ff"):
        folder.open()[0]


def test_labels_in_colour_are_no_numbers(tmp_path):
    with pytest.raises(UserError, match=r"a label in colour .*name the classes' colours"):
        colours_of(tmp_path, "RGB").open()[0]
    with pytest.raises(UserError, match=r"Folder\.unlabelled=.*as the values are"):
        colours_of(tmp_path, "RGB", unlabelled=("#0000ff",)).open()
    folder = colours_of(tmp_path, "RGB", values=("#ff0000", "#0000ff"))
    pixels = np.full((1, 3, 4), 255, np.uint8)
    pixels[0, 1, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "l/a.png")
    with pytest.raises(UserError, match="transparent pixels"):
        folder.open()[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_further_values_are_unlabelled(tmp_path, dtype):
    folder = colours_of(tmp_path, "P", unlabelled=(2, 11))
    Image.fromarray(np.array([[0, 1, 2, 11, 255]], dtype)).save(tmp_path / "l/a.png")
    image = Image.new("RGB", (5, 1))
    image.save(tmp_path / "i/a.jpg")
    assert folder.open()[0]["label"].tolist() == [[0, 1, 255, 255, 255]]
    folder.unlabelled = (1,)
    with pytest.raises(UserError, match=r"Folder\.unlabelled=\(1,\).*of no class"):
        folder.open()


def test_sixteen_bit_numbers(tmp_path):
    folder = colours_of(tmp_path, "P", values=(7, 40_000))
    Image.fromarray(np.array([[7, 40_000, 0]], np.uint16)).save(tmp_path / "l/a.png")
    assert folder.open()[0]["label"].tolist() == [[0, 1, 255]]


def test_large_photographs_are_scaled_down_with_their_labels(tmp_path):
    folder = colours_of(tmp_path, "P", long_side=50)
    Image.new("RGB", (200, 101), (9, 8, 7)).save(tmp_path / "i/a.jpg")
    label = np.zeros((101, 200), np.uint8)
    label[:, 100:] = 1
    Image.fromarray(label).save(tmp_path / "l/a.png")
    example = folder.open()[0]
    assert example["image"].shape == (25, 50, 3)
    assert example["label"].shape == (25, 50)
    assert np.unique(example["label"][:, :25]) == 0
    assert np.unique(example["label"][:, 25:]) == 1
    assert folder.digest() != dataclasses.replace(folder, long_side=0).digest()
    assert dataclasses.replace(folder, long_side=400).open()[0]["image"].shape == (101, 200, 3)
