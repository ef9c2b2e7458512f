"""`report.html`: one self-contained page of scores, curves and pictures."""

from pathlib import Path
from typing import Any

from deeplab_mnv2.report.class_tables import write_class_tables
from deeplab_mnv2.report.classification_page import write_classification
from deeplab_mnv2.report.detection_page import write_detection
from deeplab_mnv2.report.segmentation_page import write_segmentation
from deeplab_mnv2.tasks.classification.evaluation import ClassificationEvaluation
from deeplab_mnv2.tasks.detection.evaluation import DetectionEvaluation
from deeplab_mnv2.tasks.segmentation.evaluation import SegmentationEvaluation
from deeplab_mnv2.tasks.task import Evaluation


def write_report(
    evaluation: Evaluation,
    path: Path,
    *,
    title: str,
    history: list[dict[str, Any]] | None = None,
) -> None:
    """Write the page; `history`, the records of `metrics.jsonl`, gives curves and warnings.

    Beside it, `figures/` has its charts and `classes.csv` and `classes.tex` the scores of classes.
    """
    write_class_tables(evaluation.result, path.parent)
    match evaluation:
        case SegmentationEvaluation():
            write_segmentation(evaluation, path, title, history or [])
        case ClassificationEvaluation():
            write_classification(evaluation, path, title, history or [])
        case DetectionEvaluation():
            write_detection(evaluation, path, title, history or [])
        case _:
            raise TypeError(f"there is no report of {type(evaluation).__name__}")
