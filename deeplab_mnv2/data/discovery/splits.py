"""Which folders hold the images of a split, and which their labels."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.errors import UserError

# How people call what is trained on and what is scored, in the order of preference.
_TRAIN = ("trainaug", "train", "training", "trainval")
_SCORED = ("val", "valid", "validation", "test", "testing")
# A name with that of a split in it: train, train_masks, trainannot, images-train, train2017.
_FOLDER = re.compile(
    rf"(?P<before>|.*[_-])(?P<split>({'|'.join(_TRAIN + _SCORED)})\d*)"
    r"(?P<after>|[_-].*|(annot|mask|label|gt|image|img).*)",
    re.IGNORECASE,
)
_DIGITS = "0123456789"
# Of examples without splits, the percentage that is trained on; the rest is scored.
_SHARE = 80
# Files of each split that are looked at to tell labels from photographs, and the colours that a
# label has at most.
_SAMPLE, _MOST_COLOURS = 5, 64

# By the name of a split, "" where there is none, the files.
Group = dict[str, list[Path]]


@dataclasses.dataclass(frozen=True)
class Pair:
    """The folders of images and of their labels, `{split}` in them; how labels are named."""

    images: str
    labels: str
    pattern: str
    splits: set[str]


def grouped(root: Path, files: Sequence[Path]) -> dict[str, Group]:
    """Return the files by the folder that they are in, below the root, and by split.

    The folder has `{split}` in place of the name of the split, the first that is one.
    """
    groups: dict[str, Group] = {}
    for path in files:
        folder, split = template(path.parent.relative_to(root))
        groups.setdefault(folder, {}).setdefault(split, []).append(path)
    return groups


def template(path: Path) -> tuple[str, str]:
    """Return a path with `{split}` for the first name of a split in it, and that name or ""."""
    parts = list(path.parts)
    for place, part in enumerate(parts):
        name, dot, suffix = part.partition(".")
        if match := _FOLDER.fullmatch(name):
            parts[place] = f"{match['before']}{{split}}{match['after']}{dot}{suffix}"
            return "/".join(parts), match["split"]
    return "/".join(parts) or ".", ""


def choose_splits(names: Iterable[str]) -> tuple[str, str, str]:
    """Return what to train on and what to score of some splits, and that in words.

    Raises:
        UserError: there is nothing to train on.
    """
    known: dict[str, str] = {}
    for name in sorted(names):
        if (other := known.setdefault(name.lower().rstrip(_DIGITS), name)) != name:
            raise UserError(
                f"There are the splits {other} and {name}, of which nothing says which one is "
                "meant; move one of them away."
            )
    train = next((known[name] for name in _TRAIN if name in known), None)
    val = next((known[name] for name in _SCORED if name in known), None)
    if train is not None and val is not None:
        return train, val, f"trained on {train}, scored on {val}"
    if train is None and len(known) != 1:
        raise UserError(f"There are the splits {', '.join(sorted(known))}, but none called train.")
    name = train or next(iter(known.values())) or "all"
    told = f"no split to score: by chance {_SHARE} % of {name} are trained on, the rest is scored"
    return f"{name}[:{_SHARE}%]", f"{name}[{_SHARE}%:]", told


def find_pair(root: Path, images: Sequence[Path]) -> Pair:
    """Return which folders hold images and which their labels, PNGs that are named after them.

    Raises:
        UserError: there are no images, or several folders hold the labels of others.
    """
    groups = grouped(root, images)
    if not groups:
        raise UserError(f"{root} holds no images; give the folder that your images are in.")
    likely = {folder: _are_labels(_sample(group)) for folder, group in groups.items()}
    found = []
    for folder, group in groups.items():
        for other, labels in groups.items():
            splits = {*group} & {*labels}
            if other != folder and likely[other] and splits:
                pattern = _label_pattern(_sample(group), labels)
                found += [Pair(folder, other, pattern, splits)] if pattern else []
    # Drawn images look like labels too; but where one of two folders does not, it is the images.
    best = [pair for pair in found if not likely[pair.images]] or found
    # Arrays beside photographs are what somebody computed of them.
    best = [pair for pair in best if not _are_arrays(groups[pair.images])] or best
    if len(best) > 1:
        ways = " or ".join(f"{pair.labels} labels {pair.images}" for pair in best[:3])
        raise UserError(
            f"The folders below {root} can be read in several ways: {ways}; move the others away, "
            "or write an experiment with Folder(images=..., labels=...)."
        )
    if best:
        return best[0]
    # Labels beside their images, whose names `Folder` finds out itself.
    splits = {split for group in groups.values() for split in group}
    beside = os.path.commonpath(groups) or "."
    if splits != {""} and "{split}" not in beside:
        raise UserError(
            f"{root} has folders called {', '.join(sorted(splits))[:200]}, but no labels that are "
            "named after the images in them; write an experiment with Folder(images=..., "
            "labels=...)."
        )
    return Pair(beside, beside, "", splits)


def _sample(group: Group) -> list[Path]:
    """Return a few files of each split."""
    return [
        files[index]
        for files in group.values()
        for index in np.linspace(0, len(files) - 1, min(_SAMPLE, len(files))).astype(int)
    ]


def _are_arrays(group: Group) -> bool:
    return all(path.suffix.lower() == ".npy" for files in group.values() for path in files)


def _are_labels(paths: Sequence[Path]) -> bool:
    """Return whether files look like labels: PNGs of few colours."""
    if any(path.suffix.lower() != ".png" for path in paths):
        return False
    pixels = (read_image(path).reshape(-1, 3) for path in paths)
    return all(len(np.unique(one, axis=0)) <= _MOST_COLOURS for one in pixels)


def _label_pattern(images: Sequence[Path], labels: Group) -> str:
    """Return how labels are named after images, "" where half of the images or more have none.

    Raises:
        UserError: they are named in several ways.
    """
    names = {path.name for files in labels.values() for path in files}
    patterns = Counter(
        name.replace(image.stem, "{name}", 1)
        for image in images
        for name in names
        if image.stem in name
    )
    # Of those that fit as often, the shortest: 1.png is named after 1, and so is 11.png.
    most = max(patterns.values(), default=0)
    if 2 * most <= len(images):
        return ""
    best = sorted((pattern for pattern in patterns if patterns[pattern] == most), key=len)
    # Unless the images have another ending after a number, which is chance.
    others = [p for p in best[1:] if not re.fullmatch(r"\d*\{name\}\d*\.png", p)]
    if others and best[0] != "{name}.png":
        raise UserError(
            f"Labels are named {best[0]} and {others[0]}, and nothing says which ones are meant; "
            "move the others away, or write an experiment with Folder(label_pattern=...)."
        )
    return best[0]
