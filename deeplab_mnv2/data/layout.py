"""Where images and labels are in folders, and how the one is found by the other."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from deeplab_mnv2.data.lists import readings
from deeplab_mnv2.data.photographs import files_below, is_image
from deeplab_mnv2.data.places import SHOWN
from deeplab_mnv2.errors import UserError

Pair = tuple[Path, Path]

# Two of the longest paths that an operating system takes.
_LONGEST = 8_192


class Layout:
    """Where the images and labels of a data set are, and how the one is found by the other.

    `root`, `images` and `labels` are folders. `image_pattern` makes an image's name, without
    suffix, and `label_pattern` a label's, with it, of what both share, which is `{name}`; folders
    below `images` are the same below `labels`. Without a `label_pattern` it is `{name}.png` or,
    for labels beside their images, the one that leaves no file over. Images have one of `suffixes`.

    A label beside its image is no image: in a folder of both, what fits `label_pattern`; in a
    folder of labels within that of images, everything.
    """

    def __init__(
        self,
        root: Path,
        images: Path,
        labels: Path,
        image_pattern: str,
        label_pattern: str,
        suffixes: Sequence[str],
    ):
        self.root, self.images, self.labels = root, images, labels
        self.suffixes = suffixes
        self.image_pattern = image_pattern
        self._listings: dict[Path, dict[tuple[str, str], list[str]]] = {}
        self._is_shared = os.path.samefile(images, labels)
        self._is_within = _below(labels, images) is not None
        self.label_pattern = label_pattern or "{name}.png"
        if self._is_shared and not label_pattern:
            self.label_pattern = _guess_pattern(_paths_below(images), suffixes)

    def find_images(self) -> list[Path]:
        """Return every image, in the order of their names.

        Raises:
            UserError: a folder cannot be read.
        """
        found = [
            path
            for path in _paths_below(self.images)
            if is_image(path, self.suffixes)
            and self._name(path) is not None
            and not self._is_label(path)
        ]
        return sorted(found, key=lambda path: str(path.with_suffix("")))

    def name_of(self, image: Path) -> str:
        """Return an image's path without suffix, below the folder of images or else the root."""
        below = _below(image, self.images) or _below(image, self.root) or image
        return below.with_suffix("").as_posix().lstrip("/")

    def pair_image(self, image: Path) -> Pair:
        """Return an image that was found in the folder of images, and its label.

        Raises:
            UserError: there is no such label, or another image has the same.
        """
        label = self._label_path(image)
        assert label is not None  # found by `find_images`
        twins = self._with_stem(image.parent, image.stem)
        if len(twins) > 1:
            raise UserError(f"{_share_a_name(twins)}; rename one.")
        if (found := self._existing(label)) is None:
            raise UserError(
                f"{str(label)[:SHOWN]}, the label of {image}, does not exist; add it, or set the "
                "data set's labels and label_pattern."
            )
        return image, found

    def pair_line(self, line: str, where: str) -> Pair:
        """Return the image and the label that a line of a list means; `where` it stands.

        Raises:
            UserError: it means no files, files outside the data set, or several.
        """
        if len(line) > _LONGEST:
            raise UserError(f"{where} has {len(line):,} characters, which is no path; correct it.")
        pairs: list[Pair] = []
        problems: list[str] = []
        for reading in dict.fromkeys(readings(line)):
            if len(reading) == 1:
                pairs += self._named(reading[0], problems)
            else:
                pairs += self._paired(reading[0], reading[1], problems)
        if len(pairs) > 1:
            # One file may be reached in several ways.
            pairs = list({tuple(map(os.path.realpath, pair)): pair for pair in pairs}.values())
        shown = f"{where} lists {line[:SHOWN]!r}"
        if len(pairs) > 1:
            ways = " or ".join(f"{image} with {label}" for image, label in pairs[:2])
            raise UserError(f"{shown}, which can mean {ways}; rename one of them."[:990])
        if pairs:
            return pairs[0]
        problems.insert(0, f"{str(self.images)[:SHOWN]} has no such image")
        # What a pair lacks says more than that the whole line is no name.
        raise UserError(f"{shown}, but {problems[-1]}; add the file or correct the entry.")

    def _named(self, entry: str, problems: list[str]) -> list[Pair]:
        """Return the images that have a name or path, each with its label."""
        images = []
        if is_image(Path(entry), self.suffixes):
            files = self._files(entry, (self.images, self.root))
            images = [path for path in files if not self._is_label(path)]
        if _leads_out(entry):
            problems.append(f"{entry[:SHOWN]!r} is outside {self.root}")
        for folder, stem in self._places(entry):
            fitting = {self.image_pattern.replace("{name}", stem), stem}
            named = [image for name in sorted(fitting) for image in self._with_stem(folder, name)]
            if len(named) > 1:
                problems.append(_share_a_name(named))
            else:
                images += named
        pairs = []
        for image in dict.fromkeys(images):
            label = self._label_path(image)
            if label is None:
                problems.append(f"{image} has no label by its name in {self.labels}")
            elif found := self._existing(label):
                pairs.append((image, found))
            else:
                problems.append(f"{str(label)[:SHOWN]} does not exist")
        return pairs

    def _paired(self, image: str, label: str, problems: list[str]) -> list[Pair]:
        """Return the pairs of files that two paths mean."""
        images = self._files(image, (self.root, self.images))
        labels = self._files(label, (self.root, self.labels))
        if bool(images) != bool(labels):
            missing = label if images else image
            if _leads_out(missing):
                problems.append(f"{missing[:SHOWN]!r} is outside {self.root}")
            else:
                problems.append(f"{str(self.root / _relative(missing))[:SHOWN]} does not exist")
        return [(i, j) for i in images for j in labels]

    def _files(self, entry: str, folders: Sequence[Path]) -> list[Path]:
        """Return the files that a path means: as it is if absolute, or else below the folders."""
        if entry.startswith("/") and (found := self._existing(Path(entry))):
            return [found]
        if _leads_out(entry):
            return []
        # In many published lists a path begins with a slash that stands for the data set.
        paths = [self._existing(folder / _relative(entry)) for folder in folders]
        return list(dict.fromkeys(path for path in paths if path))

    def _places(self, entry: str) -> list[tuple[Path, str]]:
        """Return the folders in which an image may have a name, and its last part."""
        if _leads_out(entry):
            return []
        relative = _relative(entry)
        folders = [(folder / relative).parent for folder in (self.images, self.root)]
        if entry.startswith("/"):
            folders.append(Path(entry).parent)
        return [(folder, relative.name) for folder in dict.fromkeys(folders)]

    def _with_stem(self, folder: Path, stem: str) -> list[Path]:
        """Return the images of a folder that have a name without suffix."""
        listing = self._listing(folder)
        names = [name for suffix in self.suffixes for name in listing.get((stem, suffix), ())]
        return [folder / name for name in names if not self._is_label(folder / name)]

    def _existing(self, path: Path) -> Path | None:
        """Return the file at a path, be its suffix in upper or lower case."""
        if os.path.isfile(path):
            return path
        names = self._listing(path.parent).get((path.stem, path.suffix.lower()), ())
        return next((found for name in names if os.path.isfile(found := path.parent / name)), None)

    def _listing(self, folder: Path) -> dict[tuple[str, str], list[str]]:
        """Return the names in a folder by stem and suffix in lower case; none if there is none."""
        if folder not in self._listings:
            listing: dict[tuple[str, str], list[str]] = {}
            try:
                names = sorted(os.listdir(folder))
            except (OSError, ValueError):
                names = []
            for name in names:
                path = Path(name)
                listing.setdefault((path.stem, path.suffix.lower()), []).append(name)
            self._listings[folder] = listing
        return self._listings[folder]

    def _label_path(self, image: Path) -> Path | None:
        """Return where an image's label is; None for an image that is elsewhere."""
        below, name = _below(image, self.images), self._name(image)
        if below is None or name is None:
            return None
        return self.labels / below.parent / self.label_pattern.replace("{name}", name)

    def _name(self, image: Path) -> str | None:
        """Return what an image and its label share; None for a file that is no image of ours."""
        before, _, after = self.image_pattern.partition("{name}")
        stem = image.stem
        if len(stem) <= len(before + after) or not stem.startswith(before):
            return None
        return stem[len(before) :].removesuffix(after) if stem.endswith(after) else None

    def _is_label(self, path: Path) -> bool:
        below = _below(path, self.labels) if self._is_shared or self._is_within else None
        if below is None or not self._is_shared:
            return below is not None
        before, _, after = self.label_pattern.partition("{name}")
        pattern = f"(.*/)?{re.escape(before)}[^/]+{re.escape(after)}"
        return re.fullmatch(pattern, below.as_posix(), re.DOTALL) is not None


def _relative(entry: str) -> Path:
    return Path(os.path.normpath(entry.lstrip("/")))


def _leads_out(entry: str) -> bool:
    """Return whether a path that is taken below a folder leaves it."""
    return ".." in _relative(entry).parts


def _below(path: Path, folder: Path) -> Path | None:
    """Return a path as seen from a folder above it, links followed; None where it is not above."""
    if path.is_relative_to(folder):
        return path.relative_to(folder)
    # The file itself may be a link, which says nothing about where it is.
    real, above = os.path.realpath(path.parent), os.path.realpath(folder)
    return Path(real, path.name).relative_to(above) if Path(real).is_relative_to(above) else None


def _paths_below(folder: Path) -> list[Path]:
    problems: list[str] = []
    paths = files_below(folder, problems)
    if problems:
        raise UserError(problems[0])
    return paths


def _share_a_name(paths: Sequence[Path]) -> str:
    return f"{paths[0]} and {paths[1].name} share a name, so their label is ambiguous"


def _guess_pattern(paths: Sequence[Path], suffixes: Sequence[str]) -> str:
    """Return how the labels beside some images are named: the one way that leaves no image over.

    Where there is no such way, or several, that is `{name}.png`.
    """
    images = {str(path.with_suffix("")) for path in paths if is_image(path, suffixes)}
    pngs = {str(path.with_suffix("")) for path in paths if path.suffix.lower() == ".png"}
    photographs = {
        str(p.with_suffix(""))
        for p in paths
        if is_image(p, suffixes) and p.suffix.lower() != ".png"
    }
    if not pngs or photographs & pngs:
        return "{name}.png"
    # The shortest name is an image's, the longest a label's.
    shortest, longest = min(images, key=len), max(pngs, key=len)
    endings = {png.removeprefix(shortest) for png in pngs - {shortest} if png.startswith(shortest)}
    whole = []
    for ending in filter(longest.endswith, sorted(endings)):
        labels = {image + ending for image in images} & pngs
        if all(image + ending in labels for image in images - labels):
            whole.append(ending)
    return f"{{name}}{whole[0]}.png" if len(whole) == 1 else "{name}.png"
