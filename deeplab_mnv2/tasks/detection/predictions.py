"""The objects in many photographs: overlays, a table, and COCO's format of results."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deeplab_mnv2.data.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from deeplab_mnv2.data.decode import Photo
from deeplab_mnv2.data.encode import encoded
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.detection.detector import Detection, Detector

# Rows that are printed.
_ROWS = 20
_COLUMNS = ("image", "image_id", "class", "score", "ymin", "xmin", "ymax", "xmax")


def find_objects(
    detector: Detector, results: Mapping[Path, Path], output: Path, on_done: Callable[[Path], None]
) -> list[str]:
    """Write an overlay for each image, `detections.csv` and `detections.json` in `output`.

    `results` has the path of each image's results without suffix. Returns a sentence for each
    damaged image; `on_done` is called with each image, damaged or not.

    Raises:
        UserError: a result cannot be written.
    """
    failures: list[str] = []
    rows: list[tuple[Any, ...]] = []
    entries: list[dict[str, Any]] = []
    found: list[tuple[str, Counter[str]]] = []

    def failed(image: Photo, error: UserError) -> None:
        failures.append(str(error))
        on_done(cast(Path, image))

    numbers = image_ids(list(results))
    categories = _category_ids(detector.class_names)
    for detection in detector.batch(results, on_error=failed):
        path = cast(Path, detection.path)
        result = results[path]
        with replace_atomically(result.with_name(f"{result.name}_overlay.jpg")) as temporary:
            temporary.write_bytes(encoded(detection.overlay(), "JPEG", quality=90))
        rows += _rows(detection, printable(str(path)), numbers[path])
        entries += _entries(detection, numbers[path], categories)
        found.append((printable(str(path)), Counter(detection.classes)))
        on_done(path)
    with (
        replace_atomically(output / "detections.csv") as temporary,
        temporary.open("w", newline="") as file,
    ):
        csv.writer(file).writerows([_COLUMNS, *rows])
    with replace_atomically(output / "detections.json") as temporary:
        temporary.write_text(json.dumps(entries) + "\n")
    _print(found)
    return failures


def image_ids(images: list[Path]) -> dict[Path, int]:
    """Return the numbers that images are called by, as COCO's are, else numbers from 1."""
    named = {int(image.stem) for image in images if image.stem.isdecimal()}
    if len(named) == len(images):
        return {image: int(image.stem) for image in images}
    return {image: number for number, image in enumerate(images, 1)}


def _rows(detection: Detection, name: str, image_id: int) -> list[tuple[Any, ...]]:
    return [
        (name, image_id, label, f"{score:.4f}", *(f"{edge:.1f}" for edge in edges))
        for label, score, edges in zip(
            detection.classes, detection.scores, detection.boxes, strict=True
        )
    ]


def _entries(
    detection: Detection, image_id: int, categories: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Return the boxes of an image as COCO's server takes them: x, y, width, height."""
    return [
        {
            "image_id": image_id,
            "category_id": categories[label],
            "bbox": [round(float(v), 2) for v in (left, top, right - left, bottom - top)],
            "score": round(float(score), 5),
        }
        for (top, left, bottom, right), score, label in zip(
            detection.boxes, detection.scores, detection.labels, strict=True
        )
    ]


def _category_ids(class_names: tuple[str, ...]) -> tuple[int, ...]:
    """Return COCO's number of each class where all are COCO's, else numbers from 1."""
    numbers: dict[str, int] = dict(zip(COCO_CLASSES, COCO_CATEGORY_IDS, strict=True))
    if all(name in numbers for name in class_names):
        return tuple(numbers[name] for name in class_names)
    return tuple(range(1, len(class_names) + 1))


def _print(found: list[tuple[str, Counter[str]]]) -> None:
    table = Table("image", "objects", box=box.SIMPLE)
    for name, classes in found[:_ROWS]:
        listed = ", ".join(f"{number} {label}" for label, number in classes.most_common())
        table.add_row(Text(name), Text(listed or "none"))
    console = Console(highlight=False)
    console.print(table)
    if len(found) > _ROWS:
        console.print(f"and {len(found) - _ROWS:,} more, in detections.csv")
