"""Images that are no photographs: grey, with near infrared, multispectral, of 16 bits or in floats.

Files are read as they are, from `.npy`, TIFF, PNG and the other formats of images. A network sees
grey levels 0 to 255 in all of its channels (`grey_levels`), as it does of photographs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from deeplab_mnv2.config import BackboneConfig, DeepLabConfig
from deeplab_mnv2.data.decode import (
    DAMAGE,
    MAX_PIXELS,
    Photo,
    damaged,
    has_more_bands,
    image_name,
    open_image,
    orientation,
    photo_path,
    photo_pixels,
    png_bit_depth,
    read_image,
)
from deeplab_mnv2.data.photographs import IMAGE_SUFFIXES
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import optional_module

_ARRAY, _TIFF = ".npy", (".tif", ".tiff")
SUFFIXES = (*IMAGE_SUFFIXES, _ARRAY)
# Modes of Pillow whose samples are bands; of any other they are made colours first.
_PLAIN = ("L", "LA", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "I;16L", "I;16B")
# What turns an image (H, W, ...) upright, by its orientation in EXIF and TIFF; 1 is upright.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def read_bands(path: Path, bands: int) -> np.ndarray:
    """Return an image file as (H, W, bands), uint8, uint16 or otherwise float32.

    A colour picture where one band is asked for becomes grey; 0 is a photograph (`read_image`).

    Raises:
        UserError: the file is missing, damaged, too large, or has another number of bands.
    """
    return _with_bands(_read(path), bands, str(path)) if bands else read_image(path)


def bands_of(path: Path) -> int:
    """Return how many bands an image file has that is no photograph, 0 for a photograph.

    Raises:
        UserError: the file is damaged.
    """
    suffix = path.suffix.lower()
    if suffix == _ARRAY:
        shape = _map_array(path).shape
        return shape[2] if len(shape) == 3 else 1
    if suffix not in _TIFF:
        return 0
    try:
        with open_image(path) as image:
            is_photograph = image.mode not in ("RGBX", "F", "I") and not has_more_bands(image)
    except UserError:
        # Of a form that Pillow does not know, or damaged: then reading it says so.
        return _read(path).shape[2]
    return 0 if is_photograph else _read(path).shape[2]


def suffixes_for(config: BackboneConfig) -> tuple[str, ...]:
    """Return the suffixes of the files that a network takes: of photographs, or of bands too."""
    return IMAGE_SUFFIXES if _takes_photographs(config) else SUFFIXES


def network_image(photo: Photo, config: BackboneConfig) -> np.ndarray:
    """Return what a network sees of an image: (H, W, in_channels) uint8, grey levels.

    Of 3 channels and no `value_range` that is a photograph (`decode.photo_pixels`).

    Raises:
        UserError: the file cannot be read, or the image is of another form.
    """
    in_memory = isinstance(photo, np.ndarray | Image.Image)
    is_array_file = not in_memory and photo_path(photo).suffix.lower() == _ARRAY
    if _takes_photographs(config) and not is_array_file:
        return photo_pixels(photo)
    if isinstance(photo, np.ndarray):
        found, where = _checked(photo, "The array"), "The array"
    elif isinstance(photo, Image.Image):
        found, where = _samples(photo), image_name(photo)
    else:
        found, where = _read(Path(photo)), str(photo)
    found = _with_bands(found, config.in_channels, where)
    return grey_levels(found, _value_range(config), where)


def grey_levels(image: np.ndarray, value_range: Sequence[float], where: str) -> np.ndarray:
    """Return an image of any range as uint8, which 8 bits are already.

    `value_range` are the values that become 0 and 255, in a straight line; those beyond are cut.
    Without it, these are 0 and 65,535 of 16 bits; of other numbers nothing says what they are.

    Raises:
        UserError: the range is missing, or is not for such an image, or a value is not a number.
    """
    if image.dtype == np.uint8:
        if value_range:
            raise UserError(
                f"{where} has 8 bits a sample, but model.value_range={tuple(value_range)} is for "
                "images of more; save it as the others are, or set model.value_range=()."
            )
        return image
    if not value_range and image.dtype != np.uint16:
        raise UserError(
            f"{where} holds numbers of type {image.dtype}, of which nothing says what is black and "
            "what is white; set model.value_range to both, such as 0.0,1.0."
        )
    if np.isnan(image).any():
        raise UserError(
            f"{where} holds pixels that are not a number; give them a value within "
            "model.value_range, and their label 255."
        )
    low, high = value_range or (0, 65_535)
    scaled = (image.astype(np.float32) - low) * (255 / (high - low))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def to_grey(image: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) as (H, W, 1), by the luma of its colours."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def in_colour(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, bands) as a picture (H, W, 3) uint8: the first three bands, or grey.

    Other types than uint8 are stretched between their lowest and highest percent of values.
    """
    shown = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    if shown.dtype == np.uint8:
        return shown
    low, high = np.nanpercentile(shown, (1, 99))
    scaled = (np.nan_to_num(shown, nan=low) - low) * (255 / max(high - low, 1e-6))
    return scaled.clip(0, 255).astype(np.uint8)


def _takes_photographs(config: BackboneConfig) -> bool:
    return config.in_channels == 3 and not _value_range(config)


def _value_range(config: BackboneConfig) -> tuple[float, ...]:
    return config.value_range if isinstance(config, DeepLabConfig) else ()


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the path or the split's list.")
    suffix = path.suffix.lower()
    if suffix == _ARRAY:
        return _checked(_map_array(path), str(path))
    if suffix in _TIFF:
        return _read_tiff(path)
    try:
        with open_image(path) as image:
            # Pillow drops the lower half of 16 bits in colour.
            if image.format == "PNG" and png_bit_depth(path) == 16:
                return _read_wide_png(path, orientation(image))
            return _samples(image)
    except DAMAGE as error:
        raise damaged(path, error) from error


def _map_array(path: Path) -> np.ndarray:
    """Return the array in a file, of which only the form is read before its values are asked for.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise damaged(path, error) from error


def _read_tiff(path: Path) -> np.ndarray:
    """Return the bands of a TIFF, stored side by side or one after the other."""
    tifffile = optional_module("tifffile", extra="bands")
    try:
        with tifffile.TiffFile(path) as file:
            series, page = file.series[0], file.pages[0]
            if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
                raise UserError(f"{path} has a palette and no bands; save it without.")
            axes = series.axes
            _check_size(series.shape[axes.index("Y")], series.shape[axes.index("X")], path)
            array, turned = series.asarray(), int(page.tags.valueof("Orientation", 1))
            if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
                array = _black_at_zero(array, page.bitspersample, path)
    except UserError:
        raise
    # What decoders of damaged files raise has no end.
    except Exception as error:
        raise damaged(path, error) from error
    image = np.moveaxis(array, (axes.index("Y"), axes.index("X")), (0, 1))
    return _checked(_upright(image.reshape(*image.shape[:2], -1), turned), str(path))


def _black_at_zero(array: np.ndarray, bits: int, path: Path) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.unsignedinteger):
        raise UserError(
            f"{path} says that 0 is white, of numbers of type {array.dtype}, of which nothing says "
            "what is black; save it with black at 0."
        )
    return array.dtype.type(2**bits - 1) - array


def _upright(image: np.ndarray, turned: int) -> np.ndarray:
    return _UPRIGHT[turned](image) if turned in _UPRIGHT else image


def _read_wide_png(path: Path, turned: int) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise OSError("it cannot be decoded")
    if image.ndim == 3:
        code = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
        image = cv2.cvtColor(image, code)
    return _checked(_upright(image, turned), str(path))


def _samples(image: Image.Image) -> np.ndarray:
    upright = ImageOps.exif_transpose(image)
    if upright.mode not in _PLAIN:
        upright = upright.convert("RGB")
    return _checked(np.asarray(upright), image_name(image))


def _checked(image: np.ndarray, where: str) -> np.ndarray:
    """Return an array (H, W) or (H, W, bands) with its bands, in one of few types."""
    is_number = np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)
    if image.ndim not in (2, 3) or not image.size or not is_number:
        raise UserError(
            f"{where} is an array of shape {image.shape} and type {image.dtype}, which is "
            "no image; give numbers (height, width, bands)."
        )
    height, width = image.shape[:2]
    _check_size(height, width, where)
    kind = image.dtype if image.dtype in (np.uint8, np.uint16) else np.float32
    # A copy: the array may be a file that is only looked at.
    return np.array(image.reshape(height, width, -1), kind)


def _check_size(height: int, width: int, where: Path | str) -> None:
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{where} is above the limit of {MAX_PIXELS:,} pixels ({width} x {height}); cut it "
            "into smaller ones first."
        )


def _with_bands(image: np.ndarray, bands: int, where: str) -> np.ndarray:
    found = image.shape[2]
    if found == bands:
        return image
    if bands == 1 and found == 3:
        return to_grey(image)
    if image.shape[0] == bands:
        remedy = "save it as (height, width, bands)"
    else:
        remedy = "correct the file, or the data set's bands and model.in_channels"
    raise UserError(f"{where} has {found} bands, but {bands} are wanted; {remedy}.")
