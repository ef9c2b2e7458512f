"""A data set of boxes, looked at before it is trained on."""

import dataclasses
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deeplab_mnv2.config import DataSet
from deeplab_mnv2.data.boxes import Objects, objects_of
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.example import Finding
from deeplab_mnv2.tasks.detection.anchors import anchors
from deeplab_mnv2.tasks.detection.matches import box_iou
from deeplab_mnv2.tasks.detection.matching import MATCHED
from deeplab_mnv2.tasks.detection.transforms import check_example

# The side in pixels of a box that is too small to be learned from a photograph of 300.
_TINY = 4
# Two boxes of one class that overlap by more are one object twice.
_TWICE = 0.95
# A class with fewer objects than this share of the largest class's is rare.
_RARE = 0.05


@dataclasses.dataclass
class BoxSurvey:
    """A split: objects and images of each class, and what is wrong.

    `reached` counts the objects of each class that some anchor of the network overlaps by half;
    the others have to do with their best one. `empty` images have no objects. `digests` has the
    name of each image by its decoded pixels.
    """

    data_set: DataSet
    objects: np.ndarray
    images: np.ndarray
    reached: np.ndarray
    ignored: int
    empty: int
    findings: list[Finding]
    digests: dict[str, str]


def survey_boxes(
    data_set: DataSet,
    image_size: int,
    *,
    threads: int,
    samples: int = 0,
    seen: Callable[[], None] = lambda: None,
) -> BoxSurvey:
    """Examine a split, or `samples` of it spread evenly; `seen` is called after each image.

    Raises:
        UserError: there is no such split.
    """
    source, names = data_set.open(), data_set.class_names
    around = anchors(image_size, image_size)
    chosen = range(len(source))
    if samples:
        chosen = np.linspace(0, len(source) - 1, min(samples, len(source))).round().astype(int)

    def examine(index: int) -> tuple[str, Objects, np.ndarray, str] | UserError:
        try:
            example = source[int(index)]
            check_example(example, len(names))
        except UserError as error:
            return error
        overlap = box_iou(example["boxes"], around).max(axis=1, initial=0)
        image = example["image"]
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        return example["name"], objects_of(example), overlap >= MATCHED, digest

    zeros = np.zeros((3, len(names)), np.int64)
    found = BoxSurvey(data_set, *zeros, ignored=0, empty=0, findings=[], digests={})
    with ThreadPoolExecutor(threads) as pool:
        for examined in pool.map(examine, chosen):
            if isinstance(examined, UserError):
                found.findings.append(Finding("unreadable", data_set.split, str(examined)))
            else:
                _add(found, *examined)
            seen()
    if not samples:
        found.findings += _of_split(found, getattr(source, "empty_boxes", 0))
    return found


def quick_box_check(data_set: DataSet, *, samples: int = 64, threads: int = 2) -> list[str]:
    """Examine evenly spread examples before a long run; return warnings.

    Raises:
        UserError: an example cannot be read, or no image that was looked at has an object.
    """
    found = survey_boxes(data_set, 300, threads=threads, samples=samples)
    for finding in found.findings:
        if finding.severity == "error":
            raise UserError(finding.message)
    if not found.objects.sum():
        raise UserError(
            f"None of the images sampled from {data_set.split} has an object; check the folder or "
            "file of boxes."
        )
    return [finding.message for finding in found.findings if finding.severity == "warning"]


def _add(found: BoxSurvey, name: str, objects: Objects, reached: np.ndarray, digest: str) -> None:
    split, classes = found.data_set.split, found.data_set.class_names
    counts = ~objects.ignore
    found.objects += np.bincount(objects.label[counts], minlength=len(classes))
    found.reached += np.bincount(objects.label[counts & reached], minlength=len(classes))
    found.images[np.unique(objects.label[counts])] += 1
    found.ignored += int(objects.ignore.sum())
    found.empty += not counts.any()

    def add(kind: str, message: str) -> None:
        found.findings.append(Finding(kind, name, message))

    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    if (tiny := counts & (sides.min(axis=1, initial=np.inf) < _TINY)).any():
        add("tiny box", f"{name} in {split} has {tiny.sum()} boxes narrower than {_TINY} pixels.")
    overlap = np.triu(box_iou(objects.boxes, objects.boxes), 1) > _TWICE
    same = objects.label[:, None] == objects.label
    for kind, there in (("box twice", overlap & same), ("box of two classes", overlap & ~same)):
        for pair in np.argwhere(there)[:1]:
            first, second = (classes[objects.label[index]] for index in pair)
            what = f"{first} twice" if first == second else f"{first} and {second}"
            add(kind, f"{name} in {split} has one box as {what}; remove one of them.")
    twin = found.digests.setdefault(digest, name)
    if twin != name:
        add("duplicate image", f"{name} in {split} is the same picture as {twin}.")


def _of_split(found: BoxSurvey, empty_boxes: int) -> list[Finding]:
    split, findings = found.data_set.split, []

    def add(kind: str, message: str) -> None:
        findings.append(Finding(kind, split, message))

    most = found.objects.max(initial=0)
    for name, count in zip(found.data_set.class_names, found.objects, strict=True):
        if count == 0:
            add("class absent", f"{split} has no object of the class {name}.")
        elif count < _RARE * most:
            add("rare class", f"{split} has {count} objects of {name}, and {most} of another.")
    if empty_boxes:
        add("empty boxes", f"{split} names {empty_boxes} boxes without area, which are left out.")
    return findings
