"""The classes of the pixels of many photographs: label files, overlays and a table."""

import csv
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deeplab_mnv2.data.decode import Photo
from deeplab_mnv2.data.encode import encoded
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.segmentation.segmenter import Segmentation, Segmenter

# What is written of a photograph: its label, its overlay, and its probabilities if asked for.
SUFFIXES = (".png", "_overlay.jpg", ".npz")
TABLE = "predictions.csv"

_SUBMISSION = "results/VOC2012/Segmentation/comp6_test_cls"

# Results that wait to be written; a photograph of 12 megapixels takes 150 MB until it is.
_WAITING = 2
# Rows that are printed.
_ROWS = 20

# Of each photograph, its name and the share of its pixels in each class, largest first.
_Shares = list[tuple[str, dict[str, float]]]


def segment(
    segmenter: Segmenter,
    results: Mapping[Path, Path],
    output: Path,
    *,
    probabilities: bool = False,
    on_done: Callable[[Path], None],
) -> list[str]:
    """Write label, overlay and probabilities of each image, and `predictions.csv` in `output`.

    `results` has the path of each image's results without suffix. Returns a sentence for each
    damaged image; `on_done` is called with each image, damaged or not.

    Raises:
        UserError: a result cannot be written.
    """
    failures: list[str] = []
    shares: _Shares = []

    def failed(image: Photo, error: UserError) -> None:
        failures.append(str(error))
        on_done(cast(Path, image))

    def wait(waiting: deque[tuple[Path, Future[None]]]) -> None:
        image, job = waiting.popleft()
        job.result()
        on_done(image)

    found = segmenter.batch(results, probabilities=probabilities, on_error=failed)
    with ThreadPoolExecutor(2) as threads:
        waiting: deque[tuple[Path, Future[None]]] = deque()
        for segmentation in found:
            path = cast(Path, segmentation.path)
            shares.append((printable(str(path)), segmentation.classes()))
            waiting.append((path, threads.submit(save, segmentation, results[path])))
            while len(waiting) > _WAITING:
                wait(waiting)
        while waiting:
            wait(waiting)
    write_table(shares, output / TABLE)
    _print(shares)
    return failures


def save(segmentation: Segmentation, result: Path) -> None:
    """Write the label, the overlay with its legend and, where they exist, the probabilities.

    Raises:
        UserError: the folder cannot be written.
    """
    label, overlay = segmentation.palette_image(), segmentation.overlay(legend=True)
    writers: dict[str, Callable[[BinaryIO], object]] = {
        ".png": lambda file: file.write(encoded(label, "PNG")),
        "_overlay.jpg": lambda file: file.write(encoded(overlay, "JPEG", quality=90)),
    }
    if segmentation.probabilities is not None:
        half = segmentation.probabilities.astype(np.float16)
        writers[".npz"] = lambda file: np.savez_compressed(file, probabilities=half)
    for suffix, write in writers.items():
        # A name may hold dots of its own.
        file = result.with_name(result.name + suffix)
        with replace_atomically(file) as temporary, temporary.open("wb") as opened:
            write(opened)


def write_table(shares: _Shares, path: Path) -> None:
    """Write a CSV of image, class and the class's share of the image's pixels.

    Raises:
        UserError: it cannot be written.
    """
    with replace_atomically(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "class", "share"])
        for image, classes in shares:
            writer.writerows((image, name, f"{share:.6f}") for name, share in classes.items())


def write_submission(labels: Iterable[Path], path: Path) -> None:
    """Write label files as the archive that VOC's evaluation server takes.

    It has the folder `results/VOC2012/Segmentation/comp6_test_cls` of VOC's development kit; comp6
    is the competition for networks that have seen other images than VOC's, such as ImageNet's.

    Raises:
        UserError: it cannot be written.
    """
    with replace_atomically(path) as temporary, tarfile.open(temporary, "w:gz") as archive:
        for label in sorted(labels):
            archive.add(label, f"{_SUBMISSION}/{label.name}")


def _print(shares: _Shares) -> None:
    table = Table("image", "classes, % of the pixels", box=box.SIMPLE)
    for image, classes in shares[:_ROWS]:
        listed = ", ".join(f"{name} {100 * share:.1f}" for name, share in classes.items())
        table.add_row(Text(image), Text(listed))
    console = Console(highlight=False)
    console.print(table)
    if len(shares) > _ROWS:
        console.print(f"and {len(shares) - _ROWS:,} more, in {TABLE}")
