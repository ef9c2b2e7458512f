"""What `doctor` shows of classified images and of boxes: a table, findings, pictures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_mnv2.config import DataSet
from deeplab_mnv2.data.boxes import as_objects, objects_of
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.boxes import BoxSurvey, survey_boxes
from deeplab_mnv2.inspection.classes import ClassSurvey, survey_classes
from deeplab_mnv2.inspection.contact_sheet import Tile
from deeplab_mnv2.inspection.example import Finding
from deeplab_mnv2.tasks.detection.drawing import draw_boxes
from deeplab_mnv2.tasks.detection.matches import Detections

# From a data set to what is called for each image examined.
Progress = Callable[[DataSet], Callable[[], None]]
# Pictures on the contact sheet.
_TILES = 24


@dataclasses.dataclass
class Diagnosis:
    """The `columns` and `rows` of a table by class, `findings`, `tiles`, and a line for each split.

    `splits` goes into `doctor.json`.
    """

    columns: list[str]
    rows: list[list[str]]
    findings: list[Finding]
    tiles: list[Tile]
    lines: list[str]
    splits: dict[str, Any]


def diagnose_classes(
    data_sets: Sequence[DataSet], *, threads: int, progress: Progress
) -> Diagnosis:
    """Examine data sets of one class an image; one that cannot be opened is a finding."""
    surveys, findings = _survey(
        data_sets, lambda d: survey_classes(d, threads=threads, seen=progress(d))
    )
    for survey in surveys:
        findings += survey.findings
    names = [{digest: name for digest, (name, _) in s.digests.items()} for s in surveys]
    splits = [survey.data_set.split for survey in surveys]
    findings += find_shared_images(list(zip(splits, names, strict=True)))
    return Diagnosis(
        columns=["class", *(f"{survey.data_set.split} images" for survey in surveys)],
        rows=_rows(surveys, lambda survey: [survey.images]),
        findings=findings,
        tiles=_class_tiles(surveys),
        lines=[f"{s.data_set.split}: {s.images.sum():,} images" for s in surveys],
        splits=by_split(surveys, lambda s: _by_class(s.data_set, images=s.images)),
    )


def diagnose_boxes(
    data_sets: Sequence[DataSet], image_size: int, *, threads: int, progress: Progress
) -> Diagnosis:
    """Examine data sets of boxes for a network of a size; one that cannot be opened is a finding.

    Beside the objects and images of each class the table has how many of the objects some anchor
    overlaps by half; the others have to do with a worse one.
    """
    surveys, findings = _survey(
        data_sets, lambda d: survey_boxes(d, image_size, threads=threads, seen=progress(d))
    )
    for survey in surveys:
        findings += survey.findings
    findings += find_shared_images([(s.data_set.split, s.digests) for s in surveys])
    columns = [
        f"{survey.data_set.split} {what}"
        for survey in surveys
        for what in ("objects", "images", "anchored %")
    ]
    return Diagnosis(
        columns=["class", *columns],
        rows=_rows(surveys, _box_columns),
        findings=findings,
        tiles=_box_tiles(surveys),
        lines=[
            f"{s.data_set.split}: {s.objects.sum():,} objects, {s.ignored:,} to be ignored, "
            f"{s.empty:,} images without objects, "
            f"{100 * s.reached.sum() / max(1, s.objects.sum()):.1f} % anchored by half or more"
            for s in surveys
        ],
        splits=by_split(
            surveys,
            lambda s: _by_class(s.data_set, objects=s.objects, images=s.images, anchored=s.reached),
        ),
    )


def by_split(surveys: Sequence[Any], facts: Callable[[Any], Any]) -> dict[str, Any]:
    """Return facts of each survey by the name of its split; equal names are numbered."""
    found: dict[str, Any] = {}
    for survey in surveys:
        name = survey.data_set.split
        number = sum(other.data_set.split == name for other in surveys[: len(found)])
        found[f"{name} ({number + 1})" if number else name] = facts(survey)
    return found


def find_shared_images(splits: Sequence[tuple[str, Mapping[str, str]]]) -> list[Finding]:
    """Return a finding for each image of a split that is in an earlier split too.

    Splits come with the names of their images by the digest of the decoded image.
    """
    findings = []
    first: dict[str, tuple[int, str, str]] = {}
    for number, (split, names) in enumerate(splits):
        for digest, name in names.items():
            # Data sets of different places may call their splits alike.
            earlier, there, twin = first.setdefault(digest, (number, split, name))
            if earlier != number:
                message = (
                    f"{name} in {split} is the same picture as {twin} in {there}, so one cannot "
                    "score what the other taught; take it out of one of them."
                )
                findings.append(Finding("shared image", name, message))
    return findings


def _survey(
    data_sets: Sequence[DataSet], examine: Callable[[DataSet], Any]
) -> tuple[list[Any], list[Finding]]:
    surveys, findings = [], []
    for data_set in data_sets:
        try:
            surveys.append(examine(data_set))
        except UserError as error:
            findings.append(Finding("split entry", data_set.split, str(error)))
    return surveys, findings


def _rows(
    surveys: Sequence[Any], columns: Callable[[Any], Sequence[np.ndarray]]
) -> list[list[str]]:
    if not surveys:
        return []
    names = surveys[0].data_set.class_names
    numbers = [column for survey in surveys for column in columns(survey)]
    return [[name, *(f"{c[i]:,}" for c in numbers)] for i, name in enumerate(names)]


def _box_columns(survey: BoxSurvey) -> list[np.ndarray]:
    share = np.round(100 * survey.reached / np.maximum(1, survey.objects)).astype(int)
    return [survey.objects, survey.images, share]


def _by_class(data_set: DataSet, **columns: np.ndarray) -> dict[str, Any]:
    return {
        name: {key: int(column[index]) for key, column in columns.items()}
        for index, name in enumerate(data_set.class_names)
    }


def _class_tiles(surveys: Sequence[ClassSurvey]) -> list[Tile]:
    """Return an image of each of the first classes, of each split in turn."""
    tiles = []
    for survey in surveys:
        source, names = survey.data_set.open(), survey.data_set.class_names
        last = len(source) - 1
        number = min(_TILES // len(surveys), last + 1)
        for index in np.linspace(0, last, number).astype(int).tolist():
            tiles.append(_tile(source, index, lambda e, n=names: (e["image"], n[e["label"]])))
    return tiles


def _box_tiles(surveys: Sequence[BoxSurvey]) -> list[Tile]:
    tiles = []
    for survey in surveys:
        source, names = survey.data_set.open(), survey.data_set.class_names

        def drawn(example: dict[str, Any], names: Sequence[str] = names) -> tuple[np.ndarray, str]:
            objects = objects_of(example)
            counts = ~objects.ignore
            no_scores = np.full(counts.sum(), np.nan)
            boxes = Detections(objects.boxes[counts], no_scores, objects.label[counts])
            ignored = objects.select(objects.ignore) if objects.ignore.any() else as_objects([], [])
            return draw_boxes(example["image"], boxes, names, 0, ignored), example["name"]

        last = len(source) - 1
        number = min(_TILES // len(surveys), last + 1)
        for index in np.linspace(0, last, number).astype(int).tolist():
            tiles.append(_tile(source, index, drawn))
    return tiles


def _tile(
    source: Any, index: int, show: Callable[[dict[str, Any]], tuple[np.ndarray, str]]
) -> Tile:
    try:
        image, caption = show(source[index])
    except UserError as error:
        return Tile(None, None, str(error))
    return Tile(image, None, caption)
