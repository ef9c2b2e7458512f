"""Augmentation and scaling of one example with boxes, in plain numpy and OpenCV.

An example is `image` (H, W, 3) uint8, `boxes` (N, 4) float32 (ymin, xmin, ymax, xmax) in shares
of the image's height and width, `label` (N,) int64 and `ignore` (N,) bool. A window is the part
of an image that is shown, (top, left, height, width) in its pixels; it may reach beyond. Windows
are drawn first and all pixels are sampled once, at the end.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from deeplab_mnv2.data.colours import distort_colours
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.detection.windows import (
    Window,
    boxes_in_window,
    crop_window,
    zoom_out_window,
)


def check_example(example: Mapping[str, Any], num_classes: int) -> None:
    """Check an example of any data set before it is trained on or scored.

    Raises:
        UserError: something is missing, of another shape or type, no class, or no box in the
            image.
    """
    name = example.get("name", "An example")
    image = example.get("image")
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or not image.size
    ):
        raise UserError(
            f"{name} has the image {_shown(image)}; the data set must give (H, W, 3) uint8."
        )
    label = example.get("label")
    count = label.size if isinstance(label, np.ndarray) else 0
    expected = {
        "label": ((count,), "iu"),
        "boxes": ((count, 4), "f"),
        "ignore": ((count,), "b"),
        "area": ((count,), "f"),
    }
    for key, (shape, kinds) in expected.items():
        array = example.get(key)
        if (
            not isinstance(array, np.ndarray)
            or array.shape != shape
            or array.dtype.kind not in kinds
        ):
            raise UserError(
                f"{name} has the {key} {_shown(array)}; the data set must give boxes (N, 4) and "
                "area (N,) as floats, label (N,) as integers and ignore (N,) as booleans."
            )
    label, boxes = example["label"], example["boxes"]
    if count and not 0 <= label.min() <= label.max() < num_classes:
        outside = label[(label < 0) | (label >= num_classes)][0]
        raise UserError(
            f"{name} holds the class {outside}, but there are {num_classes} classes (0 to "
            f"{num_classes - 1}); correct the labels or the class list."
        )
    inside = (boxes >= 0).all(axis=1) & (boxes <= 1).all(axis=1)
    sound = inside & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if not sound.all():
        raise UserError(
            f"{name} holds the box {boxes[~sound][0].tolist()}, which is no (ymin, xmin, ymax, "
            "xmax) in shares of the image's height and width; correct it."
        )


def augment(
    example: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    size: int,
    flip: bool,
    photometric: bool,
    crop: bool,
    zoom_out: float,
    mean_pixel: tuple[int, ...],
    max_boxes: int,
) -> dict[str, np.ndarray]:
    """Return a random `image` (size, size, 3) uint8 and its boxes as of `pad_boxes`.

    SSD's recipe (arXiv:1512.02325, Section 2.2 and 3.6): colours, with the probability `zoom_out`
    a larger image of the mean pixel around this one, a crop, and a flip in half of the cases. The
    aspect is not kept.
    """
    image = example["image"]
    shape = image.shape[0], image.shape[1]
    if photometric:
        # Before padding, whose grey has no colour of its own.
        image = distort_colours(image, rng)
    window, least = (0.0, 0.0, float(shape[0]), float(shape[1])), 0.0
    if rng.random() < zoom_out:
        window = zoom_out_window(rng, *shape)
    if crop:
        top, left, height, width = window
        boxes, _ = boxes_in_window(example["boxes"], shape, window, least)
        part, least = crop_window(rng, boxes, height, width)
        window = (top + part[0], left + part[1], part[2], part[3])
    # From the example's boxes, not from those that were rounded on the way.
    # What is to be ignored is never background, however little of it is shown.
    least = np.where(example["ignore"], 0.0, least)
    boxes, kept = boxes_in_window(example["boxes"], shape, window, least)
    image = resample(image, window, size, mean_pixel)
    if flip and rng.random() < 0.5:
        image, boxes = image[:, ::-1], flip_boxes(boxes)
    objects = {"boxes": boxes, "label": example["label"][kept], "ignore": example["ignore"][kept]}
    return {"image": np.ascontiguousarray(image), **pad_boxes(objects, max_boxes)}


def flip_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return boxes (N, 4) of an image that is turned left to right."""
    top, left, bottom, right = boxes.T
    return np.stack([top, 1 - right, bottom, 1 - left], axis=1)


def resample(
    image: np.ndarray,
    window: Window,
    size: int,
    mean_pixel: tuple[int, ...],
) -> np.ndarray:
    """Return a window of an image (H, W, 3) scaled to (size, size, 3), bilinearly.

    Pixel centres are at half integers. What lies outside the image is the mean pixel.
    """
    top, left, height, width = window
    step_y, step_x = height / size, width / size
    # From pixel of the result to pixel of the image.
    matrix = np.array([[step_x, 0, left + step_x / 2 - 0.5], [0, step_y, top + step_y / 2 - 0.5]])
    result = cv2.warpAffine(
        image,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # Replicated edges beyond the image become padding.
    rows = top + (np.arange(size) + 0.5) * step_y
    columns = left + (np.arange(size) + 0.5) * step_x
    result[(rows < 0) | (rows > image.shape[0])] = mean_pixel
    result[:, (columns < 0) | (columns > image.shape[1])] = mean_pixel
    return result


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Return an image (H, W, 3) uint8 as (size, size, 3) uint8, pixel centres at half integers."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def resize_legacy(image: np.ndarray, size: int) -> np.ndarray:
    """Return an image (H, W, 3) as (size, size, 3) float32 by TensorFlow 1's bilinear rule.

    `tf.image.resize_bilinear` with `align_corners=False`: pixel i of the result is at i times the
    ratio of sizes, so that nothing is centred, and the last row and column are repeated. In
    float32 and not rounded, as there; OpenCV places pixels at 32nds.
    """
    top, bottom, down = _legacy_places(image.shape[0], size)
    left, right, across = _legacy_places(image.shape[1], size)
    values = image.astype(np.float32)
    across = across[:, None]
    rows = [
        row[:, left] + (row[:, right] - row[:, left]) * across
        for row in (values[top], values[bottom])
    ]
    return rows[0] + (rows[1] - rows[0]) * down[:, None, None]


def pad_boxes(objects: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Return the first `count` objects, filled up with zeros, so that examples can be stacked.

    `boxes` (count, 4) float32, `label` (count,) int32, `ignore` (count,) bool, and `valid`
    (count,) bool, which is false for what fills up.
    """
    number = min(count, len(objects["label"]))
    padded = {
        "boxes": np.zeros((count, 4), np.float32),
        "label": np.zeros(count, np.int32),
        "ignore": np.zeros(count, bool),
    }
    for key, array in padded.items():
        array[:number] = objects[key][:number]
    return {**padded, "valid": np.arange(count) < number}


def _legacy_places(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two pixels that each pixel of the result is between, and how far along it is."""
    place = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    first = np.minimum(np.floor(place).astype(np.int64), old - 1)
    return first, np.minimum(first + 1, old - 1), place - first.astype(np.float32)


def _shown(array: Any) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype}{array.shape}"
    return type(array).__name__
