"""The content of a detection's `eval.json`, of what was found in the images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab_mnv2.data.boxes import Objects
from deeplab_mnv2.evaluation.bootstrap import Interval, difference_intervals, intervals, known
from deeplab_mnv2.evaluation.ratios import json_number, mean_present
from deeplab_mnv2.tasks.detection.average_precision import ap_samples, coco_scores, precisions
from deeplab_mnv2.tasks.detection.error_kinds import ErrorKinds, best_point, error_kinds
from deeplab_mnv2.tasks.detection.matches import Detections, Matches, join, match_coco, match_voc
from deeplab_mnv2.tasks.detection.voc_precision import voc_precisions


def matches_of(
    detections: Sequence[Detections], objects: Sequence[Objects], metric: str
) -> Matches:
    """Return what the detections of N images find, by the rule of "coco" or of "voc"."""
    match = match_coco if metric == "coco" else match_voc
    return join([match(d, o) for d, o in zip(detections, objects, strict=True)])


def detection_scores(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    class_names: Sequence[str],
    metric: str,
    *,
    samples: int,
) -> dict[str, Any]:
    """Return the scores of N images, ready for JSON.

    For "coco" its twelve numbers (`average_precision.coco_scores`); for "voc" `ap50` with the area
    under the curve, as of 2010, `ap50_11_point` as of 2007, and `ap_per_class`. `ci95` and
    `ap_per_class_ci95` are the bootstrap's over images, None for a class whose objects lie in one
    image. `objects_per_class` leaves out what is to be ignored; `errors` counts the kinds of errors
    above the score of the highest F1, `operating_point`; `curves` has the precision at 101 recalls
    of each class at IoU 0.5.
    """
    count = len(class_names)
    matches = matches_of(detections, objects, metric)
    if metric == "coco":
        found = coco_scores(matches, class_names)
    else:
        eleven, area = (values[0] for values in voc_precisions(matches, count))
        found = {
            "ap50": json_number(mean_present(area)),
            "ap50_11_point": json_number(mean_present(eleven)),
            "ap_per_class": {
                name: json_number(value) for name, value in zip(class_names, area, strict=True)
            },
        }
    found_intervals = intervals(
        lambda times: overall_and_by_class(matches, count, metric, times),
        matches.images,
        samples=samples,
    )
    overall, *of_classes = known(found_intervals, _images_with_objects(matches, count))
    labels = np.concatenate([o.label[~o.ignore] for o in objects]) if objects else np.zeros(0, int)
    point = best_point(matches)
    kinds = ErrorKinds()
    if point is not None:
        pairs = zip(detections, objects, strict=True)
        kinds = sum((error_kinds(d, o, point.score) for d, o in pairs), kinds)
    curves = precisions(matches, count)[0, :, 0]  # (C, 101)
    return {
        **found,
        "ci95": overall and list(overall),
        "ap_per_class_ci95": {
            name: interval and list(interval)
            for name, interval in zip(class_names, of_classes, strict=True)
        },
        "objects_per_class": dict(
            zip(class_names, np.bincount(labels, minlength=count).tolist(), strict=True)
        ),
        "operating_point": vars(point) if point is not None else None,
        "errors": vars(kinds),
        "curves": {
            name: None if np.isnan(curve).any() else [round(float(v), 4) for v in curve]
            for name, curve in zip(class_names, curves, strict=True)
        },
    }


def ap_difference_intervals(
    first: Sequence[Matches],
    second: Sequence[Matches],
    num_classes: int,
    metric: str,
    *,
    samples: int,
) -> list[Interval | None]:
    """Return the intervals of the difference in AP (in AP50 for VOC), and in each class's.

    Each side holds the matches of every run, of the same images in the same order. Of a class whose
    objects lie in one image there is none.
    """
    runs = [*first, *second]

    def scores(times: np.ndarray) -> np.ndarray:
        found = [overall_and_by_class(run, num_classes, metric, times) for run in runs]
        return np.stack(found, axis=1)  # (R, runs, 1 + C)

    found = difference_intervals(
        scores,
        (len(first), len(second)),
        runs[0].images,
        samples=samples,
    )
    return known(found, _images_with_objects(runs[0], num_classes))


def overall_and_by_class(
    matches: Matches, num_classes: int, metric: str, times: np.ndarray
) -> np.ndarray:
    """Return AP, or AP50 for "voc", overall and of each class, (R, 1 + C).

    `times` (R, N) is how often each image counts.
    """
    if metric == "coco":
        # AP, AP50, AP75, classes.
        return np.delete(ap_samples(matches, num_classes, times), [1, 2], axis=1)
    _, area = voc_precisions(matches, num_classes, times=times)
    return np.concatenate([mean_present(area)[:, None], area], axis=1)


def _images_with_objects(matches: Matches, num_classes: int) -> np.ndarray:
    """Return in how many images each class has objects that count, (C,)."""
    counts = matches.object_counts[:, 0]
    where = np.stack([matches.object_label[counts], matches.object_image[counts]], axis=1)
    return np.bincount(np.unique(where, axis=0)[:, 0].astype(int), minlength=num_classes)
