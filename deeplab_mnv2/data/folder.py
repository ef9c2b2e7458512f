"""Data sets that lie in folders: images, label PNGs and, where there are splits, list files."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from deeplab_mnv2.data.decode import read_image, read_label
from deeplab_mnv2.data.voc_classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


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
        if not path.is_file():
            return VOC_CLASSES
        names = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
        if len(names) < 2:
            raise UserError(f"{path} names {len(names)} classes; write one a line, two or more.")
        return names

    def open(self) -> "FolderSource":
        """Match images with labels by name; files are read when an example is asked for.

        Raises:
            UserError: a folder, a list or a file is missing, or there are no images.
        """
        return FolderSource(self._pairs(), len(self.class_names))

    def digest(self) -> str:
        digest = hashlib.sha256()
        for image, _ in self._pairs():
            digest.update(image.stem.encode() + b"\n")
        return digest.hexdigest()[:16]

    def _pairs(self) -> tuple[tuple[Path, Path], ...]:
        root = Path(self.root)
        images, labels = self._folder(self.images), self._folder(self.labels or self._labels())
        if not self.lists:
            names = sorted(p.name for p in images.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            lines, origin = names, images
        else:
            origin = root / self.lists.format(split=self.split)
            if not origin.is_file():
                raise UserError(
                    f"{origin} does not exist, so the split {self.split!r} is unknown; "
                    f"{_splits_beside(origin)}."
                )
            lines = [line for line in origin.read_text().splitlines() if line.strip()]
        if not lines:
            raise UserError(f"{origin} names no images; add some or choose another split.")
        stems = _by_stem(images)
        return tuple(
            self._pair(line.split(), root, stems, images, labels, origin) for line in lines
        )

    def _pair(
        self,
        entry: list[str],
        root: Path,
        stems: dict[str, Path],
        images: Path,
        labels: Path,
        origin: Path,
    ) -> tuple[Path, Path]:
        if len(entry) == 2:
            pair = tuple(_inside(root, name, origin) for name in entry)
        else:
            stem = Path(entry[0]).stem
            if stem not in stems:
                raise UserError(f"{origin} lists {stem!r}, but {images} has no such image.")
            pair = (stems[stem], labels / f"{stem}.png")
        for path in pair:
            if not path.is_file():
                raise UserError(
                    f"{path} does not exist, but {origin} lists {entry[0]!r}; add the file or "
                    "remove the entry."
                )
        return pair[0], pair[1]

    def _folder(self, name: str) -> Path:
        folder = Path(self.root, name.format(split=self.split))
        if not folder.is_dir():
            raise UserError(
                f"The folder {folder} does not exist; set the data set's root to a folder in "
                "VOC's layout, or its images and labels to the folders you have."
            )
        return folder

    def _labels(self) -> str:
        augmented = "SegmentationClassAug"
        return augmented if Path(self.root, augmented).is_dir() else "SegmentationClass"


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Examples read from pairs of image and label files."""

    pairs: tuple[tuple[Path, Path], ...]
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
        return {"image": image, "label": label, "name": image_path.stem}


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if path.stem in files:
                raise UserError(
                    f"{files[path.stem]} and {path.name} share a name, so their label is "
                    "ambiguous; rename one."
                )
            files[path.stem] = path
    return files


def _inside(root: Path, name: str, origin: Path) -> Path:
    """Return `root / name`, refusing list entries that lead out of the data set."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{origin} lists {name!r}, which lies outside {root}; remove the entry.")
    return path


def _splits_beside(path: Path) -> str:
    found = sorted(p.stem for p in path.parent.glob(f"*{path.suffix}"))
    return f"there are {', '.join(found)}" if found else f"{path.parent} holds no lists"
