"""Image and label files to arrays, refusing what would be trained on wrongly."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.errors import UserError

# 100 megapixels: above the largest camera, below what exhausts memory when decoded.
MAX_PIXELS = 100_000_000
# What Pillow raises on damaged files, by format: broken PNG chunks are SyntaxErrors, absurd
# sizes ValueErrors or its own bomb error, wrong array sizes and offsets the rest.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    Image.DecompressionBombError,
)


def read_image(path: Path) -> np.ndarray:
    """Return a photograph as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Raises:
        UserError: the file is missing, no image, damaged, truncated or too large.
    """
    with _open(path) as image:
        try:
            image = ImageOps.exif_transpose(image)
            if image.mode in ("I;16", "I;16B", "I;16L", "I"):
                # Pillow clips 16-bit grey to 255; scale it instead.
                grey = (np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=-1)
            return np.asarray(image.convert("RGB"))
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def read_label(path: Path, num_classes: int) -> np.ndarray:
    """Return class ids (H, W) uint8, 255 unlabelled, from a palette or grey PNG.

    Raises:
        UserError: the file is missing or damaged, is in colour, or holds an id that is
            neither a class nor 255.
    """
    with _open(path) as image:
        if image.mode not in ("P", "L"):
            raise UserError(
                f"{path} is a label in mode {image.mode}, not class ids; save it as an 8-bit "
                "palette or grey PNG whose values are 0 to num_classes - 1, or 255."
            )
        try:
            label = np.asarray(image)
        except _DAMAGE as error:
            raise _damaged(path, error) from error
    outside = (label >= num_classes) & (label != IGNORE_LABEL)
    if outside.any():
        raise UserError(
            f"{path} holds the label id {label[outside][0]}, but there are {num_classes} classes "
            f"(0 to {num_classes - 1}, and 255 for unlabelled); correct the file or the class list."
        )
    return label


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path or the split's list.") from error
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise UserError(
            f"{path} has {image.width} x {image.height} pixels, above the limit of "
            f"{MAX_PIXELS:,}; scale it down first."
        )
    return image


def _damaged(path: Path, error: BaseException) -> UserError:
    reason = str(error).split("\n")[0] or type(error).__name__
    return UserError(f"{path} cannot be read as an image ({reason}); replace or remove the file.")
