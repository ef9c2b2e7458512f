"""A segmentation read back from its folder, for comparisons."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.data.decode import read_arrays
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.bootstrap import Interval
from deeplab_mnv2.tasks.segmentation.intervals import difference_intervals
from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class, miou
from deeplab_mnv2.tasks.segmentation.pictures import Picture, load
from deeplab_mnv2.tasks.stored_run import require_stored, two_evaluations, unreadable_scores


@dataclasses.dataclass
class StoredSegmentation:
    """`tasks.stored_run.StoredRun`; `confusions` (N, C, C) is in the order of `names`."""

    names: list[str]
    class_names: list[str]
    confusions: np.ndarray
    pictures: dict[str, Picture]

    score: str = "miou"
    title: str = "mIoU"
    by_class: str = "iou"
    class_title: str = "IoU"

    @classmethod
    def load(cls, folder: Path, result: dict[str, Any]) -> "StoredSegmentation":
        """Return what `SegmentationEvaluation.write` left in a folder.

        Raises:
            UserError: a file is missing or damaged, or not of this evaluation.
        """
        path = require_stored(folder, "confusions.npz")
        stored = read_arrays(path, ("names", "confusions"))
        names, confusions = stored["names"], stored["confusions"]
        try:
            total = np.array(result["confusion"], np.int64)
            if not _is_whole(result, names, confusions):
                raise ValueError("a field is missing or of another type")
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            raise unreadable_scores(folder) from error
        if not np.array_equal(confusions.sum(axis=0), total):
            raise two_evaluations(folder, "confusions.npz")
        if missing := {"boundary_miou", "calibration", "object_size"} - result.keys():
            raise UserError(
                f"{folder / 'eval.json'} is of an older version, without {min(missing)}; evaluate "
                "it again."
            )
        by_name = dict(zip(names.tolist(), confusions, strict=True))
        pictures = load(folder / "pictures.zip", by_name)
        return cls(names.tolist(), list(result["iou"]), confusions, pictures)

    def has_same_labels(self, other: "StoredSegmentation") -> bool:
        # A row's sum is the number of pixels labelled with a class, whatever was predicted.
        return np.array_equal(self.confusions.sum(axis=-1), other.confusions.sum(axis=-1))

    def scores(self) -> np.ndarray:
        total = self.confusions.sum(axis=0)
        return np.append(miou(total), iou_per_class(total))

    def difference_intervals(
        self,
        first: Sequence["StoredSegmentation"],
        second: Sequence["StoredSegmentation"],
        *,
        samples: int,
    ) -> list[Interval | None]:
        sides = ([run.confusions for run in side] for side in (first, second))
        return difference_intervals(*sides, samples=samples)


def _is_whole(result: dict[str, Any], names: np.ndarray, confusions: np.ndarray) -> bool:
    """Return whether the fields that comparisons read have the types and shapes written."""
    images, classes = len(names), len(result["iou"])
    return (
        confusions.shape == (images, classes, classes)
        and np.issubdtype(confusions.dtype, np.integer)
        and isinstance(result["iou"], dict)
        and isinstance(result["miou"], float | None)
    )
