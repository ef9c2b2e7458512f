"""Data sets that lie in folders: images, label PNGs and, where there are splits, list files."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.decode import read_image, read_label
from deeplab_mnv2.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Characters of a list's entry or a path that an error shows.
_QUOTED = 200


@dataclasses.dataclass
class Folder:
    """Images and labels under `root`; the defaults are PASCAL VOC's own layout.

    `images`, `labels` and `lists` are paths relative to `root`, in which `{split}` stands for
    the split. Labels are PNGs with the image's file name. Where `lists` names a file, its lines
    are names without suffix, or an image and a label path; where it is "", every image counts.
    `classes` names a text file with one class a line, background first; without such a file
    the classes are VOC's.
    """

    root: str = ""
    split: str = "trainaug"
    images: str = "JPEGImages"
    # Empty: SegmentationClassAug (VOC with SBD) where it exists, else SegmentationClass.
    labels: str = ""
    lists: str = "ImageSets/Segmentation/{split}.txt"
    classes: str = "classes.txt"

    @property
    def class_names(self) -> tuple[str, ...]:
        path = Path(self.root, self.classes)
        if not os.path.isfile(path):
            return VOC_CLASSES
        names = tuple(_lines(path))
        if len(names) < 2:
            raise UserError(f"{path} names {len(names)} classes; write one a line, two or more.")
        if repeated := [name for name in names if names.count(name) > 1]:
            raise UserError(f"{path} names {repeated[0]!r} twice; give each class its own name.")
        return names

    def open(self) -> "FolderSource":
        """Match images with labels by name; files are read when an example is asked for.

        Raises:
            UserError: a folder, a list or a file is missing, or there are no images.
        """
        pairs = self._pairs()
        return FolderSource(pairs, self._names(pairs), len(self.class_names))

    def digest(self) -> str:
        digest = hashlib.sha256()
        for name in self._names(self._pairs()):
            digest.update(name.encode() + b"\n")
        return digest.hexdigest()[:16]

    def entries(self) -> Iterator[tuple[Path, Path] | UserError]:
        """Yield the image and the label file of each entry of the split, or what is wrong with it.

        Raises:
            UserError: a folder or the list is missing, or there are no images.
        """
        folder, labels = self._folders()
        images = _by_stem(folder)
        if self.lists:
            origin = self._path(self.lists)
            if not os.path.isfile(origin):
                raise UserError(
                    f"{origin} does not exist, so the split {self.split!r} is unknown; "
                    f"{_splits_beside(origin)}."
                )
            names = _lines(origin)
        else:
            origin, names = folder, sorted(images)
        if not names:
            raise UserError(f"{origin} names no images; add some or choose another split.")
        for name in names:
            try:
                yield self._pair(name, images, labels, origin)
            except UserError as error:
                yield error

    def files(self) -> set[Path]:
        """Return all images in the folders of images and labels, listed or not."""
        return {path for folder in self._folders() for path in _images(folder)}

    def _names(self, pairs: tuple[tuple[Path, Path], ...]) -> tuple[str, ...]:
        """Return images' paths without suffix: bare names, unless a list has other folders."""
        folder, _ = self._folders()
        names = []
        for image, _ in pairs:
            below = folder if image.is_relative_to(folder) else Path(self.root)
            names.append(image.relative_to(below).with_suffix("").as_posix())
        return tuple(names)

    def _pairs(self) -> tuple[tuple[Path, Path], ...]:
        pairs = []
        for entry in self.entries():
            if isinstance(entry, UserError):
                raise entry
            pairs.append(entry)
        return tuple(pairs)

    def _pair(
        self, name: str, images: dict[str, list[Path]], labels: Path, origin: Path
    ) -> tuple[Path, Path]:
        entry = Path(name)
        if entry.suffix.lower() in IMAGE_SUFFIXES:
            entry = entry.with_suffix("")
        paths, shown = name.split(), name[:_QUOTED]
        # A name may hold a space of its own.
        if len(paths) == 2 and str(entry) not in images:
            image, label = (_inside(Path(self.root), path, origin) for path in paths)
        else:
            found = images.get(entry.name, [])
            if not found:
                raise UserError(
                    f"{origin} lists {shown!r}, but {self._path(self.images)} has no such image; "
                    "add the file or remove the entry."
                )
            if len(found) > 1:
                raise UserError(
                    f"{found[0]} and {found[1].name} share a name, so their label is ambiguous; "
                    "rename one."
                )
            image, label = found[0], labels / f"{entry.name}.png"
        for path in (image, label):
            if not os.path.isfile(path):
                raise UserError(
                    f"{str(path)[:_QUOTED]} does not exist, but {origin} lists {shown!r}; add the "
                    "file or remove the entry."
                )
        return image, label

    def _folders(self) -> tuple[Path, Path]:
        augmented = "SegmentationClassAug"
        voc = augmented if os.path.isdir(Path(self.root, augmented)) else "SegmentationClass"
        return self._folder(self.images), self._folder(self.labels or voc)

    def _folder(self, name: str) -> Path:
        folder = self._path(name)
        if not os.path.isdir(folder):
            raise UserError(
                f"The folder {str(folder)[:_QUOTED]} does not exist; set the data set's root to a "
                "folder in VOC's layout, or its images and labels to the folders you have."
            )
        return folder

    def _path(self, name: str) -> Path:
        return Path(self.root, name.replace("{split}", self.split))


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Examples read from pairs of image and label files."""

    pairs: tuple[tuple[Path, Path], ...]
    names: tuple[str, ...]
    num_classes: int

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `image` (H, W, 3) uint8, `label` (H, W) uint8 and `name`.

        Raises:
            UserError: a file is damaged, a label id is unknown, or the sizes differ.
        """
        image_path, label_path = self.pairs[index]
        image = read_image(image_path)
        label = read_label(label_path, self.num_classes)
        if image.shape[:2] != label.shape:
            raise UserError(
                f"{label_path} is {label.shape[1]} x {label.shape[0]} pixels but {image_path} "
                f"is {image.shape[1]} x {image.shape[0]}; make the label anew at the image's size."
            )
        return {"image": image, "label": label, "name": self.names[index]}


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in _images(folder):
        files.setdefault(path.stem, []).append(path)
    return files


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file that hold something.

    Raises:
        UserError: it is no text in UTF-8.
    """
    try:
        # Some editors of Windows begin a file with a mark.
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds a NUL")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as text ({error}); save it in UTF-8.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _inside(root: Path, name: str, origin: Path) -> Path:
    """Return `root / name`, refusing list entries that lead out of the data set."""
    # Many lists of trainaug begin their paths with a slash that means the data set.
    path = root / name.lstrip("/")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise UserError(
            f"{origin} lists {name[:_QUOTED]!r}, which lies outside {root}; remove the entry."
        )
    return path


def _splits_beside(path: Path) -> str:
    found = sorted(p.stem for p in path.parent.glob(f"*{path.suffix}"))
    return f"there are {', '.join(found)}" if found else f"{path.parent} holds no lists"
