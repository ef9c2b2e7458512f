"""ImageNet's own archives, read where they are: nothing is unpacked or prepared.

Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge (arXiv:1409.0575). Its
training archive holds one archive for each class. The validation images have no class in their
names: the development kit has the numbers of their classes, in an order of its own.
"""

import dataclasses
import functools
import hashlib
import os
import tarfile
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import scipy.io

from deeplab_mnv2.config import DataSet
from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.class_folder import ClassFolder, ClassFolderSource
from deeplab_mnv2.data.file_tree import open_tree
from deeplab_mnv2.errors import UserError

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
_META = "ILSVRC2012_devkit_t12/data/meta.mat"
CLASSES = 1000


def imagenet(root: str, split: str) -> DataSet:
    """Return the data set of a folder: of ImageNet's own archives, or else of class folders."""
    folder = Path(os.path.expanduser(root))
    if any((folder / name).exists() for name in (TRAIN, VAL)):
        return ImageNetArchives(root=root, split=split)
    return ClassFolder(root=root, split=split)


@dataclasses.dataclass
class ImageNetArchives(Section):
    """The archives of the challenge of 2012 as they are published, in the folder `root`.

    Classes are in the order of their WordNet ids, as everywhere but in the development kit, and
    are called by the first of their English names. Opening the training archive goes through the
    headers of 1.28 million images, which takes a minute or two.
    """

    root: str = ""
    split: str = "train"

    @property
    def class_names(self) -> tuple[str, ...]:
        return _devkit(self._file(DEVKIT)).names

    def open(self) -> ClassFolderSource:
        """List the images.

        Raises:
            UserError: an archive is missing or damaged, or there is no such split.
        """
        self.require_one_of(("train", "val"), "split")
        kit = _devkit(self._file(DEVKIT))
        tree = open_tree(str(self._file(TRAIN if self.split == "train" else VAL)))
        names = tuple(PurePosixPath(path).with_suffix("").as_posix() for path in tree.paths)
        if self.split == "train":
            place = {wnid: label for label, wnid in enumerate(kit.wnids)}
            folders = [name.partition("/")[0] for name in names]
            if unknown := sorted({*folders} - place.keys()):
                raise UserError(
                    f"{self._file(TRAIN)} holds {unknown[0]}, which is no class of {DEVKIT}; get "
                    "both from one source."
                )
            labels = np.array([place[folder] for folder in folders])
        else:
            # Named ILSVRC2012_val_00000001 and so on.
            numbers = [int(name[-8:]) if name[-8:].isdecimal() else 0 for name in names]
            if not all(1 <= number <= len(kit.truth) for number in numbers):
                raise UserError(
                    f"{self._file(VAL)} holds images that are not of the challenge; get it again."
                )
            labels = kit.truth[np.array(numbers) - 1]
        return ClassFolderSource(tree, np.arange(len(names)), labels, names)

    def digest(self) -> str:
        source = self.open()
        digest = hashlib.sha256()
        for name, label in zip(source.names, source.labels, strict=True):
            digest.update(f"{name} {label}\n".encode())
        return digest.hexdigest()[:16]

    def _file(self, name: str) -> Path:
        path = Path(os.path.expanduser(self.root)) / name
        if not path.is_file():
            raise UserError(f"{path} does not exist; put the archive there, unopened.")
        return path


@dataclasses.dataclass(frozen=True)
class _Devkit:
    """WordNet ids and names of the classes in order, and the class of each validation image."""

    wnids: tuple[str, ...]
    names: tuple[str, ...]
    truth: np.ndarray


@functools.lru_cache(maxsize=2)
def _devkit(path: Path) -> _Devkit:
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = [archive.extractfile(name) for name in (_TRUTH, _META)]
            truth_text, meta = (member.read() if member else b"" for member in members)
        synsets: Any = scipy.io.loadmat(BytesIO(meta), squeeze_me=True)["synsets"]
        # Beyond the 1,000 come the groups that they form.
        numbered = {
            int(row["ILSVRC2012_ID"]): (str(row["WNID"]), str(row["words"]).partition(",")[0])
            for row in synsets
            if int(row["ILSVRC2012_ID"]) <= CLASSES
        }
        order = sorted(numbered, key=lambda number: numbered[number][0])
        place = {number: label for label, number in enumerate(order)}
        truth = np.array([place[int(line)] for line in truth_text.split()])
    # scipy and tarfile raise whatever they meet.
    except Exception as error:
        raise UserError(f"{path} cannot be read ({error}); get it again.") from error
    names = [numbered[number][1] for number in order]
    # Two are cranes and two maillots.
    names = [
        f"{name} ({numbered[number][0]})" if names.count(name) > 1 else name
        for number, name in zip(order, names, strict=True)
    ]
    return _Devkit(tuple(numbered[number][0] for number in order), tuple(names), truth)
