"""From a folder of scores to what its task found: the scores in `eval.json` tell the task."""

from pathlib import Path
from typing import Any

from deeplab_mnv2.tasks.classification.stored import StoredClassification
from deeplab_mnv2.tasks.detection.stored import StoredDetection
from deeplab_mnv2.tasks.segmentation.stored import StoredSegmentation
from deeplab_mnv2.tasks.stored_run import StoredRun, unreadable_scores


def stored_run(folder: Path, result: dict[str, Any]) -> StoredRun:
    """Return what the evaluation in a folder found; `result` is its `eval.json`.

    Raises:
        UserError: a file is missing or damaged, or not of this evaluation.
    """
    if "miou" in result:
        return StoredSegmentation.load(folder, result)
    if "top1" in result:
        return StoredClassification.load(folder, result)
    if "ap50" in result:
        return StoredDetection.load(folder, result)
    raise unreadable_scores(folder)
