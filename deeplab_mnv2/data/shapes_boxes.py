"""Embedded data set with boxes: the scenes of `data.shapes`, each object a box."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from deeplab_mnv2.data.boxes import as_objects, box_example
from deeplab_mnv2.data.shapes import Shapes, ShapesSource


@dataclasses.dataclass
class ShapesBoxes(Shapes):
    """Drawn scenes with boxes of 20 classes: 5 shapes in 4 hues.

    A box holds the pixels of an object that the label of `Shapes` shows: without its outline of
    one pixel, and without what another object hides.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        return super().class_names[1:]

    def open(self) -> "ShapesBoxesSource":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the scenes of the split.

        Raises:
            UserError: there is no such split, or a setting is out of range.
        """
        return ShapesBoxesSource(super().open())

    def digest(self) -> str:
        settings = repr(("boxes", *dataclasses.astuple(self)))
        return hashlib.sha256(settings.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ShapesBoxesSource:
    """Scenes by index, as `boxes.box_example` returns them."""

    scenes: ShapesSource

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene, objects = self.scenes.draw(index)
        boxes, label = [], []
        # An object that others hide wholly has no number in the picture.
        for number in np.unique(objects[objects > 0]):
            rows, columns = np.nonzero(objects == number)
            boxes.append((rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
            label.append(int(scene["label"][rows[0], columns[0]]) - 1)
        return box_example(scene["image"], as_objects(boxes, label), scene["name"])
