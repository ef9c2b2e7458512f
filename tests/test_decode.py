"""Pixels of every depth, in the range that was meant or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from deeplab_mnv2.data.decode import photo_pixels, read_image, to_rgb
from deeplab_mnv2.errors import UserError


def tiff(path: Path, array: np.ndarray, **tags: int) -> Path:
    """Write a grey TIFF whose tags are as given, whatever Pillow would write."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[int(tag.removeprefix("tag"))] = value
    Image.fromarray(array).save(path, tiffinfo=info)
    return path


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    grey = np.array([[0, 257, 128 * 257, 65_535]], np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.shape == (1, 4, 3)
        assert image[0, :, 1].tolist() == [0, 1, 128, 255]
    swapped = tiff(tmp_path / "white.tif", grey, tag262=0)
    assert read_image(swapped)[0, :, 0].tolist() == [255, 254, 127, 0]


def test_twelve_bits_are_scaled_to_eight(tmp_path):
    # Two samples in three bytes: 0 and 4095, 2048 and 16.
    content = bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x10])
    path = tmp_path / "twelve.tif"
    entries = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (279, 6)]
    directory = b"".join(
        tag.to_bytes(2, "little") + b"\3\0\1\0\0\0" + value.to_bytes(4, "little")
        for tag, value in entries
    )
    header = b"II*\0" + (14).to_bytes(4, "little") + content
    path.write_bytes(header + len(entries).to_bytes(2, "little") + directory + bytes(4))
    assert read_image(path)[0, :, 0].tolist() == [0, 255, 127, 0]


@pytest.mark.parametrize(
    "array",
    [
        np.linspace(0, 1, 12, dtype=np.float32),
        np.array([np.nan, np.inf, -1, 3e38], np.float32),
        np.full(12, 200, np.float32),
        np.array([0, 200], np.int32),
        np.array([-5, 1 << 20], np.int32),
    ],
    ids=["of 0 to 1", "not finite", "of 0 to 255", "int32", "wide int32"],
)
def test_samples_without_a_range_are_refused(tmp_path, array):
    picture = Image.fromarray(array[None])
    picture.save(tmp_path / "a.tif")
    kind = "floating-point numbers" if array.dtype == np.float32 else "32-bit integers"
    with pytest.raises(UserError, match=rf"a\.tif holds {kind}.*save it with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")
    # One that was never a file is refused alike.
    with pytest.raises(UserError, match=rf"^The image holds {kind}"):
        to_rgb(picture)


@pytest.mark.parametrize("photo", [["a.jpg"], 3, None])
def test_what_is_no_photograph_is_told_what_is(photo):
    with pytest.raises(UserError, match=rf"A {type(photo).__name__} is no photograph; give a path"):
        photo_pixels(photo)
