"""Many small pictures on one page, each with its label painted over and a caption."""

import dataclasses
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.bands import in_colour
from deeplab_mnv2.tasks.segmentation.drawing import overlay

_COLUMNS, _SIDE, _GAP = 4, 320, 12
_LETTERS, _LINES, _LINE = 46, 4, 15
_INK, _PAPER, _EMPTY = (20, 20, 20), (255, 255, 255), (220, 220, 220)


@dataclasses.dataclass
class Tile:
    """An image (H, W, bands) and its label (H, W), either None where it cannot be read."""

    image: np.ndarray | None
    label: np.ndarray | None
    caption: str


def contact_sheet(tiles: Sequence[Tile]) -> Image.Image:
    """Return the tiles in rows; unlabelled pixels are white, a label alone stands on grey."""
    columns = max(1, min(_COLUMNS, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    width, height = _SIDE + _GAP, _SIDE + _LINES * _LINE + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for number, tile in enumerate(tiles):
        x = _GAP + number % columns * width
        y = _GAP + number // columns * height
        sheet.paste(_picture(tile), (x, y))
        lines = textwrap.wrap(tile.caption, _LETTERS, max_lines=_LINES, placeholder=" ...")
        draw.text((x, y + _SIDE + 2), "\n".join(lines), _INK, font, spacing=2)
    return sheet


def _picture(tile: Tile) -> Image.Image:
    """Return a tile as a square picture."""
    square = Image.new("RGB", (_SIDE, _SIDE), _EMPTY)
    image, label = tile.image, tile.label
    if image is None and label is None:
        draw = ImageDraw.Draw(square)
        draw.line([(0, 0), (_SIDE, _SIDE)], _PAPER, 3)
        draw.line([(0, _SIDE), (_SIDE, 0)], _PAPER, 3)
        return square
    if image is None:
        assert label is not None
        image = np.full((label.shape[0], label.shape[1], 3), _EMPTY, np.uint8)
    image = in_colour(image)
    if label is not None:
        height, width, _ = image.shape
        if label.shape != (height, width):
            resized = Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST)
            label = np.asarray(resized)
        image = overlay(image, label)
        image[label == IGNORE_LABEL] = 255
    picture = Image.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE))
    square.paste(picture, ((_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2))
    return square
