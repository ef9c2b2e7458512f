"""Outlines in COCO's format as class ids: one JSON file a split, and a folder of images."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.boxes import check_size
from deeplab_mnv2.data.classes import BACKGROUND
from deeplab_mnv2.data.coco_file import SHOWN, CocoFile, is_number, read_coco
from deeplab_mnv2.data.coco_outlines import compact, fill
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.label_files import require_few, scaled_example
from deeplab_mnv2.data.places import absent, place, require_folder
from deeplab_mnv2.data.split_part import chosen_part, part_of
from deeplab_mnv2.errors import UserError, printable


@dataclasses.dataclass
class CocoMasks(Section):
    """COCO, or any data set of outlines in its format, under `root`, as class ids.

    `annotations` and `images` are paths relative to `root`, in which `{split}` stands for the
    split, which is also a part of one: "all[:80%]". The classes are a background and the
    categories in the order of their ids, or those of them that `names` has. Where objects overlap,
    the smaller one is seen; crowds lie below all others.

    `long_side` as in `folder.Folder`.
    """

    root: str = ""
    split: str = "val2017"
    annotations: str = "annotations/instances_{split}.json"
    images: str = "{split}"
    # After the background; () takes all.
    names: tuple[str, ...] = ()
    long_side: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        known = tuple(self.file().categories.values())
        if unknown := [name for name in self.names if name not in known]:
            raise UserError(
                f"{self._annotation_file()} has no category {unknown[0]!r}; it has "
                f"{', '.join(known)[:500]}."
            )
        return (BACKGROUND, *(name for name in self.names or known if name != BACKGROUND))

    def open(self) -> "CocoMasksSource":
        """Read the annotations; images are read when an example is asked for.

        Raises:
            UserError: the file is missing or not in COCO's format, or there is no such folder.
        """
        file, by_image = self._read()
        split, low, high = part_of(self, self.split)
        folder = place(self.root, self.images, split)
        require_folder(folder, "set the data set's images to the folder of its images")
        ids = tuple(file.images)
        names = [file.images[number][0].encode("utf-8", "surrogateescape") for number in ids]
        part = chosen_part(names, low, high)
        return CocoMasksSource(
            file=file,
            folder=folder,
            class_names=require_few(self.class_names),
            image_ids=tuple(ids[index] for index in part),
            by_image=by_image,
            long_side=self.long_side,
        )

    def digest(self) -> str:
        source = self.open()
        digest = hashlib.sha256("\n".join(source.class_names).encode())
        digest.update(f"\n{self.long_side}".encode())
        for number in source.image_ids:
            digest.update(source.file.images[number][0].encode("utf-8", "surrogateescape"))
            for _, entry in source.by_image.get(number, ()):
                digest.update(f"{entry['category_id']} {len(entry['segmentation'])}".encode())
                digest.update(_content(entry["segmentation"]))
        return digest.hexdigest()[:16]

    def file(self) -> CocoFile:
        """Return what the file of annotations says.

        Raises:
            UserError: it is missing or not in COCO's format.
        """
        return self._read()[0]

    def _annotation_file(self) -> Path:
        return place(self.root, self.annotations, part_of(self, self.split)[0])

    def _read(self) -> "tuple[CocoFile, _ByImage]":
        path = self._annotation_file()
        if not os.path.isfile(path):
            remedy = (
                "set the data set's root to the folder that holds COCO's annotations and images, "
                "or its annotations to the file you have"
            )
            raise UserError(absent(path, "file", remedy))
        status = path.stat()
        # Read again where it has changed: class names, digest and examples ask one by one.
        return _read(path, status.st_mtime_ns, status.st_size)


# By the id of an image its annotations, in the order in which they are drawn.
_ByImage = Mapping[int, list[tuple[str, Mapping[str, Any]]]]


@dataclasses.dataclass(frozen=True)
class CocoMasksSource:
    """Examples of a COCO file in the order of the images' ids."""

    file: CocoFile
    folder: Path
    class_names: tuple[str, ...]
    image_ids: tuple[int, ...]
    by_image: _ByImage
    long_side: int = 0

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `image` (H, W, 3) uint8, `label` (H, W) uint8 and `name`.

        Raises:
            UserError: the image is missing or damaged, or has another size than the file says, or
                an outline cannot be filled.
        """
        number = self.image_ids[index]
        name, size = self.file.images[number]
        image = read_image(self.folder / name)
        check_size(image, size, self.folder / name, self.file.path)
        label = np.zeros(image.shape[:2], np.uint8)
        ids = {name: label for label, name in enumerate(self.class_names)}
        for where, entry in self.by_image.get(number, ()):
            category = self.file.categories[entry["category_id"]]
            if category not in ids:
                continue
            try:
                label[fill(entry["segmentation"], *image.shape[:2])] = ids[category]
            except ValueError as error:
                raise UserError(f"{where} cannot be drawn: {error}; correct it.") from error
        return scaled_example(image, label, printable(Path(name).with_suffix("")), self.long_side)


@functools.lru_cache(maxsize=4)
def _read(path: Path, modified: int, size: int) -> "tuple[CocoFile, _ByImage]":
    file = read_coco(path, _compacted)
    by_image: dict[int, list[tuple[str, Mapping[str, Any]]]] = {}
    for where, entry in file.annotations:
        image, _ = file.owners(entry, where)
        wrong = entry.get("segmentation")
        if isinstance(wrong, ValueError) or not wrong:
            raise UserError(
                f"{where} cannot be drawn: {str(wrong or 'it has no outline')[:SHOWN]}; draw it "
                "again, or use the file for detection."
            )
        by_image.setdefault(image, []).append((where, entry))
    for entries in by_image.values():
        entries.sort(key=lambda pair: (not pair[1].get("iscrowd"), -_area(pair[1])))
    return file, by_image


def _compacted(entry: dict[str, Any]) -> dict[str, Any]:
    if "segmentation" in entry:
        try:
            entry["segmentation"] = compact(entry["segmentation"])
        except ValueError as error:
            # Said later, where it is known which annotation this is.
            entry["segmentation"] = error
    return entry


def _content(segmentation: Any) -> bytes:
    """Return polygons or run lengths whole; the text of an array leaves most of it out."""
    if isinstance(segmentation, tuple):
        return b" ".join(polygon.tobytes() for polygon in segmentation)
    return json.dumps(segmentation, sort_keys=True).encode()


def _area(entry: Mapping[str, Any]) -> float:
    """Return the area that an annotation says, or of the box around its polygons."""
    area = entry.get("area")
    if area is not None and is_number(area):
        return float(area)
    if not isinstance(entry["segmentation"], tuple):
        return 0.0
    points = np.concatenate(entry["segmentation"]).reshape(-1, 2)
    return float(np.prod(np.ptp(points, axis=0)))
