"""Data sets in folders: images, label PNGs and, where there are splits, list files."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.bands import SUFFIXES, read_bands
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.label_files import (
    LabelValues,
    Value,
    are_values,
    read_label,
    require_few,
    scaled_example,
)
from deeplab_mnv2.data.layout import Layout, Pair
from deeplab_mnv2.data.lists import read_class_names, read_lines
from deeplab_mnv2.data.photographs import IMAGE_SUFFIXES, files_below, is_image
from deeplab_mnv2.data.places import SHOWN, absence, absent, require_folder
from deeplab_mnv2.data.split_part import chosen_part, part_of
from deeplab_mnv2.errors import UserError, printable

_VOC_IMAGES, _VOC_LABELS = "JPEGImages", ("SegmentationClassAug", "SegmentationClass")
_VOC_CLASS_FILE = "classes.txt"


@dataclasses.dataclass
class Folder(Section):
    """Images and labels under `root`; the defaults are PASCAL VOC's own layout.

    `images`, `labels`, `lists` and `classes` are paths relative to `root`, in which `{split}`
    stands for the split. Where `lists` names a file, a line of it is the name of an image, or the
    paths of an image and its label (`data.lists`); where it is "", every image counts, those of
    sub-folders too. `classes` names a text file with one class a line, background first; without
    it the classes are VOC's, in VOC's own layout only.

    `split` is also a part of one, by chance but always the same: "all[:80%]" and "all[80%:]".

    Labels are PNGs. Their values are the classes' numbers, and 255 is unlabelled. `values` says
    otherwise: the value of each class, in order, such as (0, 255) for black and white masks,
    (1, 2, 3) where 0 is unlabelled, or ("#000000", "#ff0000") for labels in colour. 0 and 255 are
    unlabelled where no class has them, and whatever `unlabelled` names; any other value is refused.
    """

    root: str = ""
    split: str = "trainaug"
    images: str = _VOC_IMAGES
    # Empty: SegmentationClassAug (VOC with SBD) where it exists, else SegmentationClass.
    labels: str = ""
    lists: str = "ImageSets/Segmentation/{split}.txt"
    classes: str = _VOC_CLASS_FILE
    # What the names of an image, without suffix, and its label have in common is {name}: for
    # Cityscapes "{name}_leftImg8bit" and "{name}_gtFine_labelTrainIds.png". Images of other names
    # are left out.
    image_pattern: str = "{name}"
    # Empty: "{name}.png", or whatever all labels beside their images have in common.
    label_pattern: str = ""
    values: tuple[Value, ...] = ()
    unlabelled: tuple[Value, ...] = ()
    # The classes' names, instead of a file of them.
    names: tuple[str, ...] = ()
    # 0 is photographs, in colour. Otherwise images have so many bands, and are read as they are,
    # from .npy too (`data.bands`); the network's model.in_channels is the same number.
    bands: int = 0
    # Photographs of more pixels on their longer side are scaled down to it, with their labels, and
    # scored so; 0 scales nothing.
    long_side: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        if self.names:
            return self.names
        root = self._root()
        path = self._place(self.classes)
        if not os.path.isfile(path):
            if self.classes == _VOC_CLASS_FILE and is_voc(root):
                return VOC_CLASSES
            remedy = (
                "write the classes there, one a line, or set the data set's root to a folder in "
                "VOC's layout, which has VOC's"
            )
            raise UserError(absent(path, "file", remedy))
        return read_class_names(path)

    def open(self) -> "FolderSource":
        """Match images with labels by name; files are read when an example is asked for.

        Raises:
            UserError: a folder, a list or a file is missing, or there are no images.
        """
        pairs, names = self._pairs()
        return FolderSource(
            pairs, tuple(map(printable, names)), self.meaning(), self.long_side, self.bands
        )

    def meaning(self) -> LabelValues:
        """Return what the values in the label files mean."""
        return LabelValues(len(require_few(self.class_names)), self.values, self.unlabelled)

    def digest(self) -> str:
        digest = hashlib.sha256()
        for name in self._pairs()[1]:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
        # Scores of one digest are compared, so other labels of the same images have another. The
        # defaults add nothing: published scores carry their digest.
        patterns = "image_pattern", "label_pattern"
        for setting in (*patterns, "values", "unlabelled", "bands", "long_side"):
            value = getattr(self, setting)
            if value != getattr(Folder, setting):
                digest.update(f"{setting}={value!r}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def entries(self) -> Iterator[Pair | UserError]:
        """Yield the image and the label file of each entry of the split, or what is wrong with it.

        Raises:
            UserError: a folder or the list is missing, or there are no images.
        """
        layout = self._layout()
        self._check_values(len(self.class_names))
        found = self._part(self._listed(layout) if self.lists else self._all(layout), layout)
        first = next(found, None)
        if first is None:
            origin = self._place(self.lists) if self.lists else layout.images
            raise UserError(f"{origin} names no images; add some or choose another split.")
        yield first
        yield from found

    def files(self) -> set[Path]:
        """Return all images in the folders of images and labels, listed or not."""
        files = (path for folder in self._folders() for path in files_below(folder, []))
        return {path for path in files if is_image(path, self._suffixes())}

    def _listed(self, layout: Layout) -> Iterator[Pair | UserError]:
        path = self._place(self.lists)
        if not os.path.isfile(path):
            raise UserError(
                f"{str(path)[:SHOWN]} {absence(path, 'file')}, so the split "
                f"{self.split[:SHOWN]!r} is unknown; {_splits_beside(path)}."
            )
        for number, line in read_lines(path, "surrogateescape"):
            try:
                yield layout.pair_line(line, f"{path}, line {number},")
            except UserError as error:
                # A comment, unless there is such a file.
                if not line.startswith("#"):
                    yield error

    def _all(self, layout: Layout) -> Iterator[Pair | UserError]:
        for image in layout.find_images():
            try:
                yield layout.pair_image(image)
            except UserError as error:
                yield error

    def _part(
        self, entries: Iterator[Pair | UserError], layout: Layout
    ) -> Iterator[Pair | UserError]:
        """Yield the entries of the part of the split that is meant."""
        _, low, high = self._parts()
        if (low, high) == (0, 100):
            return entries
        found = list(entries)
        chosen = chosen_part([_name_of(entry, layout) for entry in found], low, high)
        return iter([found[index] for index in chosen])

    def _parts(self) -> tuple[str, int, int]:
        """Return the split and which percent of it are meant."""
        return part_of(self, self.split)

    def _pairs(self) -> tuple[tuple[Pair, ...], list[str]]:
        """Return the split's pairs of files and the images' names."""
        pairs = []
        for entry in self.entries():
            if isinstance(entry, UserError):
                raise entry
            pairs.append(entry)
        layout = self._layout()
        return tuple(pairs), [layout.name_of(image) for image, _ in pairs]

    def _layout(self) -> Layout:
        for setting in ("image_pattern", "label_pattern"):
            pattern = getattr(self, setting)
            self.require(
                pattern.count("{name}") == 1 or pattern == getattr(Folder, setting),
                setting,
                "a file name with {name} in it",
            )
        return Layout(
            self._root(),
            *self._folders(),
            self.image_pattern,
            self.label_pattern,
            self._suffixes(),
        )

    def _suffixes(self) -> tuple[str, ...]:
        return SUFFIXES if self.bands else IMAGE_SUFFIXES

    def _check_values(self, classes: int) -> None:
        self.require(
            not self.values or (len(self.values) == classes and are_values(self.values)),
            "values",
            f"{classes} different numbers or colours (#rrggbb), one for each class, or empty",
        )
        self.require(
            are_values((*(self.values or range(classes)), *self.unlabelled)),
            "unlabelled",
            "numbers, or colours as the values are, of no class",
        )
        self.require(
            len({*self.names}) == len(self.names) != 1, "names", "two or more, all different"
        )
        self.require_at_least(0, "long_side", "bands")

    def _folders(self) -> tuple[Path, Path]:
        """Return the folders of images and of labels."""
        voc = next((n for n in _VOC_LABELS if os.path.isdir(self._root() / n)), _VOC_LABELS[-1])
        return self._folder(self.images), self._folder(self.labels or voc)

    def _folder(self, name: str) -> Path:
        folder = self._place(name)
        remedy = (
            "set the data set's root to a folder in VOC's layout, or its images and labels to the "
            "folders you have"
        )
        require_folder(folder, remedy)
        return folder

    def _root(self) -> Path:
        root = os.path.expanduser(self.root)
        if not os.path.isdir(root or "."):
            shown = root[:SHOWN].rstrip("/") + "/"
            raise UserError(
                f"{shown} {absence(root, 'folder')}; set the data set's root to the folder "
                "that holds its images and labels."
            )
        return Path(root)

    def _place(self, name: str) -> Path:
        return self._root() / name.replace("{split}", self._parts()[0])


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Examples read from pairs of image and label files."""

    pairs: tuple[Pair, ...]
    names: tuple[str, ...]
    meaning: LabelValues
    long_side: int = 0
    bands: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `image` (H, W, 3) uint8, `label` (H, W) uint8 and `name`.

        Where there are `bands`, `image` is (H, W, bands) uint8, uint16 or float32.

        Raises:
            UserError: a file is damaged, a label id is unknown, or the sizes differ.
        """
        image_path, label_path = self.pairs[index]
        image = read_bands(image_path, self.bands)
        label = read_label(label_path, self.meaning)
        if image.shape[:2] != label.shape:
            raise UserError(
                f"{label_path} is {label.shape[1]} x {label.shape[0]} pixels but {image_path} "
                f"is {image.shape[1]} x {image.shape[0]}; make the label again at the image's size."
            )
        return scaled_example(image, label, self.names[index], self.long_side)


def _name_of(entry: Pair | UserError, layout: Layout) -> bytes:
    text = str(entry) if isinstance(entry, UserError) else layout.name_of(entry[0])
    return text.encode("utf-8", "surrogateescape")


def is_voc(root: Path) -> bool:
    """Return whether a folder is laid out as VOC's, whose classes everybody knows."""
    labels = any(os.path.isdir(root / name) for name in _VOC_LABELS)
    return labels and os.path.isdir(root / _VOC_IMAGES)


def _splits_beside(path: Path) -> str:
    found = sorted(p.stem for p in path.parent.glob(f"*{path.suffix}"))
    return f"there are {', '.join(found)}" if found else f"{path.parent} holds no lists"
