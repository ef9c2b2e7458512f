"""Outlines as labelme saves them: one JSON file beside each image."""

import base64
import binascii
import dataclasses
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.decode import DAMAGE, read_image
from deeplab_mnv2.data.label_files import require_few, scaled_example
from deeplab_mnv2.data.lists import read_class_names
from deeplab_mnv2.data.photographs import files_below, is_image
from deeplab_mnv2.data.places import absent, place, require_folder
from deeplab_mnv2.data.split_part import chosen_part, part_of
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.files import reason

# What labelme's own converter takes for class 0 and for unlabelled.
OUTSIDE, IGNORED = "_background_", "__ignore__"
# Characters of a value that an error shows.
_SHOWN = 80
# Beyond this many pixels from the image a point is a mistake.
_FAR = 1e6


@dataclasses.dataclass
class Labelme(Section):
    """Images with labelme's JSON files beside them, in `folder` below `root`.

    `{split}` in `folder` stands for the split, which is also a part of one: "all[:80%]". An image
    without a JSON file does not count. Pixels outside all outlines are the first class; a later
    outline lies over an earlier one, as in labelme. `names` are the classes, or else the lines of
    the file `classes`. Polygons, rectangles, circles and masks are read.

    `long_side` as in `folder.Folder`.
    """

    root: str = ""
    split: str = "train"
    folder: str = "{split}"
    classes: str = "classes.txt"
    names: tuple[str, ...] = ()
    long_side: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        if self.names:
            return self.names
        path = place(self.root, self.classes, "")
        if not os.path.isfile(path):
            raise UserError(absent(path, "file", "write the classes there, one a line"))
        return read_class_names(path)

    def open(self) -> "LabelmeSource":
        """Find the JSON files; they and their images are read when an example is asked for.

        Raises:
            UserError: the folder or the list of classes is missing, or there are no such files.
        """
        split, low, high = part_of(self, self.split)
        folder = place(self.root, self.folder, split)
        require_folder(folder, "set the data set's root and folder to labelme's files")
        problems: list[str] = []
        found = [path for path in files_below(folder, problems) if path.suffix == ".json"]
        if problems:
            raise UserError(problems[0])
        if not found:
            raise UserError(f"{folder} holds no JSON files of labelme's; choose another folder.")
        names = [path.relative_to(folder).with_suffix("").as_posix() for path in found]
        part = chosen_part([name.encode("utf-8", "surrogateescape") for name in names], low, high)
        return LabelmeSource(
            files=tuple(found[index] for index in part),
            names=tuple(names[index] for index in part),
            class_names=require_few(self.class_names),
            long_side=self.long_side,
        )

    def digest(self) -> str:
        source = self.open()
        digest = hashlib.sha256("\n".join(source.class_names).encode())
        for name, path in zip(source.names, source.files, strict=True):
            shapes = json.dumps(read_labelme(path)["shapes"], sort_keys=True)
            digest.update(f"{name}\n{shapes}\n{self.long_side}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class LabelmeSource:
    """Examples read from JSON files and the images beside them."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    long_side: int = 0

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `image` (H, W, 3) uint8, `label` (H, W) uint8 and `name`.

        Raises:
            UserError: a file is damaged or missing, a label is no class, or the sizes differ.
        """
        index = range(len(self))[index]  # an IndexError beyond the end
        path = self.files[index]
        content = read_labelme(path)
        photo = _photo(path, content)
        image = read_image(photo)
        if (content["imageHeight"], content["imageWidth"]) != image.shape[:2]:
            raise UserError(
                f"{path} is of an image of {content['imageWidth']} x {content['imageHeight']} "
                f"pixels but {photo} is {image.shape[1]} x {image.shape[0]}; draw the outlines "
                "again on that image."
            )
        label = draw_shapes(path, content["shapes"], image.shape[:2], self.class_names)
        return scaled_example(image, label, printable(self.names[index]), self.long_side)


def read_labelme(path: Path) -> dict[str, Any]:
    """Return what a file of labelme's says: `shapes`, `imageHeight`, `imageWidth`, `imagePath`.

    Raises:
        UserError: it is no JSON, or no file of labelme's.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({reason(error)}).") from error
    kinds = {"shapes": list, "imageHeight": int, "imageWidth": int, "imagePath": str}
    for key, kind in kinds.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise UserError(f"{path} has no {key}, as labelme's files have; remove the file.")
    for number, shape in enumerate(content["shapes"]):
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label.isprintable():
            raise UserError(f"{path}, shape {number}, has no label; correct it in labelme.")
    return content


def labels_of(content: Mapping[str, Any]) -> set[str]:
    """Return the classes that a file's outlines name."""
    return {shape["label"] for shape in content["shapes"]} - {OUTSIDE, IGNORED}


def draw_shapes(
    path: Path, shapes: list[Mapping[str, Any]], size: tuple[int, ...], class_names: tuple[str, ...]
) -> np.ndarray:
    """Return the class ids (H, W) uint8 that outlines mean, drawn one over the other.

    `path` is the file that they are from, and `size` the image's height and width.

    Raises:
        UserError: an outline is of no class, or of a kind that encloses nothing.
    """
    ids = {name: index for index, name in enumerate(class_names)}
    ids = {OUTSIDE: 0, IGNORED: IGNORE_LABEL} | ids
    picture = Image.new("L", (size[1], size[0]))
    for number, shape in enumerate(shapes):
        where = f"{path}, shape {number},"
        if shape["label"] not in ids:
            raise UserError(
                f"{where} is labelled {shape['label'][:_SHOWN]!r}, which is no class "
                f"({', '.join(class_names)[:_SHOWN]}); correct it or the list of classes."
            )
        kind = shape.get("shape_type", "polygon")
        if not isinstance(kind, str) or kind not in _DRAWERS:
            raise UserError(
                f"{where} is a {str(kind)[:_SHOWN]}, which encloses nothing; make it a polygon, "
                "rectangle, circle or mask, or remove it."
            )
        try:
            points = [(float(x), float(y)) for x, y in shape["points"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where} has no points; correct it in labelme.") from error
        if len(points) < (3 if kind == "polygon" else 2) or not all(
            math.isfinite(n) and abs(n) < _FAR for point in points for n in point
        ):
            raise UserError(f"{where} has too few points, or such far away; correct it in labelme.")
        try:
            _DRAWERS[kind](picture, points, ids[shape["label"]], shape)
        except (*DAMAGE, KeyError, binascii.Error) as error:
            raise UserError(f"{where} cannot be drawn ({reason(error)}); draw it again.") from error
    return np.asarray(picture)


_Points = list[tuple[float, float]]


def _polygon(picture: Image.Image, points: _Points, id: int, shape: Mapping[str, Any]) -> None:
    # As labelme draws: the pixels of the outline are in it.
    ImageDraw.Draw(picture).polygon(points, fill=id, outline=id)


def _rectangle(picture: Image.Image, points: _Points, id: int, shape: Mapping[str, Any]) -> None:
    (x0, y0), (x1, y1) = points[:2]
    box = [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]
    ImageDraw.Draw(picture).rectangle(box, fill=id, outline=id)


def _circle(picture: Image.Image, points: _Points, id: int, shape: Mapping[str, Any]) -> None:
    # The centre, and a point on the circle.
    (x, y), edge = points[:2]
    radius = math.dist((x, y), edge)
    box = [x - radius, y - radius, x + radius, y + radius]
    ImageDraw.Draw(picture).ellipse(box, fill=id, outline=id)


def _mask(picture: Image.Image, points: _Points, id: int, shape: Mapping[str, Any]) -> None:
    # A PNG of the pixels within the two corners, as labelme's own models make it.
    content = base64.b64decode(shape["mask"], validate=True)
    with Image.open(io.BytesIO(content), formats=("PNG",)) as mask:
        left, top = (int(n) for n in points[0])
        picture.paste(id, (left, top), Image.fromarray(np.asarray(mask.convert("L")) > 0))


_DRAWERS: dict[str, Callable[[Image.Image, _Points, int, Mapping[str, Any]], None]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "mask": _mask,
}


def _photo(path: Path, content: Mapping[str, Any]) -> Path:
    """Return the image of a JSON file: what the file itself says, or the one of its name.

    Raises:
        UserError: there is none.
    """
    for found in _candidates(path, content["imagePath"]):
        # Not Path.is_file, which lets a name that is too long end in an error.
        if os.path.isfile(found):
            return found
    raise UserError(
        f"The image of {path}, {content['imagePath'][:_SHOWN]!r}, is not beside it; put it there."
    )


def _candidates(path: Path, said: str) -> Iterator[Path]:
    # Windows' separators are read on any machine. The folder that the file names is not looked at:
    # it is the one of the machine on which the outlines were drawn.
    yield path.with_name(PureWindowsPath(said).name or "-")
    yield from (p for p in sorted(path.parent.glob(f"{_plain(path.stem)}.*")) if is_image(p))


def _plain(stem: str) -> str:
    """Return a name in which no character stands for others, as in a pattern of `glob`."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in stem)
