"""A classification read back from its folder, for comparisons."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.data.decode import read_arrays
from deeplab_mnv2.evaluation.bootstrap import Interval
from deeplab_mnv2.evaluation.ratios import ratio
from deeplab_mnv2.tasks.classification.metrics import difference_intervals
from deeplab_mnv2.tasks.stored_run import require_stored, two_evaluations, unreadable_scores

_ARRAYS = ("names", "labels", "classes", "probabilities")


@dataclasses.dataclass
class StoredClassification:
    """`tasks.stored_run.StoredRun`: `labels` (N,), `predictions` (N, 5), `probabilities` alike."""

    names: list[str]
    class_names: list[str]
    labels: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray

    score: str = "top1"
    title: str = "top-1"
    by_class: str = "accuracy"
    class_title: str = "top-1"

    @classmethod
    def load(cls, folder: Path, result: dict[str, Any]) -> "StoredClassification":
        """Return what `ClassificationEvaluation.write` left in a folder.

        Raises:
            UserError: a file is missing or damaged, or not of this evaluation.
        """
        path = require_stored(folder, "predictions.npz")
        names, labels, predictions, probabilities = read_arrays(path, _ARRAYS).values()
        try:
            class_names = list(result["accuracy"])
            images, kept = len(names), min(5, len(class_names))
            is_whole = (
                labels.shape == (images,)
                and predictions.shape == probabilities.shape == (images, kept)
                and all(np.issubdtype(a.dtype, np.integer) for a in (labels, predictions))
                and np.issubdtype(probabilities.dtype, np.floating)
                and images > 0
                and min(labels.min(), predictions.min()) >= 0
                and max(labels.max(), predictions.max()) < len(class_names)
            )
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable_scores(folder) from error
        found = cls(names.tolist(), class_names, labels, predictions, probabilities)
        if not is_whole or not np.isclose(found.scores()[0], result["top1"]):
            raise two_evaluations(folder, "predictions.npz")
        return found

    @property
    def right(self) -> np.ndarray:
        """Which images are right, (N,) bool."""
        return self.predictions[:, 0] == self.labels

    def has_same_labels(self, other: "StoredClassification") -> bool:
        return np.array_equal(self.labels, other.labels)

    def scores(self) -> np.ndarray:
        classes = len(self.class_names)
        images = np.bincount(self.labels, minlength=classes)
        hits = np.bincount(self.labels, self.right, classes)
        return np.append(self.right.mean(), ratio(hits, images))

    def difference_intervals(
        self,
        first: Sequence["StoredClassification"],
        second: Sequence["StoredClassification"],
        *,
        samples: int,
    ) -> list[Interval | None]:
        before, after = ([run.right for run in side] for side in (first, second))
        classes = len(self.class_names)
        return difference_intervals(self.labels, before, after, classes, samples=samples)
