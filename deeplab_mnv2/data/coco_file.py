"""COCO's JSON files, whatever is read of them: categories, images and annotations."""

import dataclasses
import json
import math
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import reason

# Beyond this, what a number means can no longer be computed with.
_LARGEST = 1e9
# Characters of a value that an error shows.
SHOWN = 80


Hook = Callable[[dict[str, Any]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class CocoFile:
    """What a file says: categories and images by their ids, and the annotations.

    Of an image its path below the folder of images, and its height and width, 0 where the file does
    not say. Of an annotation, how an error names it and what it says.
    """

    path: Path
    categories: Mapping[int, str]
    images: Mapping[int, tuple[str, tuple[int, int]]]
    annotations: Sequence[tuple[str, Mapping[str, Any]]]

    def owners(self, entry: Mapping[str, Any], where: str) -> tuple[int, int]:
        """Return the ids of the image and of the category of an annotation.

        Raises:
            UserError: the file does not list one of them.
        """
        image, category = id_of(entry, "image_id", where), id_of(entry, "category_id", where)
        known: tuple[tuple[str, int, Container[int]], ...] = (
            ("image_id", image, self.images),
            ("category_id", category, self.categories),
        )
        for key, number, listed in known:
            if number not in listed:
                raise UserError(
                    f"{where} has the {key} {number}, which the file does not list; add or "
                    "correct it."
                )
        return image, category


def read_coco(path: Path, hook: Hook) -> CocoFile:
    """Return what a file says; `hook` sees each JSON object while it is read, and may change it.

    Raises:
        UserError: the file is not in COCO's format.
    """
    content = _load(path, hook)
    categories, images, annotations = (
        _entries(content, key, path) for key in ("categories", "images", "annotations")
    )
    names: dict[int, str] = {}
    for where, entry in categories:
        number, name = id_of(entry, "id", where), entry.get("name")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise UserError(f"{where} has no name; give the category one.")
        if number in names or name in names.values():
            raise UserError(f"{where} has the id or name of another one; give each its own.")
        names[number] = name
    files: dict[int, tuple[str, tuple[int, int]]] = {}
    for where, entry in images:
        number = id_of(entry, "id", where)
        if number in files:
            raise UserError(f"{where} has the id {number}, as another one has; give each its own.")
        files[number] = _file_name(entry, where), _size(entry, where)
    if not names or not files:
        lacking = "images" if names else "categories"
        raise UserError(f"{path} holds no {lacking}; add some or choose another file.")
    return CocoFile(path, dict(sorted(names.items())), dict(sorted(files.items())), annotations)


def _load(path: Path, hook: Hook) -> Mapping[str, Any]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = json.load(file, object_hook=hook)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({reason(error)}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object, as COCO's files do.")
    return content


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


def id_of(entry: Mapping[str, Any], key: str, where: str) -> int:
    """Return a whole number that an entry has.

    Raises:
        UserError: it has something else there.
    """
    value = entry.get(key)
    if type(value) is not int:
        raise UserError(f"{where} has the {key} {str(value)[:SHOWN]}; it must be a whole number.")
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
            f"{where} has the file_name {name[:SHOWN]!r}, which is outside the folder of images; "
            "make it a path below that folder."
        )
    return name


def _size(entry: Mapping[str, Any], where: str) -> tuple[int, int]:
    sides = entry.get("height", 0), entry.get("width", 0)
    if not all(type(side) is int and 0 <= side < _LARGEST for side in sides):
        raise UserError(f"{where} has a height or width that is no number of pixels; correct it.")
    return sides


def is_number(value: Any) -> bool:
    """Return whether a value is a number that can be computed with."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Of whole numbers too large for a float, the comparison comes first.
    return is_number and -_LARGEST < value < _LARGEST and math.isfinite(value)
