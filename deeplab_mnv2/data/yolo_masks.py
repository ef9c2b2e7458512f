"""Outlines in YOLO's layout as class ids: one text file an image."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.classes import BACKGROUND
from deeplab_mnv2.data.coco_outlines import fill_polygon
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.label_files import require_few, scaled_example
from deeplab_mnv2.data.lists import distinct_names, read_lines, read_object_names
from deeplab_mnv2.data.places import absent, place, require_folder
from deeplab_mnv2.data.split_part import chosen_part, part_of
from deeplab_mnv2.data.voc_boxes import images_below
from deeplab_mnv2.data.yolo import yolo_class
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.files import reason

# What rounding to a few digits leaves over.
_SLACK = 1e-3
# Characters of a line that an error shows.
_SHOWN = 80

# A class, and the corners (N, 2) of its outline, x and y in shares of the image.
Outline = tuple[int, np.ndarray]


@dataclasses.dataclass
class YoloMasks(Section):
    """Images and text files of outlines under `root`, as class ids.

    `images`, `labels` and `classes` are paths relative to `root`, in which `{split}` stands for
    the split, which is also a part of one: "all[:80%]". A line of a text file is
    `class x1 y1 x2 y2 x3 y3 ...`: the class's number from 0, and the outline's corners in shares
    of the image's width and height. An image without a text file has no objects. The classes are a
    background and `names`, or those of the file `classes`: `data.yaml`, or a text file with one a
    line. A first one called "background" is the background, and has the number 0. Where objects
    overlap, the smaller one is seen.

    `long_side` as in `folder.Folder`.
    """

    root: str = ""
    split: str = "train"
    images: str = "images/{split}"
    labels: str = "labels/{split}"
    classes: str = "data.yaml"
    # After the background; () takes those of the file.
    names: tuple[str, ...] = ()
    long_side: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        return _with_background(self._numbered_names())

    def open(self) -> "YoloMasksSource":
        """Find the images; they and their outlines are read when an example is asked for.

        Raises:
            UserError: a folder or the list of classes is missing, or there are no images.
        """
        split, low, high = part_of(self, self.split)
        images, labels = (place(self.root, name, split) for name in (self.images, self.labels))
        for folder in (images, labels):
            require_folder(folder, "set the data set's images and labels to the folders you have")
        found = images_below(images)
        if not found:
            raise UserError(f"{images} holds no images; add some or choose another split.")
        names = sorted(found)
        part = chosen_part([name.encode("utf-8", "surrogateescape") for name in names], low, high)
        chosen = tuple(names[index] for index in part)
        files = tuple(labels / f"{name}.txt" for name in chosen)
        if not any(path.is_file() for path in files):
            raise UserError(
                f"{labels} holds no text file of any image, such as {files[0].name}; set the data "
                "set's labels to the folder of its outlines."
            )
        numbered = self._numbered_names()
        class_names = require_few(_with_background(numbered))
        return YoloMasksSource(
            names=chosen,
            images=tuple(found[name] for name in chosen),
            labels=files,
            class_names=class_names,
            first=len(class_names) - len(numbered),
            long_side=self.long_side,
        )

    def digest(self) -> str:
        source = self.open()
        digest = hashlib.sha256("\n".join(source.class_names).encode())
        digest.update(f"\n{self.long_side}".encode())
        for index, name in enumerate(source.names):
            digest.update(f"\n{name}".encode("utf-8", "surrogateescape"))
            for label, corners in source.outlines(index):
                digest.update(f" {label} ".encode() + corners.tobytes())
        return digest.hexdigest()[:16]

    def _numbered_names(self) -> tuple[str, ...]:
        """Return the name of each number that a line can begin with."""
        if self.names:
            return self.names
        path = place(self.root, self.classes, "")
        if not os.path.isfile(path):
            raise UserError(absent(path, "file", "write the classes there, or set names"))
        if path.suffix in (".yaml", ".yml"):
            return read_yaml_names(path)
        return read_object_names(path)


def _with_background(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if names[0] == BACKGROUND else (BACKGROUND, *names)


@dataclasses.dataclass(frozen=True)
class YoloMasksSource:
    """Examples read from images and text files."""

    names: tuple[str, ...]
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    class_names: tuple[str, ...]
    # The class id of YOLO's number 0.
    first: int = 1
    long_side: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `image` (H, W, 3) uint8, `label` (H, W) uint8 and `name`.

        Raises:
            UserError: a file is damaged.
        """
        index = range(len(self))[index]  # an IndexError beyond the end
        image = read_image(self.images[index])
        height, width = image.shape[:2]
        label = np.zeros((height, width), np.uint8)
        masks = [
            (number, fill_polygon(corners * (width, height), height, width))
            for number, corners in self.outlines(index)
        ]
        for number, mask in sorted(masks, key=lambda pair: -pair[1].sum()):
            label[mask] = self.first + number
        return scaled_example(image, label, printable(self.names[index]), self.long_side)

    def outlines(self, index: int) -> list[Outline]:
        """Return the outlines of an image, none where there is no text file.

        Raises:
            UserError: the text file is damaged.
        """
        path = self.labels[index]
        return read_outlines(path, len(self.class_names) - self.first) if path.exists() else []


def read_outlines(path: Path, num_classes: int) -> list[Outline]:
    """Return the outlines in a text file of YOLO's.

    Raises:
        UserError: it cannot be read, or a line is no class and outline.
    """
    outlines = []
    for number, line in read_lines(path):
        where = f"{path}, line {number},"
        first, *rest = line.split()
        try:
            corners = np.array([float(part) for part in rest])
        except ValueError:
            corners = np.zeros(0)
        if len(corners) == 4:
            raise UserError(f"{where} is a box, not an outline; draw one, or train a detector.")
        if len(corners) < 6 or len(corners) % 2:
            raise UserError(
                f"{where} is {line[:_SHOWN]!r}; it must be a class and the x and y of three "
                "corners or more."
            )
        label = yolo_class(first, num_classes, where)
        if not ((corners >= -_SLACK) & (corners <= 1 + _SLACK)).all():
            raise UserError(
                f"{where} has a corner outside the image ({line[:_SHOWN]}); its numbers must be "
                "shares of the image's width and height, from 0 to 1."
            )
        outlines.append((label, corners.reshape(-1, 2)))
    return outlines


def read_yaml_names(path: Path) -> tuple[str, ...]:
    """Return the classes that a `data.yaml` names, as a list or by their numbers.

    Raises:
        UserError: it is no YAML, or does not name the classes.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML ({reason(error)}).") from error
    names = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(names, Mapping) and {*names} == {*range(len(names))}:
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(map(_is_name, names)):
        raise UserError(f"{path} has no list of names, one for each class from 0.")
    return distinct_names(path, names)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()
