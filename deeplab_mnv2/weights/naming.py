"""From a file's tensor names and layouts to ours: what the importers share."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np

from deeplab_mnv2.config import BackboneConfig, ClassifierConfig, DeepLabConfig, SsdLiteConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models import mobilenet_v1
from deeplab_mnv2.models.mobilenet_v2 import STAGES, STEM_CHANNELS, make_divisible

Kind = Literal["segmentation", "classification", "detection", "backbone"]
# What a file of each kind is described by.
CONFIGS: dict[Kind, type[BackboneConfig]] = {
    "segmentation": DeepLabConfig,
    "classification": ClassifierConfig,
    "detection": SsdLiteConfig,
    "backbone": BackboneConfig,
}

# The main score of each in `eval.json`, the first that is there; VOC's detection has AP50 only.
SCORES: dict[Kind, tuple[str, ...]] = {
    "segmentation": ("miou",),
    "classification": ("top1",),
    "detection": ("ap", "ap50"),
    "backbone": (),
}
# What people call them.
SCORE_TITLES = {"miou": "mIoU", "top1": "top-1", "ap": "AP", "ap50": "AP50"}
# The fields of `ClassificationEvaluationConfig` that say what a classifier sees of an image.
SCALING = ("resize", "crop_size", "interpolation")

# The parts that ranges of activations beside them belong to.
_PART_OF_RANGE = {
    "pooled_range": "classifier",
    "logits_range": "classifier",
    "boxes_range": "box_heads",
    "classes_range": "class_heads",
}
# The blocks of the backbone in order, as our tensors name them.
BLOCKS = tuple(
    f"backbone.stages.{stage}.{block}"
    for stage, (_, _, repeats, _) in enumerate(STAGES)
    for block in range(repeats)
)

# Stem and stages whose kernels float16 is too coarse for.
_EARLY = ("backbone.stem.", "backbone.stages.0.", "backbone.stages.1.")


def is_early(name: str) -> bool:
    """Return whether a tensor is of the first layers, which stay float32 in a file of float16.

    They hold 0.5 % of the values, and later layers magnify their rounding: it moved probabilities
    by 0.08 in a network that began as PyTorch's ImageNet weights, that of all others by 0.003.
    """
    return name.startswith(_EARLY)


def rename(
    arrays: Mapping[str, np.ndarray],
    table: Mapping[str, str],
    layout: Callable[[str, np.ndarray], np.ndarray],
    source: str,
) -> dict[str, np.ndarray]:
    """Return a file's arrays under our names, each passed through `layout(our name, array)`.

    Raises:
        UserError: an array is in no row of `table`.
    """
    if unknown := sorted(arrays.keys() - table.keys()):
        raise UserError(
            f"{source} holds {counted(len(unknown), 'tensor')} of another network: "
            f"{shortened(unknown)}."
        )
    found = {}
    for name, array in arrays.items():
        try:
            found[table[name]] = np.ascontiguousarray(layout(table[name], array), np.float32)
        except ValueError as error:
            # A tensor of other axes than the layout turns round.
            raise UserError(
                f"{source} does not fit the network: {name} has the shape {array.shape}."
            ) from error
    return found


def read_width(tensors: Mapping[str, np.ndarray], source: str) -> tuple[float, int]:
    """Return `width_multiplier` and `divisible_by` of a backbone from its tensor shapes.

    Published widths are multiples of 0.05 rounded to 8 or, in TensorFlow DeepLab, to 1.

    Raises:
        UserError: no width gives these channels.
    """
    layers = ["backbone.stem", *(f"{block}.project" for block in BLOCKS)]
    try:
        found = [tensors[f"{layer}.conv.kernel"].shape[-1] for layer in layers]
    except KeyError as error:
        raise UserError(f"{source} is not a MobileNetV2: it has no {error.args[0]}.") from error
    # The hundredths come second: where several widths round to the same channels, the
    # published one is the rounder.
    for steps in (20, 100):
        for divisible_by in (8, 1, 2, 4, 16, 32):
            for step in range(1, 4 * steps + 1):
                if backbone_channels(step / steps, divisible_by) == found:
                    return step / steps, divisible_by
    raise UserError(
        f"{source} is not a MobileNetV2 of any width: its stages have {found} channels."
    )


def read_kind(tensors: Mapping[str, np.ndarray]) -> Kind:
    """Return what the tensors make up, from the parts that are there."""
    parts = {part_of(name) for name in tensors}
    if "aspp" in parts:
        return "segmentation"
    if "class_heads" in parts:
        return "detection"
    return "classification" if "classifier" in parts else "backbone"


def unfolded(epsilon: float, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Return the norm layer that adds `bias` and does nothing else."""
    ones = np.ones_like(bias, np.float32)
    return {
        "scale": ones * np.sqrt(np.float32(1 + epsilon)),
        "bias": bias.astype(np.float32),
        "mean": np.zeros_like(ones),
        "var": ones,
    }


def backbone_channels(width: float, divisible_by: int, version: int = 2) -> list[int]:
    """Return the output channels of the stem and of every block."""
    if version == 1:
        base = [mobilenet_v1.STEM_CHANNELS]
        base += [c for c, repeats, _ in mobilenet_v1.STAGES for _ in range(repeats)]
    else:
        base = [STEM_CHANNELS] + [c for _, c, repeats, _ in STAGES for _ in range(repeats)]
    return [make_divisible(channels * width, divisible_by) for channels in base]


def is_logits(layer: str) -> bool:
    """Return whether a layer ends a network: a convolution with a bias and without norm."""
    return layer == "classifier" or layer.endswith(".predict")


def part_of(name: str) -> str:
    """Return the part of the network that a tensor belongs to."""
    first = name.partition(".")[0]
    return _PART_OF_RANGE.get(first, first)


def is_range(name: str) -> bool:
    """Return whether a tensor is an end of a range of activations (`config.quantized`)."""
    return name.rpartition(".")[0].endswith("range")


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def shortened(names: Iterable[str]) -> str:
    """Return the first few names, for a message."""
    names = list(names)
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
