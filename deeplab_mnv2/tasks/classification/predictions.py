"""The classes of many photographs, as a table on the terminal and in a file."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from deeplab_mnv2.data.decode import Photo
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.classification.classifier import Classification, Classifier

# Classes of each image, and rows that are printed.
_CLASSES, _ROWS = 5, 20


def classify(
    classifier: Classifier, images: Sequence[Path], on_done: Callable[[Path], None]
) -> tuple[list[Classification], list[str]]:
    """Return the classes of the images, without their pixels, and a sentence for each damaged one.

    `on_done` is called with each image, damaged or not.
    """
    found, failures = [], []

    def failed(image: Photo, error: UserError) -> None:
        failures.append(str(error))
        on_done(cast(Path, image))

    for classification in classifier.batch(images, on_error=failed):
        # Thousands of photographs do not fit the memory.
        kept = Classification(
            classification.photo[:0],
            classification.probabilities,
            classification.class_names,
            classification.path,
        )
        found.append(kept)
        on_done(cast(Path, kept.path))
    return found, failures


def write_predictions(found: Sequence[Classification], path: Path) -> None:
    """Write a CSV: image, then the likeliest classes and their probabilities.

    Raises:
        UserError: it cannot be written.
    """
    with replace_atomically(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        number = min(_CLASSES, len(found[0].class_names)) if found else _CLASSES
        heads = [(f"class{n}", f"probability{n}") for n in range(1, number + 1)]
        writer.writerow(["image", *(name for pair in heads for name in pair)])
        for each in found:
            values = [value for name, p in each.top(number) for value in (name, f"{p:.4f}")]
            writer.writerow([printable(str(each.path)), *values])


def print_predictions(found: Sequence[Classification]) -> None:
    """Print the first images with their likeliest classes."""
    table = Table("image", "class", Column("%", justify="right"), "then", box=box.SIMPLE)
    for each in found[:_ROWS]:
        (name, share), *others = each.top(3)
        then = ", ".join(f"{other} {100 * p:.0f}" for other, p in others)
        shown = Text(printable(str(each.path)))
        table.add_row(shown, Text(name), f"{100 * share:.0f}", Text(then))
    console = Console(highlight=False)
    console.print(table)
    if len(found) > _ROWS:
        console.print(f"and {len(found) - _ROWS:,} more, in predictions.csv")
