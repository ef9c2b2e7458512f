"""Boxes in COCO's own layout: one JSON file a split, and a folder of images."""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.boxes import Objects, box_example, boxes_digest, check_size
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.places import absent, place, require_folder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import reason

# Beyond this, what a number means can no longer be computed with.
_LARGEST = 1e9
# Characters of a value that an error shows.
_SHOWN = 80


@dataclasses.dataclass
class Coco(Section):
    """COCO, or any data set of boxes in its format, under `root`.

    `annotations` and `images` are paths relative to `root`, in which `{split}` stands for the
    split. Classes are the categories in the order of their ids. Crowds (`iscrowd`) are kept and
    ignored; images without boxes count. Boxes of no height or width, which COCO has a few of, are
    left out.
    """

    root: str = ""
    split: str = "val2017"
    annotations: str = "annotations/instances_{split}.json"
    images: str = "{split}"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.open().class_names

    def open(self) -> "CocoSource":
        """Read the annotations; images are read when an example is asked for.

        Raises:
            UserError: the file is missing or not in COCO's format, or there is no such folder.
        """
        path, images = (
            place(self.root, name, self.split) for name in (self.annotations, self.images)
        )
        if not os.path.isfile(path):
            remedy = (
                "set the data set's root to the folder that holds COCO's annotations and images, "
                "or its annotations to the file you have"
            )
            raise UserError(absent(path, "file", remedy))
        require_folder(images, "set the data set's images to the folder of its images")
        status = path.stat()
        # Read again where it has changed: class names, digest and examples ask one by one.
        return _read(path, images, status.st_mtime_ns, status.st_size)

    def digest(self) -> str:
        source = self.open()
        objects = ((name, source.annotation(i)) for i, name in enumerate(source.names))
        return boxes_digest(source.class_names, objects)


@dataclasses.dataclass(frozen=True)
class CocoSource:
    """Examples of a COCO file in the order of the images' ids, see `boxes.box_example`.

    `category_ids` are those of the classes, `image_ids` those of the images, as results in COCO's
    format name them. Objects i to j of `objects` are those of image n, where i and j are
    `starts[n]` and `starts[n + 1]`. `empty_boxes` were left out.
    """

    file: Path
    folder: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: tuple[int, ...]
    names: tuple[str, ...]
    # Height and width, 0 where the file does not say.
    sizes: tuple[tuple[int, int], ...]
    objects: Objects
    starts: np.ndarray
    empty_boxes: int

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the example.

        Raises:
            UserError: the image is missing or damaged, or has another size than the file says.
        """
        index = range(len(self))[index]  # an IndexError beyond the end
        path = self.folder / self.names[index]
        image = read_image(path)
        check_size(image, self.sizes[index], path, self.file)
        return box_example(image, self.annotation(index), self.names[index])

    def annotation(self, index: int) -> Objects:
        """Return the objects of an image, which is not read, in the order of the file."""
        index = range(len(self))[index]
        return self.objects.select(np.arange(self.starts[index], self.starts[index + 1]))


@functools.lru_cache(maxsize=4)
def _read(path: Path, folder: Path, modified: int, size: int) -> CocoSource:
    content = _load(path)
    categories, images, annotations = (
        _entries(content, key, path) for key in ("categories", "images", "annotations")
    )
    names: dict[int, str] = {}
    for where, entry in categories:
        number, name = _id(entry, "id", where), entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{where} has no name; give the category one.")
        if number in names or name in names.values():
            raise UserError(f"{where} has the id or name of another one; give each its own.")
        names[number] = name
    files: dict[int, tuple[str, tuple[int, int]]] = {}
    for where, entry in images:
        number = _id(entry, "id", where)
        if number in files:
            raise UserError(f"{where} has the id {number}, as another one has; give each its own.")
        files[number] = _file_name(entry, where), _size(entry, where)
    if not names or not files:
        lacking = "images" if names else "categories"
        raise UserError(f"{path} holds no {lacking}; add some or choose another file.")
    category_ids, image_ids = tuple(sorted(names)), tuple(sorted(files))
    labels = {number: label for label, number in enumerate(category_ids)}
    places = {number: place for place, number in enumerate(image_ids)}
    rows = np.array([_row(entry, where, labels, places) for where, entry in annotations])
    rows = rows.reshape(-1, 8)
    whole = (rows[:, 4:6] > rows[:, 2:4]).all(axis=1)
    kept = rows[whole]
    # Stable, so that objects keep the order of the file.
    kept = kept[np.argsort(kept[:, 0], kind="stable")]
    return CocoSource(
        file=path,
        folder=folder,
        class_names=tuple(names[number] for number in category_ids),
        category_ids=category_ids,
        image_ids=image_ids,
        names=tuple(files[number][0] for number in image_ids),
        sizes=tuple(files[number][1] for number in image_ids),
        objects=Objects(
            kept[:, 2:6], kept[:, 1].astype(np.int64), kept[:, 7] > 0, kept[:, 6].copy()
        ),
        starts=np.searchsorted(kept[:, 0], np.arange(len(image_ids) + 1)),
        empty_boxes=int((~whole).sum()),
    )


def _load(path: Path) -> Mapping[str, Any]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = json.load(file, object_hook=_without_outline)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({reason(error)}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object, as COCO's files do.")
    return content


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    # Outlines are nine tenths of COCO's file, and gigabytes once read.
    entry.pop("segmentation", None)
    return entry


def _entries(
    content: Mapping[str, Any], key: str, path: Path
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the entries of a list, each with how an error names it."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise UserError(f"{path} has no list of {key}, as COCO's files have.")
    singular = {"categories": "category"}.get(key, key[:-1])
    named = []
    for position, entry in enumerate(entries):
        where = f"{path}, {singular} {position},"
        if not isinstance(entry, dict):
            raise UserError(f"{where} is no JSON object; correct or remove it.")
        named.append((where, entry))
    return named


def _row(
    entry: Mapping[str, Any], where: str, labels: Mapping[int, int], places: Mapping[int, int]
) -> tuple[float, ...]:
    """Return the image's place, the class, the box, the area, and whether it is a crowd."""
    image, category = _id(entry, "image_id", where), _id(entry, "category_id", where)
    for key, number, known in (("image_id", image, places), ("category_id", category, labels)):
        if number not in known:
            raise UserError(
                f"{where} has the {key} {number}, which the file does not list; add or correct it."
            )
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise UserError(
            f"{where} has the bbox {str(box)[:_SHOWN]}; it must be four numbers: x, y, width and "
            "height in pixels."
        )
    left, top, width, height = map(float, box)
    if width < 0 or height < 0:
        raise UserError(
            f"{where} has the bbox {box}, of a negative size; it must be x, y, width and height."
        )
    area, crowd = entry.get("area", width * height), entry.get("iscrowd", 0)
    if not _is_number(area) or area < 0:
        raise UserError(
            f"{where} has the area {str(area)[:_SHOWN]}; it must be a number of pixels."
        )
    if crowd not in (0, 1):
        raise UserError(f"{where} has iscrowd {str(crowd)[:_SHOWN]}; it must be 0 or 1.")
    edges = (top, left, top + height, left + width)
    return (places[image], labels[category], *edges, float(area), float(crowd))


def _id(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise UserError(f"{where} has the {key} {str(value)[:_SHOWN]}; it must be a whole number.")
    if abs(value) >= 2**63:
        raise UserError(f"{where} has a {key} of more than 63 bits; number from 1.")
    return value


def _file_name(entry: Mapping[str, Any], where: str) -> str:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        raise UserError(f"{where} has no file_name; add it.")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{where} has the file_name {name[:_SHOWN]!r}, which is outside the folder of images; "
            "make it a path below that folder."
        )
    return name


def _size(entry: Mapping[str, Any], where: str) -> tuple[int, int]:
    sides = entry.get("height", 0), entry.get("width", 0)
    if not all(type(side) is int and 0 <= side < _LARGEST for side in sides):
        raise UserError(f"{where} has a height or width that is no number of pixels; correct it.")
    return sides


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Of whole numbers too large for a float, the comparison comes first.
    return is_number and -_LARGEST < value < _LARGEST and math.isfinite(value)
