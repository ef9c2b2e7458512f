"""What `predict` is given, photographs and videos, and where the results of each go."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path

from deeplab_mnv2.data.photographs import IMAGE_SUFFIXES, files_below, find_photographs
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.tasks.segmentation.predictions import SUFFIXES, TABLE
from deeplab_mnv2.tasks.segmentation.video import (
    VIDEO_SUFFIXES,
    VIDEO_WRITTEN,
    is_live,
    is_video,
    result_name,
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The results of each image and video, paths without suffix, and a sentence for each miss."""

    images: dict[Path, Path]
    videos: dict[str, Path]
    misses: list[str]


def find_inputs(
    arguments: Sequence[str], output: Path, suffixes: Sequence[str], written: Sequence[str]
) -> Inputs:
    """Find the images and videos that arguments name; see `find_images`.

    A video is a file, a pattern of files, or live; folders are searched for images alone, and a
    folder with videos is a miss.

    Raises:
        UserError: a result would overwrite an image, a video, or another result.
    """
    images, misses = find_images(
        [argument for argument in arguments if not is_video(argument)], output, suffixes, written
    )
    videos: list[str] = []
    for argument in filter(is_video, arguments):
        found = [argument] if is_live(argument) or os.path.lexists(argument) else []
        found = found or sorted(glob(argument, recursive=True))
        if not found:
            misses.append(f"{printable(argument)} names no video; check the path.")
        videos += found
    for folder in (Path(argument) for argument in arguments if os.path.isdir(argument)):
        # What of the folder cannot be read was told when it was searched for images.
        inside = [p for p in files_below(folder, []) if p.suffix.lower() in VIDEO_SUFFIXES]
        if inside := [path for path in inside if not _is_result(path, folder, output)]:
            misses.append(
                f"{folder} holds {len(inside)} videos, such as {inside[0]}; name them too, such "
                f"as '{folder / '*'}{inside[0].suffix}'."
            )
    results = {video: output / result_name(video) for video in dict.fromkeys(videos)}
    if results:
        # Of images alone `find_images` has done it.
        _refuse_overwriting(images, results, output, written)
    return Inputs(images, results, misses)


def find_images(
    arguments: Sequence[str],
    output: Path,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    written: Sequence[str] = SUFFIXES,
) -> tuple[dict[Path, Path], list[str]]:
    """Return the result of each image, a path without suffix, and a sentence for each miss.

    A folder is searched to its depths, linked folders too, hidden files and the output folder
    within it not (`data.photographs`). Results keep the path below the folder or below the fixed
    part of the pattern that was given; files that would share a result keep the path below their
    common folder, and the suffix if need be. `written` is what is added to the path of a result
    for each file of it.

    Raises:
        UserError: a result would overwrite an image, or a file beside it.
    """
    misses: list[str] = []
    roots: dict[Path, Path] = {}
    for argument in arguments:
        known = len(misses)
        found = list(find_photographs(argument, misses, suffixes))
        if not found and len(misses) == known:
            misses.append(f"{argument or repr(argument)} names no image; check the path.")
        for image, root in found:
            if image != Path(argument) and _is_result(image, root, output):
                continue
            roots.setdefault(*(Path(os.path.abspath(path)) for path in (image, root)))
    names = {image: _below(image, root).with_suffix("") for image, root in roots.items()}
    if shared := _shared(names):
        common = Path(os.path.commonpath([image.parent for image in shared]))
        names |= {image: _below(image, common).with_suffix("") for image in shared}
        names |= {image: _below(image, common) for image in _shared(names)}
    results = {image: output / name for image, name in names.items()}
    _refuse_overwriting(results, {}, output, written)
    return results, misses


def _refuse_overwriting(
    images: dict[Path, Path], videos: dict[str, Path], output: Path, written: Sequence[str]
) -> None:
    """Refuse results in the place of what was given, of what lies beside it, or of each other."""
    sources = [(image, image, result, written) for image, result in images.items()]
    sources += [
        # Nothing lies beside a camera.
        (video, None if is_live(video) else Path(os.path.abspath(video)), result, VIDEO_WRITTEN)
        for video, result in videos.items()
    ]
    # Links keep their own names, but what they lead to is not to be overwritten either.
    given = {path.resolve() for _, path, *_ in sources if path}
    owners: dict[Path, object] = {(output / TABLE).resolve(): "the photographs"} if images else {}
    for source, path, result, endings in sources:
        for file in _files(result, endings):
            if file in given:
                raise UserError(
                    f"The results of {source} would overwrite {file}; choose another --output."
                )
            if path and file.parent == path.parent.resolve() and file.exists():
                raise UserError(
                    f"{file} lies beside {source}, whose results would overwrite it; choose "
                    "another --output, or move that file away."
                )
            if owners.setdefault(file, source) is not source:
                raise UserError(
                    f"{owners[file]} and {source} would share the result {file.name}; rename one "
                    "of them."
                )


def _files(result: Path, endings: Iterable[str]) -> list[Path]:
    return [result.with_name(result.name + ending).resolve() for ending in endings]


def _is_result(image: Path, root: Path, output: Path) -> bool:
    """Return whether an image that was found below a folder is in the output folder within it."""
    place = output.resolve()
    return root.resolve() in place.parents and image.resolve().is_relative_to(place)


def _below(image: Path, root: Path) -> Path:
    return image.relative_to(root) if image.is_relative_to(root) else Path(image.name)


def _shared(names: dict[Path, Path]) -> list[Path]:
    """Return the images whose name another image has too, upper and lower case alike."""
    counts = Counter(str(name).lower() for name in names.values())
    return [image for image, name in names.items() if counts[str(name).lower()] > 1]
