"""Data sets of one class an image: a folder of class folders, or an archive of them."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.decode import decode_image
from deeplab_mnv2.data.file_tree import FileTree, open_tree
from deeplab_mnv2.data.lists import split_lines
from deeplab_mnv2.data.photographs import is_image
from deeplab_mnv2.data.split_part import part_of
from deeplab_mnv2.errors import UserError, printable

# Whose folders name the classes, where no file does.
_TRAIN = "train"


@dataclasses.dataclass
class ClassFolder(Section):
    """Images at `root`/`split`/CLASS/NAME.jpg, the layout of torchvision and Keras.

    `root` is a folder, or a .tar or .zip that is read where it is. A split is a folder below it,
    or "" for the root itself; "train[:90%]" is the first 90 % of the images of every class by
    their names, and "train[90%:]" the rest.

    The classes are the folders of `train`, or where there is none of the split, in the order of
    their names. A file `classes` at the root says otherwise: one class folder a line, and after a
    tab what to call it. Then folders may be missing, as in a sample of ImageNet.
    """

    root: str = ""
    split: str = _TRAIN
    classes: str = "classes.txt"

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._classes(open_tree(self.root)).values())

    def open(self) -> "ClassFolderSource":
        """List the images; they are read when an example is asked for.

        Raises:
            UserError: the root, the split or a class has no images, a folder is of no class, or
                two images of a class share a name.
        """
        tree = open_tree(self.root)
        return ClassFolderSource(tree, *self._entries(tree, self._classes(tree)))

    def digest(self) -> str:
        tree = open_tree(self.root)
        classes = self._classes(tree)
        digest = hashlib.sha256("\n".join(classes).encode("utf-8", "surrogateescape"))
        for name in self._entries(tree, classes)[2]:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()[:16]

    def _entries(
        self, tree: FileTree, classes: Mapping[str, str]
    ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return of each image of the split its place among the files, its class and its name."""
        folder, low, high = self._parts()
        by_class = self._images(tree, folder, list(classes))
        indices, labels, names = [], [], []
        for label, found in enumerate(by_class):
            for index in found[len(found) * low // 100 : len(found) * high // 100]:
                indices.append(index)
                labels.append(label)
                names.append(_name(tree.paths[index], folder))
        if not indices:
            raise UserError(f"The split {self.split!r} of {self.root} holds no images.")
        return np.array(indices), np.array(labels), tuple(names)

    def _images(self, tree: FileTree, folder: str, classes: list[str]) -> list[list[int]]:
        """Return the places of each class's images, by their names."""
        place = tree.describe(folder) if folder else self.root
        present = _folders_below(tree, folder)
        if not present:
            raise UserError(
                f"{place} holds no class folders; the layout is {folder or 'ROOT'}/CLASS/NAME.jpg."
            )
        if unknown := sorted(present - {*classes}):
            raise UserError(
                f"The folder {unknown[0]} in {place} is no class; "
                + (
                    f"add it to {self.classes}, or remove it."
                    if self._class_file(tree) is not None
                    else f"{_TRAIN} has no such folder: add it there, or remove it here."
                )
            )
        found: list[list[int]] = [[] for _ in classes]
        label_of = {name: label for label, name in enumerate(classes)}
        start = f"{folder}/" if folder else ""
        for index, path in enumerate(tree.paths):
            if path.startswith(start) and is_image(PurePosixPath(path)):
                name, slash, _ = path.removeprefix(start).partition("/")
                if slash:
                    found[label_of[name]].append(index)
        for name in sorted(present):
            own = found[label_of[name]]
            if not own:
                raise UserError(
                    f"The class folder {name} in {place} holds no images; add some, or remove it."
                )
            stems = [_name(tree.paths[index], folder) for index in own]
            if len({*stems}) < len(stems):
                twin = next(stem for stem in stems if stems.count(stem) > 1)
                raise UserError(f"Two images in {place} are called {twin}; rename one.")
        return found

    def _classes(self, tree: FileTree) -> dict[str, str]:
        """Return what each class folder is called, in the order of the classes."""
        if (index := self._class_file(tree)) is not None:
            found = _read_classes(tree.read(index), tree.describe(self.classes))
        else:
            folder = _TRAIN if _folders_below(tree, _TRAIN) else self._parts()[0]
            found = {name: printable(name) for name in sorted(_folders_below(tree, folder))}
        if len(found) < 2:
            raise UserError(
                f"{self.root} has {len(found)} class folders in {self._parts()[0] or 'itself'}; "
                "classification takes two or more."
            )
        return found

    def _class_file(self, tree: FileTree) -> int | None:
        return tree.paths.index(self.classes) if self.classes in tree.paths else None

    def _parts(self) -> tuple[str, int, int]:
        """Return the folder of the split and which percent of each class it takes."""
        return part_of(self, self.split)


@dataclasses.dataclass(frozen=True)
class ClassFolderSource:
    """Examples `image` (H, W, 3) uint8, `label`, the number of the class, and `name`."""

    tree: FileTree
    indices: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = range(len(self))[index]  # an IndexError beyond the end
        file = int(self.indices[place])
        where = self.tree.describe(self.tree.paths[file])
        return {
            "image": decode_image(self.tree.read(file), where),
            "label": int(self.labels[place]),
            "name": printable(self.names[place]),
        }


def _folders_below(tree: FileTree, folder: str) -> set[str]:
    """Return the names of the folders directly below one."""
    pairs = (path.rpartition("/") for path in tree.folders)
    return {name for above, _, name in pairs if above == folder}


def _name(path: str, folder: str) -> str:
    below = path.removeprefix(f"{folder}/") if folder else path
    return PurePosixPath(below).with_suffix("").as_posix()


def _read_classes(content: bytes, where: str) -> dict[str, str]:
    try:
        lines = [line.strip() for line in split_lines(content, "strict")]
    except ValueError as error:
        raise UserError(f"{where} cannot be read as text ({error}); save it in UTF-8.") from error
    found: dict[str, str] = {}
    for line in filter(None, lines):
        folder, _, title = line.partition("\t")
        if folder.strip() in found:
            raise UserError(f"{where} names the class {folder.strip()} twice; remove one.")
        found[folder.strip()] = title.strip() or printable(folder.strip())
    return found
