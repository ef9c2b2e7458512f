"""Segment photographs: a label image and an overlay for each.

  python -m deeplab_mnv2.predict --output DIR [--weights FILE | --workdir RUN] IMAGE...

IMAGE is a file, a folder, a pattern in quotes ('*.jpg'), or - for a list on standard input.
Leaves NAME.png, a palette PNG of class ids, and NAME_overlay.jpg in the output folder; NAME
keeps the folders that tell images apart.
"""

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from glob import glob, has_magic
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from absl import flags
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.data.folder import IMAGE_SUFFIXES
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.segmentation.segmenter import LONG_SIDE, Segmentation, Segmenter
from deeplab_mnv2.tasks.segmentation.windows import Photo
from deeplab_mnv2.training.workdir import load_class_names, load_model

# Results that wait to be written; a photograph of 12 megapixels takes 150 MB until it is.
_WAITING = 2


def find_images(arguments: list[str], output: Path) -> tuple[dict[Path, Path], list[str]]:
    """Return the result of each image, a path without suffix, and a sentence for each miss.

    A folder is searched to its depths, except the output folder within it. Results keep the
    path below the folder or below the fixed part of the pattern that was given; files that
    would share a result keep the path below their common folder, and the suffix if need be.

    Raises:
        UserError: a result would overwrite an image.
    """
    misses = []
    roots: dict[Path, Path] = {}
    for argument in arguments:
        found = list(_expand(argument, output))
        if not found:
            misses.append(f"{argument} names no image; check the path.")
        for image, root in found:
            roots.setdefault(*(Path(os.path.abspath(path)) for path in (image, root)))
    names = {image: _below(image, root).with_suffix("") for image, root in roots.items()}
    if shared := _shared(names):
        common = Path(os.path.commonpath([image.parent for image in shared]))
        names |= {image: _below(image, common).with_suffix("") for image in shared}
        names |= {image: _below(image, common) for image in _shared(names)}
    results = {image: output / name for image, name in names.items()}
    # Links keep their own names, but what they lead to is not to be overwritten either.
    given = {image.resolve() for image in roots}
    for image, result in results.items():
        for suffix in (".png", "_overlay.jpg", ".npz"):
            if (overwritten := _with(result, suffix).resolve()) in given:
                raise UserError(
                    f"The results of {image} would overwrite {overwritten}; choose another "
                    "--output."
                )
    return results, misses


def predict(
    segmenter: Segmenter,
    results: dict[Path, Path],
    *,
    probabilities: bool = False,
    on_done: Callable[[Path], None],
) -> list[str]:
    """Segment images and write their results; return a sentence for each damaged image.

    Raises:
        UserError: a result cannot be written.
    """
    failures = []

    def failed(image: Photo, error: UserError) -> None:
        failures.append(str(error))
        on_done(cast(Path, image))

    found = segmenter.batch(results, probabilities=probabilities, on_error=failed)
    with ThreadPoolExecutor(2) as threads:
        waiting = deque()
        for segmentation in found:
            path = cast(Path, segmentation.path)
            job = threads.submit(save, segmentation, results[path])
            waiting.append((path, job))
            while len(waiting) > _WAITING:
                _wait(waiting, on_done)
        while waiting:
            _wait(waiting, on_done)
    return failures


def save(segmentation: Segmentation, result: Path) -> None:
    """Write the label, the overlay and, where they exist, the probabilities.

    Raises:
        UserError: the folder cannot be written.
    """
    label, overlay = segmentation.palette_image(), segmentation.overlay()
    writers: dict[str, Callable[[BinaryIO], None]] = {
        ".png": lambda file: label.save(file, "PNG"),
        "_overlay.jpg": lambda file: overlay.save(file, "JPEG", quality=90),
    }
    if segmentation.probabilities is not None:
        half = segmentation.probabilities.astype(np.float16)
        writers[".npz"] = lambda file: np.savez_compressed(file, probabilities=half)
    for suffix, write in writers.items():
        with replace_atomically(_with(result, suffix)) as temporary, temporary.open("wb") as file:
            write(file)


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    # Parsed before, by `command.run`; what is left over are the images.
    arguments = given(sys.argv)[1:]
    if "-" in arguments:
        listed = [line.rstrip("\n") for line in sys.stdin if line.strip()]
        arguments = [a for a in arguments if a != "-"] + listed
    if not arguments:
        raise UserError("No image is given; name files, folders or patterns, or - for a list.")
    if not given.output:
        raise UserError("Give --output DIR, the folder for the results.")
    output = Path(given.output)
    results, misses = find_images(arguments, output)
    failures = []
    if results:
        command.require_writable(output, "--output")
        segmenter = _segmenter(given.weights, given.workdir, given.checkpoint, given.long_side)
        begin = time.perf_counter()
        columns = TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns) as progress:
            task = progress.add_task("", total=len(results))
            failures = predict(
                segmenter,
                results,
                probabilities=given.probabilities,
                on_done=lambda _: progress.advance(task),
            )
        seconds = time.perf_counter() - begin
        done = len(results) - len(failures)
        print(f"{done} image{'s' * (done != 1)} in {seconds:.1f} s; see {output}")
    for sentence in (*misses, *failures):
        print(f"error: {sentence}", file=sys.stderr)
    if misses or failures:
        sys.exit(1)


def _segmenter(file: str, workdir: str, checkpoint: str, long_side: int) -> Segmenter:
    if file and workdir:
        raise UserError("Give either --weights FILE or --workdir RUN, not both.")
    if workdir:
        model = load_model(Path(workdir), checkpoint)
        return Segmenter(model, load_class_names(Path(workdir)), long_side=long_side)
    return Segmenter.load(file or weights.PACKAGED, long_side=long_side)


def _expand(argument: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (image, folder below which its result keeps its path)."""
    path = Path(argument)
    if path.is_dir():
        # Results of an earlier run inside the folder are no photographs.
        below = path.resolve() in output.resolve().parents
        for image in sorted(path.rglob("*")):
            if below and image.resolve().is_relative_to(output.resolve()):
                continue
            if image.suffix.lower() in IMAGE_SUFFIXES and image.is_file():
                yield image, path
    elif path.exists():
        yield path, path.parent
    elif has_magic(argument):
        root = path.parent
        while has_magic(str(root)):
            root = root.parent
        for name in sorted(glob(argument, recursive=True)):
            if Path(name).is_dir():
                continue
            yield Path(name), root


def _below(image: Path, root: Path) -> Path:
    return image.relative_to(root) if image.is_relative_to(root) else Path(image.name)


def _shared(names: dict[Path, Path]) -> list[Path]:
    """Return the images whose name another image has too, upper and lower case alike."""
    counts = Counter(str(name).lower() for name in names.values())
    return [image for image, name in names.items() if counts[str(name).lower()] > 1]


def _with(result: Path, suffix: str) -> Path:
    """Append a suffix; a name may hold dots of its own."""
    return result.with_name(result.name + suffix)


def _wait(waiting: deque, on_done: Callable[[Path], None]) -> None:
    image, job = waiting.popleft()
    job.result()
    on_done(image)


if __name__ == "__main__":
    # Here, not above: commands share flag names, and a program may import several of them.
    flags.DEFINE_string(
        "weights", "", "File, folder or hf://owner/name; default the package's, for VOC."
    )
    flags.DEFINE_string("workdir", "", "Use this run instead.")
    flags.DEFINE_string("checkpoint", "newest", "Of the run: newest, best (by mIoU) or a step.")
    flags.DEFINE_string("output", "", "Folder for the results.")
    flags.DEFINE_bool(
        "probabilities", False, "Also write NAME.npz: `probabilities` (H, W, classes), float16."
    )
    flags.DEFINE_integer(
        "long_side",
        LONG_SIDE,
        "Longer photographs are scaled down to this for the network; 0: not, as evaluate scores.",
    )
    command.run(main, takes_arguments=True)
