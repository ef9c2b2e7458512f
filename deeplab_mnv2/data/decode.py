"""Image and array files to arrays, refusing what would be trained on wrongly."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from deeplab_mnv2.errors import UserError

# What a caller may hold a photograph as.
Photo = str | os.PathLike[str] | Image.Image | np.ndarray

# 100 megapixels: above the largest camera, below what exhausts memory when decoded.
MAX_PIXELS = 100_000_000
# Pillow knows many more; one of them runs a PostScript interpreter on the file.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_SAMPLES_PER_PIXEL = 277
# What Pillow raises on damaged files, by format: broken PNG chunks are SyntaxErrors, absurd
# sizes ValueErrors or its own bomb error, wrong array sizes and offsets the rest.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    Image.DecompressionBombError,
    # Raised where warnings are errors.
    Image.DecompressionBombWarning,
)


def read_image(path: Path) -> np.ndarray:
    """Return a photograph as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Raises:
        UserError: the file is missing, no image, damaged, truncated or too large.
    """
    with open_image(path) as image:
        return to_rgb(image)


def photo_pixels(photo: Photo) -> np.ndarray:
    """Return a photograph as (H, W, 3) uint8 RGB.

    Raises:
        UserError: the file cannot be read, or the array is of another form.
    """
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise UserError(
                f"An array of shape {photo.shape} and type {photo.dtype} is no photograph; give "
                "(H, W, 3) uint8 RGB."
            )
        return photo
    if isinstance(photo, Image.Image):
        return to_rgb(photo)
    return read_image(photo_path(photo))


def photo_path(photo: str | os.PathLike[str]) -> Path:
    """Return the path of a photograph.

    Raises:
        UserError: it is neither a path nor anything else that is a photograph.
    """
    if not isinstance(photo, str | os.PathLike):
        raise UserError(
            f"A {type(photo).__name__} is no photograph; give a path, a PIL image or an array "
            "(H, W, 3) uint8, and several of them to batch()."
        )
    return Path(photo)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Return an image of any mode as (H, W, 3) uint8 RGB, upright by its EXIF orientation.

    Raises:
        UserError: it is a file that Pillow has opened, and finds damaged on reading it.
    """
    try:
        if has_more_bands(image):
            raise UserError(
                f"{image_name(image)} holds more bands than a "
                "photograph; read it with the data set's bands, or save red, green and blue."
            )
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            grey = _eight_bits(np.asarray(upright), dict(getattr(image, "tag_v2", {})))
            return np.repeat(grey[..., None], 3, axis=-1)
        if upright.mode in ("I", "F"):
            kind = "32-bit integers" if upright.mode == "I" else "floating-point numbers"
            raise UserError(
                f"{image_name(image)} holds {kind}, of which nothing "
                "says what is black and what is white; save it with 8 or 16 bits a sample."
            )
        return np.asarray(upright.convert("RGB"))
    except DAMAGE as error:
        raise damaged(image_name(image), error) from error


def image_name(image: Image.Image) -> str:
    """Return the file that an image was opened from, or that it is an image."""
    return getattr(image, "filename", "") or "The image"


def orientation(image: Image.Image) -> int:
    """Return how an image is stored, by EXIF's numbers: 1 is upright, 5 and above on its side."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def has_more_bands(image: Image.Image) -> bool:
    """Return whether a TIFF holds more bands than Pillow reads, which passes over the rest."""
    samples = dict(getattr(image, "tag_v2", {})).get(_SAMPLES_PER_PIXEL, 1)
    return samples > len(image.getbands())


def scale_down(
    pixels: np.ndarray, long_side: int, interpolation: int = cv2.INTER_AREA
) -> np.ndarray:
    """Return an image or label (H, W, ...) of at most `long_side` pixels a side; 0 is any."""
    longest = max(pixels.shape[:2])
    if not 0 < long_side < longest:
        return pixels
    size = [max(1, round(n * long_side / longest)) for n in pixels.shape[1::-1]]
    scaled = cv2.resize(pixels, size, interpolation=interpolation)
    # OpenCV drops the axis of a single band.
    return scaled.reshape(*scaled.shape[:2], *pixels.shape[2:])


def open_image(path: Path) -> Image.Image:
    """Return an image whose header, and for PNG whose checksums, are sound; not decoded yet.

    Raises:
        UserError: the file is missing, no image, damaged or too large; its cause says which.
    """
    try:
        return _open(lambda: path, str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path or the split's list.") from error


def decode_image(content: bytes, where: str) -> np.ndarray:
    """Return the content of an image file as `read_image` does; `where` it is from, for messages.

    Raises:
        UserError: it is no image, damaged, truncated or too large.
    """
    with _open(lambda: io.BytesIO(content), where) as image:
        try:
            return to_rgb(image)
        except UserError as error:
            # Pillow knows no name of what it reads from memory.
            raise UserError(str(error).replace("The image", where, 1)) from error


def _open(file: Callable[[], Path | io.BytesIO], where: str) -> Image.Image:
    try:
        with Image.open(file(), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            if image.format == "PNG":
                # Pillow decodes without a look at the checksums; one flipped bit is another class.
                image.verify()
        # Again, because a verified image is spent.
        image = Image.open(file(), formats=_FORMATS)
        if image.format == "TIFF" and orientation(image) > 4:
            # Pillow 13 maps uncompressed pixels into memory, by the name of the file, with height
            # and width of the turned image, which is garbled then.
            image.filename = ""
        return image
    except FileNotFoundError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{where} is above the limit of {MAX_PIXELS:,} pixels ({error}); scale it down first."
        ) from error
    except DAMAGE as error:
        raise damaged(where, error) from error


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return arrays of a NumPy archive (.npz) by name.

    Raises:
        UserError: the file is missing or damaged, or has no such array.
    """
    try:
        with np.load(path) as file:
            return {name: np.asarray(file[name]) for name in names}
    # NumPy passes on what its zip reader, decompressor and parser of Python raise.
    except Exception as error:
        reason = str(error).split("\n")[0][:100] or type(error).__name__
        raise UserError(f"{path} does not hold {', '.join(names)} ({reason}).") from error


def png_bit_depth(path: Path) -> int:
    """Return the bits a sample of a sound PNG file, from its header."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _eight_bits(grey: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    """Return 12- or 16-bit grey as 8 bits, where Pillow would clip it; `tags` are a TIFF's."""
    bits_per_sample, photometric = tags.get(258, (16,))[0], tags.get(262)
    scaled = grey.astype(np.float32) * (255 / (2**bits_per_sample - 1))
    # In the photometric interpretation 0, which Pillow leaves as it is, 0 is white.
    return (255 - scaled if photometric == 0 else scaled).clip(0, 255).astype(np.uint8)


def damaged(path: Path | str, error: BaseException) -> UserError:
    """Return the error of a file that Pillow cannot read."""
    reason = str(error).split("\n")[0][:200] or type(error).__name__
    return UserError(f"{path} cannot be read as an image ({reason}); replace or remove the file.")
