"""Boxes drawn into a picture, with their class and score."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deeplab_mnv2.data.boxes import Objects
from deeplab_mnv2.data.palette import voc_palette
from deeplab_mnv2.tasks.detection.matches import Detections

_LABELLED = (255, 255, 255)


def draw_boxes(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    least_score: float,
    objects: Objects | None = None,
) -> np.ndarray:
    """Return the image (H, W, 3) uint8 with the boxes of `least_score` or more, in pixels.

    Each in the colour of its class, with name and score in percent, unless that is NaN; the given
    `objects`, if any, are thin and white, ignored ones dotted.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width = max(1, round(min(image.shape[:2]) / 150))
    font = ImageFont.load_default(size=max(10, round(min(image.shape[:2]) / 28)))
    if objects is not None:
        for box, ignored in zip(objects.boxes, objects.ignore, strict=True):
            _outline(draw, box, _LABELLED, max(1, width // 2), dotted=bool(ignored))
    # The surest last, on top of the others.
    for index in np.argsort(detections.scores, kind="stable"):
        if detections.scores[index] < least_score:
            continue
        label, box = int(detections.label[index]), detections.boxes[index]
        colour = _colour(label)
        _outline(draw, box, colour, width)
        text = class_names[label]
        if not np.isnan(detections.scores[index]):
            text += f" {100 * detections.scores[index]:.0f}"
        place = max(0.0, float(box[1])), max(0.0, float(box[0]))
        ends = draw.textbbox(place, text, font=font)
        draw.rectangle((ends[0] - 2, ends[1] - 1, ends[2] + 2, ends[3] + 1), fill=colour)
        light = sum(colour) > 3 * 128
        draw.text(place, text, fill=(0, 0, 0) if light else (255, 255, 255), font=font)
    return np.asarray(picture)


def _outline(
    draw: ImageDraw.ImageDraw,
    box: np.ndarray,
    colour: tuple[int, int, int],
    width: int,
    *,
    dotted: bool = False,
) -> None:
    top, left, bottom, right = (float(edge) for edge in box)
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    if not dotted:
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        return
    for x in np.arange(left, right, 6):
        draw.point([(x, top), (x, bottom)], fill=colour)
    for y in np.arange(top, bottom, 6):
        draw.point([(left, y), (right, y)], fill=colour)


def _colour(label: int) -> tuple[int, int, int]:
    """Return VOC's colour of a class; 0 is background there."""
    red, green, blue = voc_palette()[1 + label % 254].tolist()
    return red, green, blue
