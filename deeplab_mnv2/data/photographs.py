"""Photographs in folders: which files are taken for one, and where they are."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path, PurePath

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Photographs all the same, but their formats are not read, or (GIF) mostly drawings.
OTHER_SUFFIXES = (
    *(".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)


def is_image(path: PurePath, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    """Return whether a file has the suffix of an image, in upper or lower case."""
    return path.suffix.lower() in suffixes


def files_below(folder: Path, problems: list[str]) -> list[Path]:
    """Return the files in a folder and its sub-folders, sorted; broken links are among them.

    Linked folders are entered too, each folder once. Hidden files are passed over: those that
    macOS puts beside a photograph (`._photo.jpg`) are no images. A sentence about each folder
    that cannot be read is added to `problems`.
    """
    start = Path(os.path.realpath(folder))
    seen: set[str] = set()
    files: list[Path] = []
    # Links come last, so that a folder keeps its own path where it has one.
    folders, links = [folder], []
    while folders or links:
        current = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(current)
        # A link upwards would lead through everything beside the folder.
        if real in seen or (current != folder and start.is_relative_to(real)):
            continue
        seen.add(real)
        try:
            names = os.listdir(current)
        except OSError as error:
            problems.append(
                f"The folder {current} cannot be read ({error.strerror}); correct its permissions."
            )
            continue
        for path in (current / name for name in sorted(names) if not name.startswith(".")):
            if os.path.isdir(path):
                (links if path.is_symlink() else folders).append(path)
            elif os.path.isfile(path) or path.is_symlink():
                files.append(path)
    return sorted(files)


def find_photographs(
    argument: str, problems: list[str], suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> Iterator[tuple[Path, Path]]:
    """Yield the images that a file, a folder or a pattern names, each with a folder it is in.

    The folder is the one that was named, or the fixed part of the pattern. A file that is named
    itself is taken whatever its suffix. A sentence about whatever cannot be searched or read is
    added to `problems`.
    """
    path = Path(argument)
    if not argument:
        return  # to Python, the working directory
    if os.path.isdir(path):
        for image in _in_folder(path, problems, suffixes):
            yield image, path
    elif os.path.lexists(path):
        yield path, path.parent
    elif has_magic(argument):
        root = path.parent
        while has_magic(str(root)):
            root = root.parent
        for found in _matching(path, root, problems):
            if os.path.isdir(found):
                for image in _in_folder(found, problems, suffixes):
                    yield image, root
            else:
                yield found, root


def _in_folder(folder: Path, problems: list[str], suffixes: Sequence[str]) -> list[Path]:
    files = files_below(folder, problems)
    if others := [path for path in files if path.suffix.lower() in OTHER_SUFFIXES]:
        problems.append(
            f"{folder} holds {len(others)} files, such as {others[0]}, in formats that are not "
            "searched for; convert them to JPEG or PNG."
        )
    return [path for path in files if is_image(path, suffixes)]


def _matching(pattern: Path, root: Path, problems: list[str]) -> list[Path]:
    """Return the files and folders that a pattern matches; `**` stands for any folders."""
    if "**" not in pattern.parts:
        return [Path(name) for name in sorted(glob(str(pattern)))]
    # Python's own `**` goes round in circles where links do.
    below = pattern.relative_to(root).parts
    files = files_below(root, problems)
    return [path for path in files if _fits(path.relative_to(root).parts, below)]


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        # At the end, as in a shell, it stands for files as well.
        return _fits(parts, pattern[1:]) or (bool(parts) and _fits(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
