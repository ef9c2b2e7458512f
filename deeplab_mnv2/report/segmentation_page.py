"""The page of a segmentation: classes, confusion, where it fails, pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.report.charts import Chart, calibration_chart, line_chart
from deeplab_mnv2.report.page import Card, Panel, card, class_list, height_for, write_page
from deeplab_mnv2.report.training_curves import training_section
from deeplab_mnv2.tasks.segmentation.drawing import class_layer_uri, error_layer_uri
from deeplab_mnv2.tasks.segmentation.evaluation import SegmentationEvaluation
from deeplab_mnv2.tasks.segmentation.pictures import Picture


def write_segmentation(
    evaluation: SegmentationEvaluation, path: Path, title: str, history: list[dict[str, Any]]
) -> None:
    """Write the page; see `run_page.write_report`."""
    result = evaluation.result
    names = list(result["iou"])
    confusion = np.array(result["confusion"], np.int64)
    height = height_for(len(evaluation.pictures))
    measured = [
        boundary_chart({"mIoU": result}),
        calibration_chart(
            {"accuracy": result["calibration"]},
            f"Expected calibration error {100 * (result['calibration']['ece'] or 0):.2f} %. Below "
            "the diagonal the network is overconfident. Bars: shares of pixels, not to scale.",
        ),
    ]
    write_page(
        path,
        "segmentation_page.html.j2",
        title=title,
        result=result,
        names=names,
        images_with=(evaluation.counts.confusions.sum(axis=-1) > 0).sum(axis=0).tolist(),
        rows=[_shares(row) for row in confusion],
        **training_section(history, "miou", "mIoU"),
        measured=[chart for chart in measured if chart],
        cards=[_card(picture, names, height) for picture in evaluation.pictures],
        data={"names": names, "confusion": confusion.tolist()},
    )


def boundary_chart(results: dict[str, dict[str, Any]]) -> Chart | None:
    """Return mIoU in percent within each distance of a label boundary, of one or more runs."""
    series = {
        name: [(int(w), 100 * v) for w, v in result["boundary_miou"].items() if v is not None]
        for name, result in results.items()
    }
    return line_chart(
        "mIoU near boundaries",
        series,
        x_label="pixels from a boundary, at most",
        y_label="mIoU in %",
        log2_x=True,
        note="Only pixels this close to a change of label count.",
    )


def _shares(row: np.ndarray) -> list[tuple[str, float]]:
    """Return for each cell of a label's row its text in percent and its share in [0, 1]."""
    total = max(int(row.sum()), 1)
    return [(f"{100 * n / total:.0f}" if n else "", round(n / total, 4)) for n in row.tolist()]


def _card(picture: Picture, names: list[str], height: int) -> Card:
    name, label, prediction = picture.name, picture.label, picture.prediction
    labelled = int(picture.confusion.sum())
    wrong = 1 - np.trace(picture.confusion) / max(labelled, 1)
    panels = [
        Panel("image", f"Photograph {name}"),
        Panel(
            "label",
            f"Label of {name}: {class_list(label, names)}",
            class_layer_uri(label, height),
        ),
        Panel(
            "prediction",
            f"Prediction for {name}: {class_list(prediction, names)}",
            class_layer_uri(prediction, height),
        ),
        Panel(
            "errors",
            f"Errors in {name}: {100 * wrong:.1f} % of the labelled pixels",
            error_layer_uri(label, prediction, height),
            dimmed=True,
        ),
    ]
    return card(
        picture,
        panels,
        height,
        confusions=[picture.confusion],
        keys={"miou": picture.miou},
        summary=f"mIoU {100 * picture.miou:.1f} %",
    )
