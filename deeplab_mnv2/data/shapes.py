"""Embedded data set: textured shapes on clutter, drawn from (seed, index), nothing on disk.

A class is a hue and a shape. Hue alone leaves one class in five, and the clutter has every hue
too, so that no pixel gives its class away. It is what the quick start trains on, and what tests
and notebooks use where real data would be too much.
"""

import dataclasses
import hashlib
from typing import Any

import cv2
import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.errors import UserError

SHAPES = ("disc", "square", "triangle", "star", "cross")
# RGB in [0, 1], at full brightness.
HUES = {
    "red": (1.0, 0.15, 0.15),
    "green": (0.15, 0.9, 0.2),
    "blue": (0.2, 0.3, 1.0),
    "yellow": (1.0, 0.9, 0.1),
}
TEXTURES = ("plain", "striped", "checked", "dotted")
# Scenes of the splits come from streams of random numbers that never meet.
_STREAMS = {"train": 0, "val": 1}
# Pixels that the smallest shape takes with its outline.
_LEAST_SIZE = 8
_DEFAULT_LENGTH = {"train": 4096, "val": 200}
# Share of an object that may lie on objects drawn before.
_LARGEST_OVERLAP = 0.1
# Unlabelled pixels on each side of an object's outline, as in VOC's annotation.
_VOID_WIDTH = 1


@dataclasses.dataclass
class Shapes(Section):
    """Data set of drawn scenes with 21 classes: background and 5 shapes in 4 hues.

    `size` is the largest side in pixels; scenes are between 3/4 of it and all of it.
    """

    split: str = "train"
    length: int = 0
    size: int = 97
    seed: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        return ("background", *(f"{hue} {shape}" for shape in SHAPES for hue in HUES))

    def open(self) -> "ShapesSource":
        """Return the scenes of the split.

        Raises:
            UserError: there is no such split, or a setting is out of range.
        """
        if self.split not in _STREAMS:
            raise UserError(f"Shapes has the splits train and val, not {self.split!r}.")
        self.require_at_least(0, "length", "seed")
        self.require_at_least(_LEAST_SIZE, "size")
        length = self.length or _DEFAULT_LENGTH[self.split]
        return ShapesSource((self.seed, _STREAMS[self.split]), length, self.size)

    def digest(self) -> str:
        return hashlib.sha256(repr(dataclasses.astuple(self)).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ShapesSource:
    """Scenes by index: image (H, W, 3) uint8, label (H, W) uint8 with 255 along outlines."""

    stream: tuple[int, ...]
    length: int
    size: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        example, _ = self.draw(index)
        return example

    def draw(self, index: int) -> tuple[dict[str, Any], np.ndarray]:
        """Return a scene, and which object each of its pixels is, (H, W) uint8.

        Objects are numbered from 1 as they are drawn; where the label has no class, it is 0.
        """
        index = range(self.length)[index]  # an IndexError beyond the end
        rng = np.random.default_rng((*self.stream, index))
        height, width = rng.integers(self.size * 3 // 4, self.size, size=2, endpoint=True)
        image = _clutter(rng, height, width)
        label, objects = np.zeros((2, height, width), np.uint8)
        for number in range(1, 1 + rng.integers(2, 5, endpoint=True)):
            shape, hue = rng.integers(len(SHAPES)), rng.integers(len(HUES))
            mask = _outline(rng, SHAPES[shape], height, width)
            # A corner of a hidden star is no star: what would cover another object is not drawn.
            if (label[mask] > 0).mean() > _LARGEST_OVERLAP:
                continue
            image[mask] = _texture(rng, list(HUES.values())[hue], height, width)[mask]
            border = _border(mask)
            inside = mask & ~border
            label[border], objects[border] = IGNORE_LABEL, 0
            label[inside], objects[inside] = 1 + shape * len(HUES) + hue, number
        noise = rng.normal(0, 6, size=image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
        return {"image": image, "label": label, "name": f"scene_{index:05d}"}, objects


def _clutter(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a background (H, W, 3) float32 of soft blobs and thin lines in random colours."""
    coarse = rng.uniform(40, 215, size=(*rng.integers(2, 6, size=2), 3)).astype(np.float32)
    image = cv2.resize(coarse, (int(width), int(height)), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 6)):
        ends = rng.integers(0, max(height, width), size=4).tolist()
        colour = rng.uniform(0, 255, size=3).tolist()
        cv2.line(image, tuple(ends[:2]), tuple(ends[2:]), colour, int(rng.integers(1, 3)))
    return image


def _outline(rng: np.random.Generator, shape: str, height: int, width: int) -> np.ndarray:
    """Return the mask (H, W) of a shape at a random place and size, a little turned."""
    side = min(height, width)
    radius = rng.uniform(0.22, 0.34) * side
    centre = rng.uniform(0.2, 0.8, size=2) * (width, height)
    turn = rng.uniform(-0.2, 0.2)
    mask = np.zeros((height, width), np.uint8)
    if shape == "disc":
        cv2.circle(mask, tuple(np.rint(centre).astype(int).tolist()), int(radius), 1, -1)
        return mask.astype(bool)
    if shape == "cross":
        arm = 0.36
        corners = [(arm, arm), (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm)]
        corners += [(-x, -y) for x, y in corners]
        points = np.array(corners) @ _rotation(turn)
    else:
        tips = {"triangle": 3, "square": 4, "star": 10}[shape]
        upright = np.pi / 4 if shape == "square" else -np.pi / 2
        angles = turn + upright + 2 * np.pi * np.arange(tips) / tips
        reach = np.where(np.arange(tips) % 2, 0.45, 1.0) if shape == "star" else np.ones(tips)
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None]
        points = points * 1.15  # polygons cover less than a disc of the same radius
    polygon = np.rint(centre + radius * points).astype(np.int32)
    cv2.fillPoly(mask, [polygon], 1)
    return mask.astype(bool)


def _texture(
    rng: np.random.Generator, hue: tuple[float, ...], height: int, width: int
) -> np.ndarray:
    """Return (H, W, 3) float32 in a bright and a dark tone of a hue, in a random pattern."""
    dark, light = (rng.uniform(*tones) * np.array(hue) for tones in ((70, 120), (200, 255)))
    if rng.random() < 0.5:
        dark, light = light, dark
    texture = TEXTURES[rng.integers(len(TEXTURES))]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    u, v = np.moveaxis(grid @ _rotation(rng.uniform(0, np.pi)) / rng.uniform(5, 7), -1, 0)
    if texture == "plain":
        second = np.zeros((height, width), bool)
    elif texture == "striped":
        second = np.floor(u) % 2 == 0
    elif texture == "checked":
        second = (np.floor(u) + np.floor(v)) % 2 == 0
    else:
        second = (u % 1.6 - 0.8) ** 2 + (v % 1.6 - 0.8) ** 2 < 0.16
    return np.where(second[..., None], light, dark).astype(np.float32)


def _border(mask: np.ndarray) -> np.ndarray:
    """Return the pixels (H, W) within `_VOID_WIDTH` of the outline, on both sides."""
    kernel = np.ones((2 * _VOID_WIDTH + 1,) * 2, np.uint8)
    grey = mask.astype(np.uint8)
    return cv2.dilate(grey, kernel) != cv2.erode(grey, kernel)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
