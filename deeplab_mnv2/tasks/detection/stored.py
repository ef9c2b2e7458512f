"""A detection read back from its folder, for comparisons."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.data.boxes import Objects
from deeplab_mnv2.data.decode import read_arrays
from deeplab_mnv2.evaluation.bootstrap import Interval
from deeplab_mnv2.tasks.detection.matches import Detections, Matches
from deeplab_mnv2.tasks.detection.scores import (
    ap_difference_intervals,
    matches_of,
    overall_and_by_class,
)
from deeplab_mnv2.tasks.stored_run import require_stored, two_evaluations, unreadable_scores

_OF_OBJECTS = ("boxes", "label", "ignore", "area", "image")
_OF_DETECTIONS = ("boxes", "scores", "label", "image")


@dataclasses.dataclass
class StoredDetection:
    """`tasks.stored_run.StoredRun`, with the `objects` of each image and what they `matches`."""

    names: list[str]
    class_names: list[str]
    objects: list[Objects]
    matches: Matches
    metric: str

    by_class: str = "ap_per_class"
    class_title: str = "AP"

    @property
    def score(self) -> str:
        return "ap" if self.metric == "coco" else "ap50"

    @property
    def title(self) -> str:
        return "AP" if self.metric == "coco" else "AP50"

    @classmethod
    def load(cls, folder: Path, result: dict[str, Any]) -> "StoredDetection":
        """Return what `DetectionEvaluation.write` left in a folder.

        Raises:
            UserError: a file is missing or damaged, or not of this evaluation.
        """
        path = require_stored(folder, "detections.npz")
        objects = [f"object_{name}" for name in _OF_OBJECTS]
        detections = [f"detection_{name}" for name in _OF_DETECTIONS]
        arrays = read_arrays(path, ["names", *objects, *detections])
        try:
            metric, class_names = result["protocol"]["metric"], list(result["ap_per_class"])
            images = len(arrays["names"])
            of_image = _by_image(arrays, objects, images, Objects)
            found = _by_image(arrays, detections, images, Detections)
            matches = matches_of(found, of_image, metric)
            names = arrays["names"].tolist()
            stored = cls(names, class_names, of_image, matches, metric)
            score = np.nan if result[stored.score] is None else result[stored.score]
            agrees = np.isclose(stored.scores()[0], score, equal_nan=True)
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable_scores(folder) from error
        if not agrees:
            raise two_evaluations(folder, "detections.npz")
        return stored

    def has_same_labels(self, other: "StoredDetection") -> bool:
        pairs = zip(self.objects, other.objects, strict=True)
        return all(
            np.array_equal(getattr(first, field.name), getattr(second, field.name))
            for first, second in pairs
            for field in dataclasses.fields(Objects)
        )

    def scores(self) -> np.ndarray:
        once = np.ones((1, self.matches.images))
        return overall_and_by_class(self.matches, len(self.class_names), self.metric, once)[0]

    def difference_intervals(
        self,
        first: Sequence["StoredDetection"],
        second: Sequence["StoredDetection"],
        *,
        samples: int,
    ) -> list[Interval | None]:
        before, after = ([run.matches for run in side] for side in (first, second))
        classes = len(self.class_names)
        return ap_difference_intervals(before, after, classes, self.metric, samples=samples)


def _by_image(
    arrays: dict[str, np.ndarray], names: Sequence[str], images: int, kind: Callable[..., Any]
) -> list[Any]:
    """Return what the arrays hold of each image; the last name is that of each row's image."""
    *columns, image = (arrays[name] for name in names)
    ends = np.searchsorted(image, np.arange(images + 1))
    return [
        kind(*(column[low:high] for column in columns)) for low, high in itertools.pairwise(ends)
    ]
