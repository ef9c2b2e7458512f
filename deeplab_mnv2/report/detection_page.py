"""The page of a detection: classes, kinds of errors, pictures with boxes."""

from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.report.charts import Chart, line_chart
from deeplab_mnv2.report.page import Card, Panel, height_for, write_page
from deeplab_mnv2.report.training_curves import training_section
from deeplab_mnv2.tasks.detection.drawing import draw_boxes
from deeplab_mnv2.tasks.detection.evaluation import DetectedPicture, DetectionEvaluation
from deeplab_mnv2.tasks.segmentation.drawing import photo_uri

_TITLES = {"ap": "AP", "ap50": "AP50"}
_TILES = {
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP, small",
    "ap_medium": "AP, medium",
    "ap_large": "AP, large",
    "ar100": "AR, 100 boxes",
    "ap50_11_point": "AP50, 11 points",
}
_KINDS = {
    "correct": "found an object",
    "localisation": "right class, IoU 0.1 to 0.5",
    "confusion": "on an object of another class",
    "both": "near an object of another class",
    "duplicate": "on an object found before",
    "background": "near no object",
    "missed": "objects that no box was meant for",
}
# Curves that one chart can show.
_CURVES = 6


def write_detection(
    evaluation: DetectionEvaluation, path: Path, title: str, history: list[dict[str, Any]]
) -> None:
    """Write the page; see `run_page.write_report`."""
    result, score = evaluation.result, evaluation.score
    names = list(result["ap_per_class"])
    height = height_for(len(evaluation.pictures))
    chart = _precision_recall(result)
    write_page(
        path,
        "detection_page.html.j2",
        title=title,
        result=result,
        score=score,
        title_of_score=_TITLES[score],
        conditions=evaluation.conditions(),
        tiles=[(_TILES[n], result[n]) for n in _TILES if n != score and n in result],
        kinds=list(_KINDS.items()),
        names=names,
        place={name: index for index, name in enumerate(names)},
        **training_section(history, score, _TITLES[score]),
        measured=[chart] if chart else [],
        cards=[_card(p, names, evaluation.shown_score, height) for p in evaluation.pictures],
        data={"names": names},
    )


def _precision_recall(result: dict[str, Any]) -> Chart | None:
    """Return the curves of the classes with most objects, at IoU 0.5."""
    found = {name: curve for name, curve in result["curves"].items() if curve is not None}
    most = sorted(found, key=lambda name: -result["objects_per_class"][name])[:_CURVES]
    recalls = np.linspace(0, 100, 101).tolist()
    return line_chart(
        "Precision by recall",
        {n: list(zip(recalls, (100 * v for v in found[n]), strict=True)) for n in most},
        x_label="recall in %",
        y_label="precision in %",
        x_range=(0, 100),
        y_range=(0, 100),
        note=f"At IoU 0.5, of the {len(most)} classes with most objects.",
    )


def _card(picture: DetectedPicture, names: list[str], shown_score: float, height: int) -> Card:
    shown = picture.detections.scores >= shown_score
    drawn = draw_boxes(
        picture.image, picture.detections, names, shown_score, objects=picture.objects
    )
    labels, found = picture.objects.label, picture.detections.label[shown]
    classes = np.union1d(labels, found).astype(int).tolist()
    rows, columns = picture.image.shape[:2]
    has_score = not np.isnan(picture.ap50)
    summary = f"AP50 {100 * picture.ap50:.0f} %" if has_score else "no objects"
    alt = f"{picture.name}: {len(labels)} objects, {int(shown.sum())} boxes shown"
    return Card(
        name=picture.name,
        summary=summary,
        keys={"ap50": picture.ap50 if has_score else 1.0},
        groups=picture.groups,
        pairs=[f"{index}-{index}" for index in classes],
        classes=[
            (index, f"{int((labels == index).sum())}, {int((found == index).sum())}")
            for index in classes
        ],
        photo=photo_uri(drawn, height),
        ratio=f"{columns} / {rows}",
        panels=[Panel("image and boxes", alt)],
    )
