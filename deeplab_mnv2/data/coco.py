"""Boxes in COCO's own layout: one JSON file a split, and a folder of images."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.boxes import Objects, box_example, boxes_digest, check_size
from deeplab_mnv2.data.coco_file import SHOWN, CocoFile, is_number, read_coco
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.places import absent, place, require_folder
from deeplab_mnv2.errors import UserError


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
    found = read_coco(path, _without_outline)
    category_ids, image_ids = tuple(found.categories), tuple(found.images)
    labels = {number: label for label, number in enumerate(category_ids)}
    places = {number: place for place, number in enumerate(image_ids)}
    rows = np.array(
        [_row(found, entry, where, labels, places) for where, entry in found.annotations]
    )
    rows = rows.reshape(-1, 8)
    whole = (rows[:, 4:6] > rows[:, 2:4]).all(axis=1)
    kept = rows[whole]
    # Stable, so that objects keep the order of the file.
    kept = kept[np.argsort(kept[:, 0], kind="stable")]
    return CocoSource(
        file=path,
        folder=folder,
        class_names=tuple(found.categories.values()),
        category_ids=category_ids,
        image_ids=image_ids,
        names=tuple(name for name, _ in found.images.values()),
        sizes=tuple(size for _, size in found.images.values()),
        objects=Objects(
            kept[:, 2:6], kept[:, 1].astype(np.int64), kept[:, 7] > 0, kept[:, 6].copy()
        ),
        starts=np.searchsorted(kept[:, 0], np.arange(len(image_ids) + 1)),
        empty_boxes=int((~whole).sum()),
    )


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    # Outlines are nine tenths of COCO's file, and gigabytes once read.
    entry.pop("segmentation", None)
    return entry


def _row(
    file: CocoFile,
    entry: Mapping[str, Any],
    where: str,
    labels: Mapping[int, int],
    places: Mapping[int, int],
) -> tuple[float, ...]:
    """Return the image's place, the class, the box, the area, and whether it is a crowd."""
    image, category = file.owners(entry, where)
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise UserError(
            f"{where} has the bbox {str(box)[:SHOWN]}; it must be four numbers: x, y, width and "
            "height in pixels."
        )
    left, top, width, height = map(float, box)
    if width < 0 or height < 0:
        raise UserError(
            f"{where} has the bbox {box}, of a negative size; it must be x, y, width and height."
        )
    area, crowd = entry.get("area", width * height), entry.get("iscrowd", 0)
    if not is_number(area) or area < 0:
        raise UserError(f"{where} has the area {str(area)[:SHOWN]}; it must be a number of pixels.")
    if crowd not in (0, 1):
        raise UserError(f"{where} has iscrowd {str(crowd)[:SHOWN]}; it must be 0 or 1.")
    edges = (top, left, top + height, left + width)
    return (places[image], labels[category], *edges, float(area), float(crowd))
