"""Files of images that are no photographs: of any number of bands, of 16 bits, in floats."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageOps

from deeplab_mnv2.data.bands import bands_of, read_bands
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.errors import UserError
from tests.support.band_files import made_bands, write_bands


@pytest.mark.parametrize("name", ["array.npy", "side by side.tif", "one by one.tif", "pages.tif"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_files_are_read_as_they_are(name, kind, tmp_path):
    image = made_bands(5, kind)
    found = read_bands(write_bands(tmp_path / name, image), 5)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pngs_keep_all_their_bits_and_bands(bands, kind, tmp_path):
    image = made_bands(bands, kind) * kind(1 if kind == np.uint8 else 257)
    np.testing.assert_array_equal(read_bands(write_bands(tmp_path / "a.png", image), bands), image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_bands_stand_upright_as_photographs_do(suffix, kind, orientation, tmp_path):
    stored, path = made_bands(1, kind)[..., 0], tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = Image.fromarray(stored)
    picture.save(path, exif=exif)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    upright = np.asarray(ImageOps.exif_transpose(picture))
    assert (upright.shape == stored.shape) == (orientation < 5)
    np.testing.assert_array_equal(read_bands(path, 1)[..., 0], upright)
    if kind == np.uint8:
        np.testing.assert_array_equal(read_image(path)[..., 0], upright)


def test_black_is_zero_also_where_a_tiff_says_that_white_is(tmp_path):
    image, path = made_bands(1), tmp_path / "negative.tif"
    tifffile.imwrite(path, 65_535 - image, photometric="miniswhite")
    np.testing.assert_array_equal(read_bands(path, 1), image)
    tifffile.imwrite(path, image.astype(np.float32), photometric="miniswhite")
    with pytest.raises(UserError, match=r"negative\.tif says that 0 is white, .* black at 0"):
        read_bands(path, 1)


@pytest.mark.parametrize("kind", [np.int16, np.int64, np.float64, np.float16])
def test_other_numbers_are_floats(kind, tmp_path):
    found = read_bands(write_bands(tmp_path / "a.npy", made_bands(2, kind)), 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, made_bands(2))


def test_a_colour_picture_is_grey_where_one_band_is_asked_for(tmp_path):
    grey = np.repeat(made_bands(1, np.uint8), 3, axis=-1)
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_bands(tmp_path / "a.png", 1), grey[..., :1])
    Image.fromarray(grey[..., 0]).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_bands(tmp_path / "b.png", 1), grey[..., :1])


def test_one_plane_alone_is_one_band(tmp_path):
    np.save(tmp_path / "a.npy", made_bands(1)[..., 0])
    assert read_bands(tmp_path / "a.npy", 1).shape == (12, 17, 1)


def _damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _palette(path: Path) -> None:
    colours = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(path, made_bands(1, np.uint8)[..., 0], photometric="palette", colormap=colours)


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("a.npy", lambda path: None, "a.npy does not exist"),
        (
            "a.npy",
            lambda path: np.save(path, made_bands(4)),
            "has 4 bands, but 5 are wanted; correct",
        ),
        ("a.npy", lambda path: np.save(path, np.zeros((5, 9, 9))), "save it as .height, width, ba"),
        ("a.npy", lambda path: np.save(path, np.zeros((9, 9, 5), bool)), "type bool, which is no"),
        ("a.npy", lambda path: np.save(path, np.zeros(9)), "an array of shape .9,."),
        ("a.npy", lambda path: np.save(path, np.array([{}])), "cannot be read as an image"),
        (
            "a.npy",
            lambda path: _damaged(write_bands(path, made_bands())),
            "cannot be read as an image",
        ),
        ("a.npy", lambda path: path.write_bytes(b""), "cannot be read as an image"),
        (
            "pages.tif",
            lambda path: _damaged(write_bands(path, made_bands())),
            "cannot be read as an image",
        ),
        ("a.tif", _palette, "has a palette"),
        (
            "a.npy",
            # A file with holes, which takes no room.
            lambda path: np.lib.format.open_memmap(path, "w+", "u1", (10_000, 20_000)),
            "lim",
        ),
    ],
)
def test_files_that_are_no_such_image_are_refused(name, make, sentence, tmp_path):
    make(tmp_path / name)
    with pytest.raises(UserError, match=sentence):
        read_bands(tmp_path / name, 5)


def test_photographs_are_told_from_bands(tmp_path):
    photograph = tmp_path / "photograph.tif"
    Image.fromarray(made_bands(3, np.uint8)).save(photograph)
    assert bands_of(photograph) == 0
    for name in ("array.npy", "side by side.tif", "one by one.tif"):
        assert bands_of(write_bands(tmp_path / name, made_bands())) == 5
    # Pillow opens these, and would pass over all bands but the first.
    with pytest.raises(UserError, match="more bands than a photograph"):
        read_image(tmp_path / "one by one.tif")
