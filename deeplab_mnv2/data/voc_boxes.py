"""Boxes in PASCAL VOC's own layout: one XML file an image, list files of splits."""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.boxes import Objects, as_objects, box_example, boxes_digest, check_size
from deeplab_mnv2.data.classes import BACKGROUND, VOC_CLASSES
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.lists import read_lines, read_object_names, readings
from deeplab_mnv2.data.photographs import files_below, is_image
from deeplab_mnv2.data.places import SHOWN, absent, place, require_folder
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.files import reason

# VOC's have a few kilobytes.
_LARGEST_BYTES = 2**24
_LARGEST_SIDE = 1e6
# Characters of what a file holds that an error shows.
_SHOWN = 80


@dataclasses.dataclass
class VocBoxes(Section):
    """Images and their boxes under `root`; the defaults are PASCAL VOC's own layout.

    `images`, `annotations`, `lists` and `classes` are paths relative to `root`, in which `{split}`
    stands for the split. A line of a list is the name or the path of an image, whatever follows
    on it; where `lists` is "", every image counts. `classes` names a text file with one class a
    line; a first line "background" is passed over, and without the file the classes are VOC's 20.
    Objects marked difficult are kept and ignored.
    """

    root: str = ""
    split: str = "trainval"
    images: str = "JPEGImages"
    annotations: str = "Annotations"
    lists: str = "ImageSets/Main/{split}.txt"
    classes: str = "classes.txt"

    @property
    def class_names(self) -> tuple[str, ...]:
        path = self._place(self.classes)
        if not os.path.isfile(path):
            return VOC_CLASSES[1:]
        names = read_object_names(path)
        return names[1:] if names[0] == BACKGROUND else names

    def open(self) -> "VocBoxesSource":
        """Find the images; they and their boxes are read when an example is asked for.

        Raises:
            UserError: a folder, the list or an image is missing, or there are none.
        """
        images, annotations = self._place(self.images), self._place(self.annotations)
        for folder in (images, annotations):
            remedy = (
                "set the data set's root to a folder in VOC's layout, or its images and "
                "annotations to the folders you have"
            )
            require_folder(folder, remedy)
        found = images_below(images)
        chosen = self._listed(found) if self.lists else sorted(found)
        if not chosen:
            origin = self._place(self.lists) if self.lists else images
            raise UserError(f"{origin} names no images; add some or choose another split.")
        return VocBoxesSource(
            names=tuple(chosen),
            images=tuple(found[name] for name in chosen),
            annotations=tuple(annotations / f"{name}.xml" for name in chosen),
            class_names=self.class_names,
        )

    def digest(self) -> str:
        source = self.open()
        objects = ((name, source.annotation(i)) for i, name in enumerate(source.names))
        return boxes_digest(source.class_names, objects)

    def _listed(self, found: Mapping[str, Path]) -> list[str]:
        path = self._place(self.lists)
        if not os.path.isfile(path):
            there = sorted(other.stem for other in path.parent.glob(f"*{path.suffix}"))
            known = f"there are {', '.join(there)[:SHOWN]}" if there else "there are no lists"
            raise UserError(absent(path, "file", f"choose a split whose list exists, {known}"))
        names = []
        for number, line in read_lines(path, "surrogateescape"):
            forms = [form for reading in readings(line) for form in self._forms(reading[0])]
            name = next((form for form in forms if form in found), None)
            if name is not None:
                names.append(name)
            elif not line.startswith("#"):
                raise UserError(
                    f"{path}, line {number}, lists {line[:_SHOWN]!r}, but "
                    f"{self._place(self.images)} has no such image; add it or correct the entry."
                )
        return names

    def _forms(self, entry: str) -> tuple[str, ...]:
        """Return the names of images that an entry may mean."""
        below = entry.lstrip("/").removeprefix(f"{self.images}/")
        return below, os.path.splitext(below)[0]

    def _place(self, name: str) -> Path:
        return place(self.root, name, self.split)


@dataclasses.dataclass(frozen=True)
class VocBoxesSource:
    """Examples read from images and XML files, see `boxes.box_example`."""

    names: tuple[str, ...]
    images: tuple[Path, ...]
    annotations: tuple[Path, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the example.

        Raises:
            UserError: a file is missing or damaged, or the image has another size than its boxes'.
        """
        index = range(len(self))[index]  # an IndexError beyond the end
        image, path = read_image(self.images[index]), self.annotations[index]
        objects, size = read_voc_boxes(path, self.class_names)
        check_size(image, size, self.images[index], path)
        return box_example(image, objects, printable(self.names[index]))

    def annotation(self, index: int) -> Objects:
        """Return the objects of an image, which is not read.

        Raises:
            UserError: the XML file is missing or damaged.
        """
        return read_voc_boxes(self.annotations[index], self.class_names)[0]


def images_below(folder: Path) -> dict[str, Path]:
    """Return the images in a folder and its sub-folders, by their paths in it without suffix.

    Raises:
        UserError: a folder cannot be read, or two images have one name.
    """
    problems: list[str] = []
    found: dict[str, Path] = {}
    for path in filter(is_image, files_below(folder, problems)):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UserError(
                f"{path} and {found[name].name} share a name, so their boxes are ambiguous; "
                "rename one."
            )
        found[name] = path
    if problems:
        raise UserError(problems[0])
    return found


def read_voc_boxes(path: Path, class_names: tuple[str, ...]) -> tuple[Objects, tuple[int, int]]:
    """Return the objects in an XML file of VOC's, and the image's height and width, 0 if unsaid.

    Boxes there are pixel numbers from 1, both ends included.

    Raises:
        UserError: the file is missing or damaged, or an object has no class or box.
    """
    root = _parse(path)
    boxes, label, difficult = [], [], []
    for number, found in enumerate(root.findall("object"), 1):
        where = f"{path}, object {number},"
        name = (found.findtext("name") or "").strip()
        if name not in class_names:
            raise UserError(
                f"{where} is of the class {name[:_SHOWN]!r}, which is not among "
                f"{', '.join(class_names)[:200]}; correct it or the list of classes."
            )
        box = found.find("bndbox")
        left, top, right, bottom = (
            _number(box, side, where) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        if right < left or bottom < top:
            raise UserError(
                f"{where} has a box that ends at ({right:g}, {bottom:g}), before it begins at "
                f"({left:g}, {top:g}); correct it."
            )
        boxes.append((top - 1, left - 1, bottom, right))
        label.append(class_names.index(name))
        difficult.append((found.findtext("difficult") or "").strip() == "1")
    size = root.find("size")
    sides = (0.0, 0.0)
    if size is not None:
        height, width = (_number(size, side, f"{path}, size,") for side in ("height", "width"))
        sides = height, width
    return as_objects(boxes, label, difficult), (int(sides[0]), int(sides[1]))


def _parse(path: Path) -> Element:
    """Return the root of an XML file that declares nothing of its own.

    Entities can grow a small file to gigabytes, or read other files.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise UserError(f"{path} declares a document type, which VOC's have not; remove <!DOCTYPE.")

    parser.StartDoctypeDeclHandler = refuse
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise UserError(f"{path} has more than 16 MiB, which no list of boxes has; check it.")
        parser.Parse(content, True)
        root = builder.close()
    except FileNotFoundError as error:
        raise UserError(
            f"{path}, the boxes of an image, does not exist; add it or take the image off the list."
        ) from error
    # LookupError: an encoding that Python does not know.
    except (OSError, expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f"{path} is not valid XML ({reason(error)}); correct it.") from error
    if root.tag != "annotation":
        raise UserError(
            f"{path} holds <{root.tag[:_SHOWN]}>, not <annotation> as VOC's files do; "
            "choose another folder or convert it."
        )
    return root


def _number(parent: Element | None, name: str, where: str) -> float:
    text = "" if parent is None else (parent.findtext(name) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST_SIDE:
        raise UserError(f"{where} has {name} {text[:_SHOWN]!r}; it must be a number of pixels.")
    return value
