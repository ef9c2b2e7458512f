"""Pictures of labels and predictions."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.encode import encoded
from deeplab_mnv2.data.palette import voc_palette

_RED, _BLUE, _WHITE, _BLACK = (230, 40, 40), (60, 130, 240), (255, 255, 255), (0, 0, 0)
# Height of a legend's text in pixels, however small the picture.
_LEAST_TEXT = 12


def colourize(label: np.ndarray) -> np.ndarray:
    """Return class ids (H, W) in VOC's colours (H, W, 3) uint8."""
    return voc_palette()[label]


def overlay(image: np.ndarray, label: np.ndarray, *, opacity: float = 0.6) -> np.ndarray:
    """Return the image (H, W, 3) uint8 with its classes painted over; background stays bare."""
    painted = (1 - opacity) * image + opacity * colourize(label)
    bare = (label == 0) | (label == IGNORE_LABEL)
    return np.where(bare[..., None], image, painted.astype(np.uint8))


def add_legend(picture: Image.Image, classes: Sequence[tuple[int, str]]) -> Image.Image:
    """Return a picture with a strip below it that names classes, by their ids, in VOC's colours.

    The strip has as many lines as the names take; the text grows with the picture.
    """
    if not classes:
        return picture
    size = max(_LEAST_TEXT, min(picture.size) // 28)
    font = ImageFont.load_default(size=size)
    line, gap = 2 * size, size // 2
    # Where each name begins: left edge and number of the line.
    places, left, row = [], gap, 0
    for _, name in classes:
        width = round(size + gap + font.getlength(name) + 2 * gap)
        if left > gap and left + width > picture.width:
            left, row = gap, row + 1
        places.append((left, row))
        left += width
    whole = Image.new("RGB", (picture.width, picture.height + (row + 1) * line), _WHITE)
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for (index, name), (left, row) in zip(classes, places, strict=True):
        top = picture.height + row * line + gap
        colour = tuple(voc_palette()[index].tolist())
        draw.rectangle((left, top, left + size, top + size), fill=colour)
        draw.text((left + size + gap, top + size / 2), name, _BLACK, font, anchor="lm")
    return whole


def errors(image: np.ndarray, label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return a dimmed image (H, W, 3) with wrong pixels red and unlabelled ones white."""
    dimmed = (image // 2).astype(np.uint8)
    dimmed[(label != prediction) & (label != IGNORE_LABEL)] = _RED
    dimmed[label == IGNORE_LABEL] = _WHITE
    return dimmed


def strip(image: np.ndarray, label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return image (H, W, 3), label and prediction (H, W) side by side: (H, 3 W, 3) uint8."""
    return np.concatenate([image, colourize(label), colourize(prediction)], axis=1)


def photo_uri(image: np.ndarray, height: int) -> str:
    """Return an image (H, W, 3) as a JPEG `data:` address, scaled down to `height` pixels."""
    return _uri(_shrink(Image.fromarray(image), height, Image.Resampling.LANCZOS), "JPEG")


def class_layer_uri(label: np.ndarray, height: int, *, opacity: float = 0.6) -> str:
    """Return class ids (H, W) as a PNG `data:` address to lay over the image.

    Classes are translucent in their colour, background transparent, unlabelled pixels white.
    """
    palette = voc_palette()
    palette[IGNORE_LABEL] = _WHITE
    alpha = np.full(256, round(255 * opacity), np.uint8)
    alpha[0] = 0
    return _layer_uri(label, palette, alpha, height)


def error_layer_uri(label: np.ndarray, prediction: np.ndarray, height: int) -> str:
    """Return wrong pixels red and unlabelled ones white as a PNG `data:` address to lay over."""
    kind = np.where(label == IGNORE_LABEL, 2, label != prediction).astype(np.uint8)
    return _kinds_uri(kind, [_RED, _WHITE], height)


def change_layer_uri(label: np.ndarray, first: np.ndarray, second: np.ndarray, height: int) -> str:
    """Return what the second prediction mends in blue and breaks in red, to lay over.

    Labelled pixels that only the second, or only the first, has right; a PNG `data:` address.
    """
    labelled = label != IGNORE_LABEL
    kind = np.zeros(label.shape, np.uint8)
    kind[labelled & (second == label) & (first != label)] = 1
    kind[labelled & (first == label) & (second != label)] = 2
    return _kinds_uri(kind, [_BLUE, _RED], height)


def _kinds_uri(kind: np.ndarray, colours: list[tuple[int, int, int]], height: int) -> str:
    """Return kinds 1, 2, ... in their colours; kind 0 is transparent."""
    palette = np.array([(0, 0, 0), *colours], np.uint8)
    alpha = np.full(len(palette), 230, np.uint8)
    alpha[0] = 0
    return _layer_uri(kind, palette, alpha, height)


def _layer_uri(index: np.ndarray, palette: np.ndarray, alpha: np.ndarray, height: int) -> str:
    # Only the colours in use: a whole palette would outweigh the picture.
    used = np.flatnonzero(np.bincount(index.ravel()))
    position = np.zeros(256, np.uint8)
    position[used] = np.arange(len(used))
    picture = Image.fromarray(position[index])
    picture.putpalette(palette[used].tobytes())
    picture = _shrink(picture, height, Image.Resampling.NEAREST)
    return _uri(picture, "PNG", transparency=alpha[used].tobytes(), optimize=True)


def _shrink(picture: Image.Image, height: int, resampling: Image.Resampling) -> Image.Image:
    if picture.height <= height:
        return picture
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), resampling)


def _uri(picture: Image.Image, kind: str, **options: Any) -> str:
    code = base64.b64encode(encoded(picture, kind, **options)).decode()
    return f"data:image/{kind.lower()};base64,{code}"
