"""A data set of one class an image, looked at before it is trained on."""

import dataclasses
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deeplab_mnv2.config import DataSet
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.example import Finding
from deeplab_mnv2.tasks.classification.transforms import check_example

# Sides below this many pixels tell little about a photograph.
_TINY = 16
# A class with fewer images than this share of the largest class's is rare.
_RARE = 0.05


@dataclasses.dataclass
class ClassSurvey:
    """A split: the images of each class, what is wrong, and each image's digest by its name."""

    data_set: DataSet
    images: np.ndarray
    findings: list[Finding]
    # Name and label by the digest of the decoded image; the first of several.
    digests: dict[str, tuple[str, int]]


def survey_classes(
    data_set: DataSet,
    *,
    threads: int,
    samples: int = 0,
    seen: Callable[[], None] = lambda: None,
) -> ClassSurvey:
    """Examine a split, or `samples` of it spread evenly; `seen` is called after each image.

    Raises:
        UserError: there is no such split.
    """
    source, names = data_set.open(), data_set.class_names
    chosen = range(len(source))
    if samples:
        chosen = np.linspace(0, len(source) - 1, min(samples, len(source))).round().astype(int)

    def examine(index: int) -> tuple[str, int, tuple[int, int], str] | UserError:
        try:
            example = source[int(index)]
            check_example(example, len(names))
        except UserError as error:
            return error
        image = example["image"]
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        return example["name"], int(example["label"]), image.shape[:2], digest

    found = ClassSurvey(data_set, np.zeros(len(names), np.int64), [], {})
    with ThreadPoolExecutor(threads) as pool:
        for examined in pool.map(examine, chosen):
            _add(found, examined)
            seen()
    if not samples:
        found.findings += _rare_classes(found)
    return found


def quick_class_check(data_set: DataSet, *, samples: int = 64, threads: int = 2) -> list[str]:
    """Examine evenly spread examples before a long run; return warnings.

    Raises:
        UserError: an example cannot be read, or all that were looked at are of one class.
    """
    found = survey_classes(data_set, threads=threads, samples=samples)
    for finding in found.findings:
        if finding.severity == "error":
            raise UserError(finding.message)
    present = np.flatnonzero(found.images)
    if len(present) == 1 and found.images.sum() > 1:
        return [
            f"Every image sampled from {data_set.split} is {data_set.class_names[present[0]]}: are "
            "these the right folders?"
        ]
    return [finding.message for finding in found.findings if finding.severity == "warning"]


def _add(found: ClassSurvey, examined: tuple[str, int, tuple[int, int], str] | UserError) -> None:
    split = found.data_set.split
    if isinstance(examined, UserError):
        found.findings.append(Finding("unreadable", split, str(examined)))
        return
    name, label, size, digest = examined
    found.images[label] += 1
    if min(size) < _TINY:
        message = f"{name} in {split} has {size[1]} x {size[0]} pixels."
        found.findings.append(Finding("tiny image", name, message))
    twin, other = found.digests.setdefault(digest, (name, label))
    if twin == name:
        return
    if other == label:
        message = f"{name} in {split} is the same picture as {twin}."
        found.findings.append(Finding("duplicate image", name, message))
    else:
        message = (
            f"{name} in {split} is the same picture as {twin}, which is of another class; remove "
            "the wrong one."
        )
        found.findings.append(Finding("two classes", name, message))


def _rare_classes(found: ClassSurvey) -> list[Finding]:
    split, findings = found.data_set.split, []
    for name, images in zip(found.data_set.class_names, found.images, strict=True):
        if images == 0:
            message = f"{split} has no image of the class {name}."
            findings.append(Finding("class absent", split, message))
        elif images < _RARE * found.images.max():
            message = (
                f"{split} has {images} images of the class {name}, and "
                f"{found.images.max()} of another."
            )
            findings.append(Finding("rare class", split, message))
    return findings
