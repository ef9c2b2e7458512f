"""Objects in images as boxes: what every data set of boxes says of an image."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.errors import UserError


@dataclasses.dataclass(frozen=True)
class Objects:
    """The N objects of an image.

    `boxes` (N, 4) float64 are (ymin, xmin, ymax, xmax) in pixels, as edges and not as pixel
    numbers. `label` (N,) int64 are the classes from 0, `ignore` (N,) bool marks what need not be
    found, `area` (N,) float64 is in square pixels.
    """

    boxes: np.ndarray
    label: np.ndarray
    ignore: np.ndarray
    area: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.label)
        shapes = [array.shape for array in (self.boxes, self.label, self.ignore, self.area)]
        if shapes != [(count, 4), *[(count,)] * 3]:
            raise ValueError(
                f"Boxes (N, 4) and what is said of them (N,) have the shapes {shapes}."
            )

    def select(self, chosen: np.ndarray) -> "Objects":
        """Return the objects that a mask (N,) or indices choose."""
        return Objects(
            self.boxes[chosen], self.label[chosen], self.ignore[chosen], self.area[chosen]
        )


def as_objects(
    boxes: Sequence[Sequence[float]] | np.ndarray,
    label: Sequence[int] | np.ndarray,
    ignore: Sequence[bool] | np.ndarray | None = None,
    area: Sequence[float] | np.ndarray | None = None,
) -> Objects:
    """Return objects; by default all are to be found, and have the area of their boxes."""
    edges = np.asarray(boxes, np.float64).reshape(-1, 4)
    return Objects(
        edges,
        np.asarray(label, np.int64),
        np.zeros(len(edges), bool) if ignore is None else np.asarray(ignore, bool),
        box_areas(edges) if area is None else np.asarray(area, np.float64),
    )


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_example(image: np.ndarray, objects: Objects, name: str) -> dict[str, Any]:
    """Return an example of detection, without the boxes of which the image shows nothing.

    `image` (H, W, 3) uint8, `boxes` (N, 4) float32 in shares of its height and width and clipped
    to it, `label`, `ignore` and `area` (N,), `name`; and `pixel_boxes` (N, 4) float64, the boxes
    as the data set has them, by which detections are scored.
    """
    size = np.array(image.shape[:2] * 2, np.float64)
    boxes = np.clip(objects.boxes / size, 0, 1).astype(np.float32)
    shown = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    objects = objects.select(shown)
    return {
        "image": image,
        "boxes": boxes[shown],
        "label": objects.label,
        "ignore": objects.ignore,
        "area": objects.area,
        "name": name,
        "pixel_boxes": objects.boxes,
    }


def objects_of(example: Mapping[str, Any]) -> Objects:
    """Return the objects of an example, by which detections are scored.

    Of a data set that gives no `pixel_boxes`, the boxes are those in shares of the image.
    """
    boxes = example.get("pixel_boxes")
    if boxes is None:
        boxes = example["boxes"].astype(np.float64) * (example["image"].shape[:2] * 2)
    return Objects(boxes, example["label"], example["ignore"], example["area"])


def boxes_digest(class_names: Sequence[str], images: Iterable[tuple[str, Objects]]) -> str:
    """Return 16 hex digits of the classes and, in order, the images' names and objects."""
    digest = hashlib.sha256(repr(tuple(class_names)).encode("utf-8", "surrogateescape"))
    for name, objects in images:
        digest.update(b"\n" + name.encode("utf-8", "surrogateescape") + b"\n")
        for array in (objects.boxes, objects.label, objects.ignore, objects.area):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def check_size(image: np.ndarray, size: tuple[int, int], path: Path, annotations: Path) -> None:
    """Check that an image has the height and width that its annotation says; (0, 0) says nothing.

    Raises:
        UserError: it has another size, so its boxes are of another image.
    """
    height, width = image.shape[:2]
    if all(size) and size != (height, width):
        raise UserError(
            f"{path} is {width} x {height} pixels, but {annotations} has it as {size[1]} x "
            f"{size[0]}; use the image that the boxes were drawn in, or correct the size there."
        )
