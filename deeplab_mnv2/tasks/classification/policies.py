"""TrivialAugment and RandAugment: operations of Pillow, drawn at random."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from deeplab_mnv2.config import RandAugment, TrivialAugmentWide

# From image, strength in [0, 1] of the policy's range, sign and the colour of what is uncovered.
Operation = Callable[[Image.Image, float, int, tuple[int, ...]], Image.Image]

# Strengths are drawn from so many steps in TrivialAugment; RandAugment's are of 30.
_STEPS = 31


def apply_policy(
    policy: TrivialAugmentWide | RandAugment,
    image: np.ndarray,
    rng: np.random.Generator,
    fill: tuple[int, ...],
) -> np.ndarray:
    """Return an image (H, W, 3) uint8 after the random operations of a policy."""
    picture = Image.fromarray(image)
    match policy:
        case TrivialAugmentWide():
            operation = WIDE[int(rng.integers(len(WIDE)))]
            strength = int(rng.integers(_STEPS)) / (_STEPS - 1)
            picture = operation(picture, strength, _sign(rng), fill)
        case RandAugment():
            for _ in range(policy.operations):
                operation = USUAL[int(rng.integers(len(USUAL)))]
                picture = operation(picture, policy.magnitude / 30, _sign(rng), fill)
    return np.asarray(picture)


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _identity(image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]) -> Image.Image:
    return image


def _affine(
    most: float, matrix: Callable[[float, tuple[int, int]], tuple[float, ...]]
) -> Operation:
    """Return an operation that maps output pixels (x, y) to (ax + by + c, dx + ey + f)."""

    def operation(
        image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]
    ) -> Image.Image:
        coefficients = matrix(sign * strength * most, image.size)
        return image.transform(image.size, Image.Transform.AFFINE, coefficients, fillcolor=fill)

    return operation


def _shear_x(amount: float, size: tuple[int, int]) -> tuple[float, ...]:
    return 1, amount, -amount * (size[1] - 1) / 2, 0, 1, 0


def _shear_y(amount: float, size: tuple[int, int]) -> tuple[float, ...]:
    return 1, 0, 0, amount, 1, -amount * (size[0] - 1) / 2


def _move_x(amount: float, size: tuple[int, int]) -> tuple[float, ...]:
    return 1, 0, -amount, 0, 1, 0


def _move_y(amount: float, size: tuple[int, int]) -> tuple[float, ...]:
    return 1, 0, 0, 0, 1, -amount


def _share_x(amount: float, size: tuple[int, int]) -> tuple[float, ...]:
    return 1, 0, -amount * size[0], 0, 1, 0


def _share_y(amount: float, size: tuple[int, int]) -> tuple[float, ...]:
    return 1, 0, 0, 0, 1, -amount * size[1]


def _rotate(degrees: float) -> Operation:
    def operation(
        image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]
    ) -> Image.Image:
        return image.rotate(sign * strength * degrees, fillcolor=fill)

    return operation


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance], most: float) -> Operation:
    def operation(
        image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]
    ) -> Image.Image:
        return kind(image).enhance(1 + sign * strength * most)

    return operation


def _posterize(fewest_bits: int) -> Operation:
    def operation(
        image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]
    ) -> Image.Image:
        return ImageOps.posterize(image, 8 - round(strength * (8 - fewest_bits)))

    return operation


def _solarize(image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]) -> Image.Image:
    return ImageOps.solarize(image, round(255 * (1 - strength)))


def _autocontrast(
    image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]
) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, strength: float, sign: int, fill: tuple[int, ...]) -> Image.Image:
    return ImageOps.equalize(image)


_COLOURS = (
    ImageEnhance.Brightness,
    ImageEnhance.Color,
    ImageEnhance.Contrast,
    ImageEnhance.Sharpness,
)
# The wide space of arXiv:2103.10158, Table 5: shear, pixels, degrees, factor, bits.
WIDE: tuple[Operation, ...] = (
    _identity,
    _affine(0.99, _shear_x),
    _affine(0.99, _shear_y),
    _affine(32, _move_x),
    _affine(32, _move_y),
    _rotate(135),
    *(_enhance(kind, 0.99) for kind in _COLOURS),
    _posterize(2),
    _solarize,
    _autocontrast,
    _equalize,
)
# RandAugment's usual space (arXiv:1909.13719, with AutoAugment's ranges).
USUAL: tuple[Operation, ...] = (
    _identity,
    _affine(0.3, _shear_x),
    _affine(0.3, _shear_y),
    _affine(150 / 331, _share_x),
    _affine(150 / 331, _share_y),
    _rotate(30),
    *(_enhance(kind, 0.9) for kind in _COLOURS),
    _posterize(4),
    _solarize,
    _autocontrast,
    _equalize,
)
