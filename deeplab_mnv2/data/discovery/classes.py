"""What the values in label files mean, as far as the files and lists beside them tell."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.label_files import (
    LabelInColourError,
    Value,
    read_values,
    to_colour,
)
from deeplab_mnv2.data.lists import read_class_names, read_lines
from deeplab_mnv2.errors import UserError

CLASS_FILE = "classes.txt"

# Lists of classes with their colours, CVAT's "name:r,g,b::" and CamVid's "r g b name".
COLOUR_FILES = ("labelmap.txt", "label_colors.txt")
_CVAT = re.compile(r"(?P<name>[^:]+):(?P<rgb>\d+,\d+,\d+):.*")
_CAMVID = re.compile(r"(?P<rgb>\d+\s+\d+\s+\d+)\s+(?P<name>\S.*)")
# What lists call the value of no class.
VOID = {"unlabelled", "unlabeled", "void", "ignore", "ignored", "__ignore__"}
# Of CamVid, in folders such as `trainannot`, this id is no class (SegNet's layout).
_VOID_OF_CAMVID = 11
# Labels with more values are pictures, or number objects and not classes.
_MOST_VALUES = 64
_THREADS = 8


@dataclasses.dataclass(frozen=True)
class Classes:
    """Classes as a `Folder` takes them, and in words what was assumed."""

    names: tuple[str, ...]
    values: tuple[Value, ...]
    unlabelled: tuple[Value, ...]
    assumed: tuple[str, ...]


def find_classes(root: Path, labels: Sequence[Path]) -> Classes:
    """Return the classes of label files, all of which are read, below a folder `root`.

    Raises:
        UserError: they hold too many values or one alone, or which is which cannot be told.
    """
    found, in_colour = _values(labels)
    shown: list[Value] = [to_colour(value) if in_colour else value for value in found]
    text = ", ".join(map(str, shown[:12])) + (", ..." if len(shown) > 12 else "")
    for name in COLOUR_FILES:
        if in_colour and (root / name).is_file():
            return _by_colour(root / name, shown)
    if (root / CLASS_FILE).is_file():
        return _by_number(root / CLASS_FILE, found, in_colour, text)
    if len(found) > _MOST_VALUES:
        raise UserError(
            f"The labels below {root} hold {len(found)} values ({text}): they are blurred, or "
            f"number objects and not classes; save PNGs of class ids, or name all in {CLASS_FILE}."
        )
    if not in_colour and found[-1] == _VOID_OF_CAMVID and labels[0].parent.name.endswith("annot"):
        raise UserError(
            f"The labels below {root} lie in folders called as CamVid's and hold ids to 11, which "
            f"is no class there; train on CamVid by --config camvid:{root}, or name the classes of "
            f"other images in {root / CLASS_FILE}, a value of no class unlabelled."
        )
    # 255 is unlabelled, as in VOC, unless it is the one value beside 0.
    void = not in_colour and IGNORE_LABEL in found and found != [0, IGNORE_LABEL]
    values = [value for value in shown if not (void and value == IGNORE_LABEL)]
    if len(values) < 2:
        raise UserError(
            f"The labels below {root} hold the values {text} alone; two classes or more are needed."
        )
    if len(values) == 2 and found[0] == 0:
        names = "background", "object"
    else:
        names = tuple(str(value) if in_colour else f"class {value}" for value in values)
    told = f"labels hold {text}: {listed(names)}" + (", 255 is unlabelled" if void else "")
    kept = () if values == list(range(len(values))) else tuple(values)
    return Classes(names, kept, (), (told, f"names for them go into {root / CLASS_FILE}"))


def _values(paths: Sequence[Path]) -> tuple[list[int], bool]:
    """Return the values that occur in label files, and whether they are colours."""

    def all_values(in_colour: bool) -> list[int]:
        def values(path: Path) -> set[int]:
            return {*np.unique(read_values(path, in_colour=in_colour)).tolist()}

        with ThreadPoolExecutor(_THREADS) as threads:
            return sorted(set().union(*threads.map(values, paths)))

    try:
        return all_values(in_colour=False), False
    except LabelInColourError:
        # One is enough: others may look like numbers because they are of one grey level.
        return all_values(in_colour=True), True


def _by_colour(path: Path, shown: Sequence[Value]) -> Classes:
    """Return the classes of a list of names and colours."""
    colours: dict[str, str] = {}
    for number, line in read_lines(path):
        if line.startswith("#"):
            continue
        match = _CVAT.fullmatch(line) or _CAMVID.fullmatch(line)
        rgb = [int(part) for part in re.split(r"[,\s]+", match["rgb"])] if match else [256]
        if match is None or max(rgb) > 255:
            raise UserError(f"{path}, line {number}, is no name and colour; correct it.")
        colours[match["name"].strip()] = to_colour(int.from_bytes(bytes(rgb)))
    if unknown := [value for value in shown if value not in colours.values()]:
        raise UserError(
            f"The labels hold the colour {unknown[0]}, which {path} does not list; add it there."
        )
    return _without_void(colours, f"the colours of {path.name}")


def _by_number(path: Path, found: list[int], in_colour: bool, text: str) -> Classes:
    """Return the classes of a list of names, in the order of the values."""
    names = read_class_names(path)
    masks = found == [0, IGNORE_LABEL]
    # Without a 0 the first name may be that of 1.
    numbered = not in_colour and not masks and found[0] == 0
    if numbered and {*found} <= {*range(len(names)), IGNORE_LABEL}:
        told = f"{path.name}, by the values {text}"
        return _without_void({name: id for id, name in enumerate(names)}, told)
    values = [value for value in found if value != IGNORE_LABEL or masks]
    if in_colour or len(values) != len(names):
        remedy = (
            f"list them with their colours in {path.with_name(COLOUR_FILES[0])}, NAME:R,G,B:: a "
            "line"
            if in_colour
            else "give each value a line, those of no class the line unlabelled"
        )
        raise UserError(
            f"{path} names {len(names)} classes, but the labels hold the values {text}, and "
            f"nothing says which is which; {remedy}."
        )
    told = f"{path.name}, in the order of the values {text}"
    return _without_void(dict(zip(names, values, strict=True)), told)


def _without_void(values: Mapping[str, Value], whence: str) -> Classes:
    """Return the classes of names and their values, among which some may mean no class."""
    void = {name: value for name, value in values.items() if name.lower() in VOID}
    classes = {name: value for name, value in values.items() if name not in void}
    ordinary = [*classes.values()] == list(range(len(classes)))
    told = f"{listed([*classes])}: {whence}" + (
        f", {', '.join(void)} as unlabelled" if void else ""
    )
    return Classes(
        tuple(classes), () if ordinary else tuple(classes.values()), tuple(void.values()), (told,)
    )


def listed(names: Sequence[str]) -> str:
    """Return the number of classes and their names, in words."""
    return f"{len(names)} classes ({', '.join(names[:24])}{', ...' if len(names) > 24 else ''})"
