"""Boxes in YOLO's layout: one text file an image."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.boxes import Objects, as_objects, box_example, boxes_digest
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.lists import read_lines, read_object_names
from deeplab_mnv2.data.places import absent, place, require_folder
from deeplab_mnv2.data.voc_boxes import images_below
from deeplab_mnv2.errors import UserError, printable

# What rounding to a few digits leaves over.
_SLACK = 1e-3
# Characters of a line that an error shows.
_SHOWN = 80


@dataclasses.dataclass
class Yolo(Section):
    """Images and text files of boxes under `root`.

    `images`, `labels` and `classes` are paths relative to `root`, in which `{split}` stands for
    the split. A line of a text file is `class x y width height`: the class's number from 0, and
    the box's centre and size in shares of the image's. An image without a text file has no boxes.
    `classes` names a text file with one class a line, that of number 0 first.
    """

    root: str = ""
    split: str = "train"
    images: str = "images/{split}"
    labels: str = "labels/{split}"
    classes: str = "classes.txt"

    @property
    def class_names(self) -> tuple[str, ...]:
        path = self._place(self.classes)
        if not os.path.isfile(path):
            raise UserError(absent(path, "file", "write the classes there, one a line"))
        return read_object_names(path)

    def open(self) -> "YoloSource":
        """Find the images; they and their boxes are read when an example is asked for.

        Raises:
            UserError: a folder or the list of classes is missing, or there are no images or no
                boxes at all.
        """
        images, labels = self._place(self.images), self._place(self.labels)
        for folder in (images, labels):
            remedy = (
                "set the data set's root to a folder in YOLO's layout, or its images and labels "
                "to the folders you have"
            )
            require_folder(folder, remedy)
        found = images_below(images)
        if not found:
            raise UserError(f"{images} holds no images; add some or choose another split.")
        names = tuple(sorted(found))
        files = tuple(labels / f"{name}.txt" for name in names)
        if not any(path.is_file() for path in files):
            raise UserError(
                f"{labels} holds no text file of any image, such as {files[0].name}; set the data "
                "set's labels to the folder of its boxes."
            )
        return YoloSource(
            names=names,
            images=tuple(found[name] for name in names),
            labels=files,
            class_names=self.class_names,
        )

    def digest(self) -> str:
        source = self.open()
        objects = ((name, source.shares(i)) for i, name in enumerate(source.names))
        return boxes_digest(source.class_names, objects)

    def _place(self, name: str) -> Path:
        return place(self.root, name, self.split)


@dataclasses.dataclass(frozen=True)
class YoloSource:
    """Examples read from images and text files, see `boxes.box_example`."""

    names: tuple[str, ...]
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the example.

        Raises:
            UserError: a file is damaged.
        """
        index = range(len(self))[index]  # an IndexError beyond the end
        image = read_image(self.images[index])
        objects = _scaled(self.shares(index), image.shape[:2])
        return box_example(image, objects, printable(self.names[index]))

    def shares(self, index: int) -> Objects:
        """Return the objects of an image with boxes in shares of its height and width.

        Raises:
            UserError: the text file is damaged.
        """
        path = self.labels[index]
        return read_yolo_boxes(path, len(self.class_names)) if path.exists() else as_objects([], [])


def read_yolo_boxes(path: Path, num_classes: int) -> Objects:
    """Return the objects in a text file of YOLO's, with boxes in shares of the image's size.

    Boxes of no height or width are left out.

    Raises:
        UserError: it cannot be read, or a line is no class and box.
    """
    boxes, label = [], []
    for number, line in read_lines(path):
        where = f"{path}, line {number},"
        try:
            values = [float(part) for part in line.split()]
        except ValueError:
            values = []
        if len(values) > 5:
            raise UserError(
                f"{where} has {len(values)} numbers, as outlines or tracks have; leave the class "
                "and the four numbers of the box."
            )
        if len(values) != 5:
            raise UserError(
                f"{where} is {line[:_SHOWN]!r}; it must be a class and the box's x, y, width and "
                "height."
            )
        number_of_class = yolo_class(line.split()[0], num_classes, where)
        if not all(0 <= value <= 1 + _SLACK for value in values[1:]):
            raise UserError(
                f"{where} has a box outside the image ({line[:_SHOWN]}); its numbers must be "
                "shares of the image's width and height, from 0 to 1."
            )
        x, y, width, height = values[1:]
        if width and height:
            boxes.append((y - height / 2, x - width / 2, y + height / 2, x + width / 2))
            label.append(number_of_class)
    return as_objects(boxes, label)


def yolo_class(text: str, num_classes: int, where: str) -> int:
    """Return the class that a line begins with; `where` it stands.

    Raises:
        UserError: it is no number of a class.
    """
    if not re.fullmatch(r"\d{1,9}", text) or int(text) >= num_classes:
        raise UserError(
            f"{where} has the class {text[:_SHOWN]}, but there are {num_classes} "
            f"(0 to {num_classes - 1}); correct it or the list of classes."
        )
    return int(text)


def _scaled(shares: Objects, size: tuple[int, ...]) -> Objects:
    """Return objects in pixels of an image of some height and width."""
    return as_objects(shares.boxes * np.array(size * 2), shares.label)
