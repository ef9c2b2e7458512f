"""Label files to class ids, refusing what would be trained on wrongly."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.decode import DAMAGE, damaged, open_image, png_bit_depth, scale_down
from deeplab_mnv2.errors import UserError

# A number, or a colour as "#rrggbb".
Value = int | str

# What Pillow calls 16-bit grey, as of its version 12 and before.
_SIXTEEN_BITS = ("I;16", "I;16B", "I")


class LabelInColourError(UserError):
    """A label file is a picture in colour where numbers are expected."""


@dataclasses.dataclass(frozen=True)
class LabelValues:
    """What the values in label files mean.

    `values` are those of the classes in order, by default 0 to num_classes - 1, and `unlabelled`
    those that mean no class. Beside these, 0 and 255 are unlabelled where no class has them. Both
    are numbers, or all are colours, "#rrggbb"; no colour is unlabelled unless it is named.
    """

    num_classes: int
    values: tuple[Value, ...] = ()
    unlabelled: tuple[Value, ...] = ()

    @property
    def in_colour(self) -> bool:
        """Whether the files are pictures in colour."""
        return any(isinstance(value, str) for value in self.values)

    def to_classes(self, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes of values in a file, and which of them mean something.

        Args:
            found: (H, W) what `read_values` returns.

        Returns:
            (H, W) uint8, 255 where unlabelled or without a meaning, and (H, W) bool.
        """
        meaning = {} if self.in_colour else {0: IGNORE_LABEL, IGNORE_LABEL: IGNORE_LABEL}
        classes = self.values or range(self.num_classes)
        meaning |= {to_number(value): index for index, value in enumerate(classes)}
        meaning |= {to_number(value): IGNORE_LABEL for value in self.unlabelled}
        if found.dtype == np.uint8:
            table, known = np.full(256, IGNORE_LABEL, np.uint8), np.zeros(256, bool)
            for value, index in meaning.items():
                if value < 256:
                    table[value], known[value] = index, True
            return table[found], known[found]
        ordered = np.array(sorted(meaning))
        places = np.searchsorted(ordered, found).clip(max=len(ordered) - 1)
        known = ordered[places] == found
        table = np.array([meaning[value] for value in ordered.tolist()], np.uint8)
        return np.where(known, table[places], IGNORE_LABEL).astype(np.uint8), known

    def __str__(self) -> str:
        """Return the values that are a class's, such as "0 to 20" or "0, 128"."""
        values = self.values or range(self.num_classes)
        if list(values) == list(range(len(values))):
            return f"0 to {len(values) - 1}"
        return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def require_few(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes of a data set whose ids have 8 bits.

    Raises:
        UserError: there are too many, for 255 is unlabelled.
    """
    if len(class_names) >= IGNORE_LABEL:
        raise UserError(
            f"There are {len(class_names)} classes, but no more than {IGNORE_LABEL - 1} are told "
            "apart; choose some of them."
        )
    return class_names


def to_number(value: Value) -> int:
    """Return a number as it is, and a colour as 0xRRGGBB.

    Raises:
        ValueError: a text is no colour.
    """
    if isinstance(value, int):
        return value
    if len(value) != 7 or not value.startswith("#"):
        raise ValueError(f"{value!r} is no colour")
    return int(value[1:], 16)


def to_colour(number: int) -> str:
    """Return 0xRRGGBB as "#rrggbb"."""
    return f"#{number:06x}"


def read_label(path: Path, meaning: LabelValues) -> np.ndarray:
    """Return class ids (H, W) uint8, 255 unlabelled, of a label file.

    Raises:
        UserError: the file is missing or damaged, is in colour where numbers are expected, or holds
            a value that is neither a class nor unlabelled.
    """
    return checked_classes(read_values(path, in_colour=meaning.in_colour), meaning, path)


def checked_classes(found: np.ndarray, meaning: LabelValues, where: Path | str) -> np.ndarray:
    """Return the class ids (H, W) uint8 that values (H, W) mean; `where` they are from.

    Raises:
        UserError: one is neither a class nor unlabelled.
    """
    classes, known = meaning.to_classes(found)
    if not known.all():
        value = int(found[~known][0])
        if meaning.values:
            shown = to_colour(value) if meaning.in_colour else value
            beside = "not unlabelled" if meaning.in_colour else "neither 0 nor 255"
            raise UserError(
                f"{where} holds the value {shown}, which is no class's ({meaning}) and "
                f"{beside}; correct the file or the data set's values and unlabelled."
            )
        raise UserError(
            f"{where} holds the label id {value}, but there are {meaning.num_classes} classes "
            f"({meaning}, and 255 for unlabelled); correct the file or the class list."
        )
    return classes


def scaled_example(
    image: np.ndarray, label: np.ndarray, name: str, long_side: int
) -> dict[str, Any]:
    """Return an example, `image` and `label` scaled down to `long_side`; 0 scales nothing."""
    return {
        "image": scale_down(image, long_side),
        "label": scale_down(label, long_side, cv2.INTER_NEAREST_EXACT),
        "name": name,
    }


def read_values(path: Path, *, in_colour: bool = False) -> np.ndarray:
    """Return the values (H, W) of a label PNG, whether or not they mean something.

    Numbers are uint8, or uint16 in a PNG of 16 bits; a PNG in colour has numbers where it
    is grey all over. Colours are uint32, 0xRRGGBB.

    Raises:
        UserError: the file is missing or damaged, or its pixels are no numbers or no colours.
    """
    with open_image(path) as image:
        # Lossy formats blur ids into others, and only PNG has checksums.
        if image.format != "PNG":
            raise UserError(
                f"{path} is a {image.format} label, which blurs class ids or guards them by no "
                "checksum; save it as a PNG."
            )
        if image.mode == "L" and png_bit_depth(path) != 8:
            # Pillow stretches 2 and 4 bits to the whole range, which makes id 1 of 4 bits 17.
            raise UserError(
                f"{path} is a grey label of {png_bit_depth(path)} bits, whose ids are ambiguous; "
                "save it with 8 bits a pixel."
            )
        try:
            return _colours(path, image) if in_colour else _numbers(path, image)
        except DAMAGE as error:
            raise damaged(path, error) from error


def _numbers(path: Path, image: Image.Image) -> np.ndarray:
    if image.mode in ("P", "L"):
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in _SIXTEEN_BITS:
        return np.asarray(image).astype(np.uint16)
    red, green, blue = (channel for channel in _opaque(path, image).transpose(2, 0, 1))
    if (red != green).any() or (red != blue).any():
        raise LabelInColourError(
            f"{path} is a label in colour (mode {image.mode}), not class ids; name the classes' "
            'colours in the data set\'s values=("#000000", ...), or save an 8-bit PNG of ids.'
        )
    return red


def _colours(path: Path, image: Image.Image) -> np.ndarray:
    if image.mode in _SIXTEEN_BITS:
        raise UserError(
            f"{path} is a label of 16-bit numbers, but the data set's values are colours; correct "
            "one of them."
        )
    red, green, blue = _opaque(path, image).astype(np.uint32).transpose(2, 0, 1)
    return red << 16 | green << 8 | blue


def _opaque(path: Path, image: Image.Image) -> np.ndarray:
    """Return the colours (H, W, 3) of a picture none of whose pixels is transparent."""
    pixels = np.asarray(image.convert("RGBA"))
    if (pixels[..., 3] < 255).any():
        raise UserError(
            f"{path} is a label with transparent pixels, whose class is unclear; save it without "
            "transparency."
        )
    return pixels[..., :3]


def are_values(values: Sequence[Value]) -> bool:
    """Return whether these are different numbers, or different colours."""
    try:
        numbers = [to_number(value) for value in values]
    except ValueError:
        return False
    return (
        len({type(value) for value in values}) < 2
        and all(0 <= number < 1 << 24 for number in numbers)
        and len({*numbers}) == len(numbers)
    )
