"""Augmentation and padding of one example, in plain numpy and OpenCV.

An example is `image` (H, W, C) uint8, of photographs RGB, and `label` (H, W) uint8. Images stay
uint8 up to the device, where they are normalised.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL, DataConfig, DeepLabConfig
from deeplab_mnv2.data.bands import grey_levels, to_grey
from deeplab_mnv2.data.colours import distort_colours
from deeplab_mnv2.errors import UserError

# That OpenCV samples at once.
_MOST_CHANNELS = 4


def checked_example(
    example: Mapping[str, Any], model: DeepLabConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return image (H, W, model.in_channels) and label (H, W), both uint8, of any data set.

    Raises:
        UserError: image or label is missing, of another shape or type, or the label holds an id
            that is neither a class nor 255.
    """
    name, channels = example.get("name", "An example"), model.in_channels
    types = {"image": ("uint8", "uint16", "float32"), "label": ("uint8",)}
    for key, expected in (("image", f"(H, W, {channels})"), ("label", "(H, W)")):
        array = example.get(key)
        found = str(getattr(array, "dtype", type(array).__name__))
        shape = getattr(array, "shape", "")
        if found not in types[key] or len(shape) != expected.count(",") + 1:
            raise UserError(
                f"{name} has the {key} {found}{shape}; the data set must give {expected} uint8."
            )
    image, label = example["image"], example["label"]
    if channels == 1 and image.shape[2] == 3:
        image = to_grey(image)
    if image.shape != (*label.shape, channels) or not label.size:
        raise UserError(
            f"{name} has an image of shape {image.shape} and a label of shape {label.shape}; they "
            f"must be (H, W, {channels}), of model.in_channels={channels}, and (H, W)."
        )
    image = grey_levels(image, model.value_range, name)
    largest = int(np.where(label == IGNORE_LABEL, 0, label).max())
    if largest >= model.num_classes:
        raise UserError(
            f"{name} holds the label id {largest}, but there are {model.num_classes} classes (0 to "
            f"{model.num_classes - 1}, and 255 for unlabelled); correct the labels or the class "
            "list."
        )
    return image, label


def augment(
    image: np.ndarray,
    label: np.ndarray,
    rng: np.random.Generator,
    config: DataConfig,
    mean_pixel: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random (crop, crop, C) image and (crop, crop) label.

    TensorFlow DeepLab's recipe: random scale, pad at the bottom and right with the mean pixel
    and 255, random crop, flip.
    """
    scale = random_scale(rng, config.scale_range, config.scale_step)
    if config.photometric:
        # Before padding, whose grey has no colour of its own.
        image = distort_colours(image, rng)
    image, label = scale_pad_crop(image, label, rng, scale, config.crop_size, mean_pixel)
    if config.flip and rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def random_scale(
    rng: np.random.Generator, scale_range: tuple[float, float], scale_step: float
) -> float:
    """Draw a scale: one of the discrete steps, or log-uniform where the step is 0."""
    low, high = scale_range
    if scale_step == 0:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))
    # As many as fit the range; a little more than none is lost to rounding.
    steps = int((high - low) / scale_step + 1e-6)
    return low + scale_step * int(rng.integers(0, steps, endpoint=True))


def scale_pad_crop(
    image: np.ndarray,
    label: np.ndarray,
    rng: np.random.Generator,
    scale: float,
    crop_size: int,
    mean_pixel: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Scale, pad and crop in one resampling of only the pixels that the crop shows.

    The image is sampled bilinearly, the label by nearest neighbour on the same grid, corners
    aligned as TensorFlow's `align_corners=True`.
    """
    height, width = label.shape
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    top = int(rng.integers(0, max(new_height - crop_size, 0), endpoint=True))
    left = int(rng.integers(0, max(new_width - crop_size, 0), endpoint=True))
    step_y = (height - 1) / max(new_height - 1, 1)
    step_x = (width - 1) / max(new_width - 1, 1)
    # From crop pixel to source pixel.
    matrix = np.array([[step_x, 0, left * step_x], [0, step_y, top * step_y]])
    crop = _sample(image, matrix, crop_size, cv2.INTER_LINEAR)
    crop_label = _sample(label[..., None], matrix, crop_size, cv2.INTER_NEAREST)[..., 0]
    # Replicated edges beyond the scaled image become padding.
    crop[new_height - top :] = mean_pixel
    crop[:, new_width - left :] = mean_pixel
    crop_label[new_height - top :] = IGNORE_LABEL
    crop_label[:, new_width - left :] = IGNORE_LABEL
    return crop, crop_label


def _sample(image: np.ndarray, matrix: np.ndarray, side: int, interpolation: int) -> np.ndarray:
    """Return (side, side, C) of an image (H, W, C), whose last rows and columns go on for ever."""
    channels = image.shape[2]
    # OpenCV samples four channels at most, and drops the axis of a single one.
    parts = [
        cv2.warpAffine(
            image[..., first : first + _MOST_CHANNELS],
            M=matrix,
            dsize=(side, side),
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ).reshape(side, side, -1)
        for first in range(0, channels, _MOST_CHANNELS)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def pad(
    image: np.ndarray, label: np.ndarray, shape: tuple[int, int], mean_pixel: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Pad at the bottom and right to `shape` (H, W) with the mean pixel and 255."""
    height, width = label.shape
    padded = np.empty((*shape, image.shape[-1]), image.dtype)
    padded[:] = mean_pixel
    padded[:height, :width] = image
    padded_label = np.full(shape, IGNORE_LABEL, label.dtype)
    padded_label[:height, :width] = label
    return padded, padded_label


def boundary_band(label: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """Return (H, W) uint8: index of the narrowest band that a pixel is in, else len(widths).

    Bands are measured by the Euclidean distance, in whole pixels, from the label boundary:
    unlabelled pixels and pixels whose neighbour has another label (the trimap of DeepLabv3+,
    arXiv:1802.02611, Section 4.3).
    """
    boundary = label == IGNORE_LABEL
    changes = label[1:] != label[:-1]
    boundary[1:] |= changes
    boundary[:-1] |= changes
    changes = label[:, 1:] != label[:, :-1]
    boundary[:, 1:] |= changes
    boundary[:, :-1] |= changes
    if not boundary.any():
        return np.full(label.shape, len(widths), np.uint8)
    # The other masks of OpenCV give a distance along a few directions, up to 2 % off.
    inside = (~boundary).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.digitize(distance, np.asarray(widths) + 0.5).astype(np.uint8)
