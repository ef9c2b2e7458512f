"""A folder as it comes: which of its files are images and labels, in what splits and classes."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

from deeplab_mnv2.config import DataSet
from deeplab_mnv2.data.bands import SUFFIXES
from deeplab_mnv2.data.classes import BACKGROUND
from deeplab_mnv2.data.coco_masks import CocoMasks
from deeplab_mnv2.data.discovery.bands import find_bands
from deeplab_mnv2.data.discovery.classes import CLASS_FILE, COLOUR_FILES, VOID, find_classes, listed
from deeplab_mnv2.data.discovery.splits import (
    Group,
    choose_splits,
    find_pair,
    grouped,
    template,
)
from deeplab_mnv2.data.folder import Folder, is_voc
from deeplab_mnv2.data.labelme import IGNORED, OUTSIDE, Labelme, labels_of, read_labelme
from deeplab_mnv2.data.lists import read_class_names, read_lines
from deeplab_mnv2.data.photographs import files_below, is_image
from deeplab_mnv2.data.yolo_masks import YoloMasks
from deeplab_mnv2.errors import UserError

# The longer side that photographs are scaled down to: what the published weights were trained at.
LONG_SIDE = 513
# Where the classes of YOLO's files are listed.
YOLO_CLASSES = ("data.yaml", "classes.txt")
_NUMBER = re.compile(r"-?\d*\.?\d+(e-?\d+)?")
_KEYS = {
    "labelme": (b'"shapes"', b'"imagePath"'),
    "coco": (b'"annotations"', b'"categories"'),
}
# VOC's images are called by year and number.
_VOC_NAME = re.compile(r"20\d\d_\d+")

_Layout = Folder | Labelme | CocoMasks | YoloMasks


@dataclasses.dataclass(frozen=True)
class Found:
    """What a folder holds: what to train on and to score, and in words what was assumed."""

    train: DataSet
    val: DataSet
    assumed: tuple[str, ...]


def discover(root: str) -> Found:
    """Return the data sets of a folder in one of the layouts that people use.

    That is images and label PNGs in folders with or without splits, labels beside images, VOC's
    layout, labelme's files, and outlines in COCO's format or in YOLO's. Every label file is read to
    learn the classes, unless they are VOC's.

    Raises:
        UserError: there are no images with labels, or what the labels mean cannot be told.
    """
    folder = Path(os.path.expanduser(root))
    if not folder.is_dir():
        raise UserError(f"{root} is no folder; give the one that holds your images.")
    problems: list[str] = []
    files = files_below(folder, problems)
    if problems:
        raise UserError(problems[0])
    if is_voc(folder):
        return _voc(folder)
    formats = {path: _format_of(path) for path in files if path.suffix == ".json"}
    if found := [path for path, kind in formats.items() if kind == "labelme"]:
        return _labelme(folder, found)
    if found := [path for path, kind in formats.items() if kind == "coco"]:
        return _coco(folder, found)
    if found := [path for path in files if _is_yolo(path)]:
        return _yolo(folder, found)
    return _folders(folder, [path for path in files if is_image(path, SUFFIXES)])


def _folders(root: Path, images: list[Path]) -> Found:
    """Return what is in folders of images and of label PNGs."""
    pair = find_pair(root, images)
    train, val, told = choose_splits(pair.splits)
    # Labels beside their images may be in several folders.
    group = grouped(root, images).get(pair.images, {"": images})
    bands = find_bands(path for files in group.values() for path in files)
    layout = Folder(
        root=str(root),
        images=pair.images,
        labels=pair.labels,
        lists="",
        label_pattern=pair.pattern,
        bands=bands,
        long_side=LONG_SIDE,
    )
    where = f"images in {pair.images}, labels in {pair.labels}"
    said = (where, f"images of {bands} bands") if bands else (where,)
    return _with_classes(layout, train, val, (*said, told))


def _voc(root: Path) -> Found:
    """Return what is in VOC's own layout."""
    lists = [path.stem for path in (root / "ImageSets/Segmentation").glob("*.txt")]
    train, val, told = choose_splits(lists)
    layout, said = Folder(root=str(root)), ("VOC's layout", told)
    is_named = any((root / name).is_file() for name in (CLASS_FILE, *COLOUR_FILES))
    # CVAT and others write the same layout with classes of their own.
    if is_named or not all(_VOC_NAME.fullmatch(p.stem) for p in (root / "JPEGImages").iterdir()):
        return _with_classes(dataclasses.replace(layout, long_side=LONG_SIDE), train, val, said)
    return _found(layout, train, val, *said, "VOC's classes")


def _with_classes(layout: Folder, train: str, val: str, told: tuple[str, ...]) -> Found:
    """Return two splits of a folder, with the classes that their labels hold."""
    # Names that say nothing, until what the labels hold is known.
    unknown = dataclasses.replace(layout, names=("0", "1"))
    labels = []
    for split in (train, val):
        for pair in dataclasses.replace(unknown, split=split).entries():
            if isinstance(pair, UserError):
                raise pair
            labels.append(pair[1])
    found = find_classes(Path(layout.root), labels)
    known = dataclasses.replace(
        layout, names=found.names, values=found.values, unlabelled=found.unlabelled
    )
    return _found(known, train, val, *told, *found.assumed)


def _found(layout: _Layout, train: str, val: str, *assumed: str) -> Found:
    sets = (dataclasses.replace(layout, split=split) for split in (train, val))
    return Found(*sets, assumed=assumed)


def _only_group(root: Path, files: list[Path], whose: str) -> tuple[str, Group]:
    """Return the one folder that files are in, with `{split}` in it, and the files by split.

    Raises:
        UserError: they are in several.
    """
    groups = grouped(root, files)
    if len(groups) > 1:
        raise UserError(
            f"{root} has {whose}'s files in {' and '.join(sorted(groups)[:3])}; put them in one "
            "folder, or one for each split."
        )
    ((folder, group),) = groups.items()
    return folder, group


def _labelme(root: Path, files: list[Path]) -> Found:
    """Return what is in labelme's files."""
    folder, group = _only_group(root, files, "labelme")
    train, val, told = choose_splits({*group})
    if (root / CLASS_FILE).is_file():
        listed_names, whence = read_class_names(root / CLASS_FILE), CLASS_FILE
    else:
        listed_names = sorted(set().union(*(labels_of(read_labelme(path)) for path in files)))
        whence = "a background and the labels that occur"
    # What lies outside of all outlines is a class of its own, whether or not it is listed.
    objects = (name for name in listed_names if name not in (IGNORED, OUTSIDE, BACKGROUND))
    names = (BACKGROUND, *(name for name in objects if name.lower() not in VOID))
    if len(names) < 2:
        raise UserError(f"{root} has outlines of no class; label some in labelme.")
    layout = Labelme(root=str(root), folder=folder, names=names, long_side=LONG_SIDE)
    return _found(layout, train, val, "outlines of labelme's", told, f"{listed(names)}: {whence}")


def _yolo(root: Path, files: list[Path]) -> Found:
    """Return what is in YOLO's text files."""
    labels, group = _only_group(root, files, "YOLO")
    classes = next((name for name in YOLO_CLASSES if (root / name).is_file()), "")
    if not classes:
        raise UserError(f"{root} has no {' or '.join(YOLO_CLASSES)}; name YOLO's classes there.")
    train, val, told = choose_splits(group)
    # The last folder called so: the data set's own name may have it too.
    before, found, after = labels.rpartition("labels")
    layout = YoloMasks(
        root=str(root),
        images=f"{before}images{after}" if found else labels,
        labels=labels,
        classes=classes,
        long_side=LONG_SIDE,
    )
    where = f"YOLO's outlines in {labels}, images in {layout.images}"
    return _found(layout, train, val, where, told, f"{listed(layout.class_names)}: {classes}")


def _is_yolo(path: Path) -> bool:
    """Return whether a text file beside images, or in a folder of labels, is YOLO's."""
    if path.suffix != ".txt" or path.name in (CLASS_FILE, *COLOUR_FILES):
        return False
    try:
        lines = [line.split() for _, line in read_lines(path)]
    except UserError:
        return False
    # Boxes are YOLO's too, and refused when they are read.
    return bool(lines) and all(len(line) > 4 and _are_numbers(line) for line in lines)


def _are_numbers(parts: list[str]) -> bool:
    return parts[0].isdecimal() and all(_NUMBER.fullmatch(part) for part in parts[1:])


def _coco(root: Path, files: list[Path]) -> Found:
    """Return what is in files in COCO's format."""
    groups: dict[str, dict[str, Path]] = {}
    for path in files:
        name, split = template(path.relative_to(root))
        groups.setdefault(name, {})[split] = path
    # COCO itself has keypoints too.
    chosen = [name for name in groups if "instances" in name] if len(groups) > 1 else [*groups]
    if len(chosen) != 1:
        raise UserError(
            f"{root} has annotations in {' and '.join(sorted(groups)[:3])}; put them in one file, "
            "or one for each split."
        )
    annotations = chosen[0]
    train, val, told = choose_splits(groups[annotations])
    layout = CocoMasks(root=str(root), split=train, annotations=annotations, long_side=LONG_SIDE)
    layout.images = _images_of(root, annotations, groups[annotations])
    names, others = (dataclasses.replace(layout, split=s).class_names for s in (train, val))
    if names != others:
        raise UserError(
            f"{train} and {val} of {root} have different categories ({', '.join(names)[:200]} and "
            f"{', '.join(others)[:200]}); give both the same."
        )
    where = f"outlines in COCO's format, images in {layout.images}"
    return _found(layout, train, val, where, told, listed(names))


def _images_of(root: Path, annotations: str, files: Mapping[str, Path]) -> str:
    """Return the folder of the images that files in COCO's format list, `{split}` in it."""
    beside = os.path.dirname(annotations) or "."
    # CVAT has instances_default.json and images/default.
    part = Path(annotations).stem.removeprefix("instances_")
    usual = (beside, "{split}", f"images/{part}", "images/{split}", "{split}/images", "images", ".")
    names: dict[str, str] = {}
    for split in files:
        file = CocoMasks(root=str(root), split=split, annotations=annotations).file()
        names[split], _ = next(iter(file.images.values()))
    for folder in usual:
        if "{split}" in folder and "" in names:
            continue
        # Not Path.is_file, which lets a name that is too long end in an error.
        if all(os.path.isfile(root / folder.replace("{split}", s) / n) for s, n in names.items()):
            return folder
    split, name = next(iter(names.items()))
    raise UserError(
        f"{root} does not hold {name}, which {files[split]} lists, in any folder that is usual; "
        "write an experiment with CocoMasks(images=...)."
    )


def _format_of(path: Path) -> str:
    """Return "labelme", "coco" or "" by the keys of a JSON file, which may be damaged.

    Raises:
        UserError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); remove or correct it."
        ) from error
    for kind, keys in _KEYS.items():
        if all(key in content for key in keys):
            return kind
    return ""
