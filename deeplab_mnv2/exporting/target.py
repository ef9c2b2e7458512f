"""What an exported file is to compute, and the images it is tried on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.photographs import files_below, is_image
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError

PRECISIONS = ("float32", "float16", "int8")

# From an image (1, S, S, 3) uint8 to the file's output for it, channels last.
Run = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Target:
    """The form of an exported file.

    Images are square, `size` pixels. The output is logits at the image's size, or without
    `resize` at the network's own; with `argmax` the class ids instead. `precision` is
    "float32", "float16" (kernels are stored so) or "int8".
    """

    class_names: tuple[str, ...]
    size: int = 513
    precision: str = "float32"
    argmax: bool = False
    resize: bool = True


def read_images(folder: Path, count: int, size: int, model: ModelConfig) -> list[np.ndarray]:
    """Return up to `count` photographs spread over a folder, each (1, S, S, 3) uint8.

    Longer ones are scaled down, then padded at the bottom and right with the mean pixel.

    Raises:
        UserError: the folder holds no images, or one of them is damaged.
    """
    problems: list[str] = []
    paths = [path for path in files_below(folder, problems) if is_image(path)]
    if problems:
        raise UserError(problems[0])
    if not paths:
        raise UserError(f"{folder} holds no images; give --calibration a folder that does.")
    chosen = {round(i) for i in np.linspace(0, len(paths) - 1, count)}
    return [_square(read_image(paths[index]), size, model) for index in sorted(chosen)]


def draw_images(count: int, size: int, model: ModelConfig) -> list[np.ndarray]:
    """Return scenes of the embedded data set, each (1, S, S, 3) uint8."""
    source = Shapes(split="val", length=count, size=size).open()
    return [_square(source[index]["image"], size, model) for index in range(count)]


def normalize(image: np.ndarray, model: ModelConfig) -> np.ndarray:
    """Return grey levels as float32 in the range the network expects."""
    mean, std = (np.array(x, np.float32) for x in (model.image_mean, model.image_std))
    return (image.astype(np.float32) - mean) / std


def _square(image: np.ndarray, size: int, model: ModelConfig) -> np.ndarray:
    longest = max(image.shape[:2])
    if longest > size:
        shape = [max(1, round(n * size / longest)) for n in image.shape[1::-1]]
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    square = np.empty((1, size, size, 3), np.uint8)
    square[:] = model.mean_pixel
    square[0, : image.shape[0], : image.shape[1]] = image
    return square
