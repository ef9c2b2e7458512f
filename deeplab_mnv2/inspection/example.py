"""One example of a data set under the lens: everything wrong with it, not the first thing."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.bands import read_bands
from deeplab_mnv2.data.decode import (
    DAMAGE,
    open_image,
    orientation,
    png_bit_depth,
    read_image,
)
from deeplab_mnv2.data.label_files import (
    LabelInColourError,
    LabelValues,
    read_values,
    to_colour,
)
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.inspection.alignment import edges_under_label

Severity = Literal["error", "warning", "note"]

# Every kind of finding. An error stops training or falsifies its scores.
SEVERITY: dict[str, Severity] = {
    "split entry": "error",
    "unreadable": "error",
    "damaged": "error",
    "too large": "error",
    "sample type": "error",
    "example": "error",
    "colour label": "error",
    "label mode": "error",
    "label size": "error",
    "label id": "error",
    "black and white": "error",
    "class list": "error",
    "shared image": "error",
    "two classes": "error",
    "void label": "warning",
    "mostly void": "warning",
    "misplaced labels": "warning",
    "listed twice": "warning",
    "some black and white": "warning",
    "padding as class": "warning",
    "class absent": "warning",
    "rare class": "warning",
    "tiny image": "warning",
    "tiny box": "warning",
    "box twice": "warning",
    "box of two classes": "warning",
    "duplicate image": "warning",
    "EXIF rotation": "warning",
    "CMYK": "warning",
    "16-bit": "warning",
    "several frames": "warning",
    "colour map": "note",
    "grey labels": "note",
    "unlisted files": "note",
    "empty boxes": "note",
}
# What `open_image` gives as the cause of its error; anything else is damage.
_CAUSES = (
    (UnidentifiedImageError, "unreadable"),
    ((Image.DecompressionBombError, Image.DecompressionBombWarning), "too large"),
)
# Colours of one label that are counted; more are the blends of a lossy or smoothed picture.
_MOST_COLOURS = 256
# Padding in the grey levels that tools pad with: black, ImageNet's mean, the middle.
_PADDING = np.array([(0, 0, 0), (124, 116, 104), (127, 127, 127), (128, 128, 128)])
# Narrower frames, in pixels and as share of the side, are the camera's or the scanner's. JPEG
# blurs the edge of a frame within a block of 8 pixels, and its grey levels by 2.
_FRAME_PIXELS, _FRAME_SHARE, _FRAME_BLUR = 8, 0.05, 2
# Of photographs, and of the bands of others.
_IMAGE_TYPES = tuple(map(np.dtype, (np.uint8, np.uint16, np.float32)))


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is wrong: a kind of `SEVERITY`, the file or split, and a sentence."""

    kind: str
    where: str
    message: str

    @property
    def severity(self) -> Severity:
        return SEVERITY[self.kind]


@dataclasses.dataclass
class Examination:
    """What is wrong with one example, and what a survey sums up.

    `image_digest` and `label_digest` are of decoded pixels, None where those cannot be had, as
    is `counts` (256,), the pixels of each label id. `colours` counts 0xRRGGBB of a label in colour;
    `edges` is what `edges_under_label` found.
    """

    name: str
    findings: list[Finding]
    image_digest: str | None = None
    label_digest: str | None = None
    counts: np.ndarray | None = None
    colours: Counter[int] = dataclasses.field(default_factory=Counter)
    grey_label: bool = False
    edges: np.ndarray | None = None


def examine_files(
    image_path: Path, label_path: Path, meaning: LabelValues, bands: int = 0
) -> Examination:
    """Return what an image file, with `bands` or a photograph (0), and its label file hold."""
    found = Examination(printable(image_path.stem), [])
    image = _examine_image(image_path, found.findings, bands)
    label = _examine_label(label_path, found, meaning)
    names = printable(image_path), printable(label_path)
    _examine_arrays(found, image, label, *names, meaning)
    return found


def examine_example(example: Any, num_classes: int, where: str) -> Examination:
    """Return what an example of a source holds; `where` in which split it is."""
    name = printable(example.get("name", where) if isinstance(example, Mapping) else where)
    found = Examination(name, [])
    image, label = example_arrays(example)
    if image is None or label is None:
        message = (
            f"{where} holds {_described(example)}; a data set gives image (H, W, 3) uint8, or "
            "(H, W, bands) uint8, uint16 or float32, label "
            "(H, W) uint8 and name."
        )
        found.findings.append(Finding("example", name, message))
        return found
    _examine_arrays(found, image, label, name, name, LabelValues(num_classes))
    return found


def example_arrays(example: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return image (H, W, bands) and label (H, W) of an example, None for one of another form."""
    if not isinstance(example, Mapping):
        return None, None
    image = _array(example, "image", 3, _IMAGE_TYPES)
    return image, _array(example, "label", 2, (np.dtype(np.uint8),))


def examine_failure(error: UserError, split: str, kind: str) -> Examination:
    """Return what is left of an example that cannot be had at all."""
    return Examination(split, [Finding(_kind(error, kind), split, str(error))])


def _examine_image(path: Path, findings: list[Finding], bands: int) -> np.ndarray | None:
    where = printable(path)

    def add(kind: str, what: str) -> None:
        findings.append(Finding(kind, where, f"{where} {what}."))

    try:
        image = read_bands(path, bands)
        if bands:
            return image
        with open_image(path) as header:
            sixteen = header.format == "PNG" and png_bit_depth(path) == 16
            if sixteen or header.mode.startswith("I;16"):
                add("16-bit", "has more than 8 bits a sample; the lower ones are dropped")
            if header.mode == "CMYK":
                add("CMYK", "has the inks of a print, whose colours come out wrong; save it as RGB")
            # A phone's second frame is a preview or a depth map.
            if header.format != "MPO" and getattr(header, "is_animated", False):
                add("several frames", "has several frames, of which only the first is read")
            if orientation(header) != 1:
                add(
                    "EXIF rotation",
                    "is stored turned and read upright; see that its label is upright too, and "
                    "save both as they should stand",
                )
        return image
    except UserError as error:
        findings.append(Finding(_kind(error, "sample type"), where, str(error)))
    except DAMAGE as error:
        add("damaged", f"is damaged after its first frame ({error}); save it again")
    return None


def _examine_label(path: Path, found: Examination, meaning: LabelValues) -> np.ndarray | None:
    """Return the values (H, W) of a label file, None where they are no ids."""
    try:
        label = read_values(path, in_colour=meaning.in_colour)
    except LabelInColourError as error:
        found.colours = _colours(read_image(path))
        found.findings.append(Finding("colour label", printable(path), str(error)))
    except UserError as error:
        found.findings.append(Finding(_kind(error, "label mode"), printable(path), str(error)))
    else:
        with open_image(path) as header:
            found.grey_label = header.mode == "L"
        return label
    return None


def _examine_arrays(
    found: Examination,
    image: np.ndarray | None,
    label: np.ndarray | None,
    image_name: str,
    label_name: str,
    meaning: LabelValues,
) -> None:
    def add(kind: str, message: str) -> None:
        found.findings.append(Finding(kind, label_name, message))

    if image is not None:
        found.image_digest = _digest(image)
    if label is None:
        return
    classes, known = meaning.to_classes(label)
    if not known.all():
        values, numbers = np.unique(label[~known], return_counts=True)
        shown = [to_colour(v) if meaning.in_colour else v for v in values[:8].tolist()]
        ids = ", ".join(f"{v} ({n:,} pixels)" for v, n in zip(shown, numbers[:8], strict=True))
        beside = "nor unlabelled" if meaning.in_colour else "nor 255"
        add(
            "label id",
            f"{label_name} holds ids that are neither a class's, {meaning}, {beside}: "
            f"{ids}; correct it, the class list or the data set's values.",
        )
    label = class_ids(label, classes, known, meaning)
    found.label_digest = _digest(label)
    found.counts = counts = np.bincount(label.ravel(), minlength=256)
    if counts[IGNORE_LABEL] == label.size:
        add("void label", f"{label_name} is unlabelled (255) everywhere; it teaches nothing.")
    if image is None:
        return
    if image.shape[:2] != label.shape:
        turned = image.shape[1::-1] == label.shape
        add(
            "label size",
            f"{label_name} is {label.shape[1]} x {label.shape[0]} pixels but {image_name} is "
            f"{image.shape[1]} x {image.shape[0]}{', turned' if turned else ''}; make the label "
            "again at the image's size.",
        )
        return
    found.edges = edges_under_label(image, label)
    if is_padding_labelled(image, label):
        add(
            "padding as class",
            f"{label_name} calls the empty frame of {image_name} class 0; label padding 255, or "
            "leave padding to the training.",
        )


def class_ids(
    values: np.ndarray, classes: np.ndarray, known: np.ndarray, meaning: LabelValues
) -> np.ndarray:
    """Return the classes (H, W) uint8 of a label; what means nothing keeps its own number.

    Unless a class has that number, or it is above those of 8 bits: then it is 255.
    """
    own = (values >= meaning.num_classes) & (values <= IGNORE_LABEL)
    return np.where(~known & own, values.astype(np.uint8), classes)


def is_padding_labelled(image: np.ndarray, label: np.ndarray) -> bool:
    """Return whether a solid frame, as tools add one, is labelled 0 instead of 255.

    A frame in a colour of `_PADDING` counts that is below or to the right of the picture, or
    alike on opposite sides, and ends at once along its whole length: before a black background,
    a photograph begins bit by bit. No image of VOC has one.
    """
    if image.shape[2] != 3 or image.dtype != np.uint8:
        return False
    colour = image[-1, -1].astype(np.int16)
    if np.abs(_PADDING - colour).max(axis=1).min() > _FRAME_BLUR:
        return False
    solid = (np.abs(image - colour).max(axis=-1) <= _FRAME_BLUR) & (label == 0)  # (H, W)
    for lines in (solid, solid.T):
        empty = lines.all(axis=1)
        before, after = int(np.argmin(empty)), int(np.argmin(empty[::-1]))
        if after < max(_FRAME_PIXELS, _FRAME_SHARE * len(lines)):
            continue
        # A block of JPEG further in.
        picture = lines[::-1][min(after + _FRAME_PIXELS, len(lines) - 1)]
        if picture.mean() < 0.5 and (before == 0 or abs(before - after) <= _FRAME_PIXELS):
            return True
    return False


def _array(
    example: Mapping[str, Any], key: str, dimensions: int, types: Sequence[np.dtype]
) -> np.ndarray | None:
    value = example.get(key)
    if not isinstance(value, np.ndarray) or value.dtype not in types or not value.size:
        return None
    return value if value.ndim == dimensions else None


def _described(example: Any) -> str:
    if not isinstance(example, Mapping):
        return f"a {type(example).__name__}"
    parts = []
    for key in ("image", "label"):
        value = example.get(key)
        if isinstance(value, np.ndarray):
            parts.append(f"{key} {value.shape} {value.dtype}")
        else:
            parts.append(f"{key} {type(value).__name__}" if key in example else f"no {key}")
    return " and ".join(parts)


def _colours(picture: np.ndarray) -> Counter[int]:
    packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    values, counts = np.unique(packed, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_MOST_COLOURS]
    return Counter(dict(zip(values[most].tolist(), counts[most].tolist(), strict=True)))


def _digest(array: np.ndarray) -> str:
    digest = hashlib.blake2b(str(array.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _kind(error: UserError, otherwise: str) -> str:
    for cause, kind in _CAUSES:
        if isinstance(error.__cause__, cause):
            return kind
    return "damaged" if error.__cause__ else otherwise
