"""Everything a run is made of, as typed dataclasses.

An experiment (`experiments/*.py`) returns a `Config`; the command line changes single fields
(`--config.train.total_steps=100`). Data sets and update rules are objects, not names.
The dataclasses are not frozen because command-line overrides set attributes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from deeplab_mnv2.errors import UserError

IGNORE_LABEL = 255


class Source(Protocol):
    """Random access to examples; picklable, so that worker processes can hold it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return `image` (H, W, 3) uint8 RGB, `label` (H, W) uint8 and `name`."""
        ...


class DataSet(Protocol):
    """What an experiment names as data: a description; `open` and `digest` touch the disk."""

    split: str

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def open(self) -> Source: ...

    def digest(self) -> str:
        """Return 16 hex digits that identify the examples of the split, in order."""
        ...


# Hashable, because the model keeps it as static data; nothing mutates it from there on.
@dataclasses.dataclass(unsafe_hash=True)
class ModelConfig:
    """The network and the convention its weights were trained under.

    Defaults are TensorFlow DeepLab's `mobilenet_v2` for PASCAL VOC, without ASPP.
    """

    num_classes: int = 21
    in_channels: int = 3
    # Input size over feature size: 8, 16 or 32.
    output_stride: int = 16
    # MobileNetV2 (arXiv:1801.04381): channel multiplier and what channels are rounded to.
    width_multiplier: float = 1.0
    divisible_by: int = 8
    # Figure 6 of the paper: no activation after the projection; where the shortcut runs
    # ("bottleneck", "expansion" or "none").
    linear_bottleneck: bool = True
    shortcut: str = "bottleneck"
    # ASPP rates at output stride 16, scaled with the stride; () is the mobile head.
    atrous_rates: tuple[int, ...] = ()
    separable_aspp: bool = False
    head_channels: int = 256
    # 0 pools the whole image; a crop size in pixels fixes the window to that crop's features.
    image_pool_crop: int = 0
    # DeepLabv3+ decoder (arXiv:1802.02611).
    decoder: bool = False
    dropout: float = 0.1
    # "same" is TensorFlow's padding, "symmetric" PyTorch's.
    padding: str = "same"
    align_corners: bool = True
    backbone_epsilon: float = 1e-3
    backbone_momentum: float = 0.997
    head_epsilon: float = 1e-5
    head_momentum: float = 0.9997
    # Input normalisation, in grey levels 0-255: (image - mean) / std.
    image_mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    image_std: tuple[float, ...] = (127.5, 127.5, 127.5)
    # Compute type; parameters and norm statistics stay float32.
    dtype: str = "float32"
    # Recompute each block in the backward pass: less memory, a third more time.
    remat: bool = False

    def __post_init__(self) -> None:
        # JSON has no tuples.
        for name in ("atrous_rates", "image_mean", "image_std"):
            setattr(self, name, tuple(getattr(self, name)))


# Fields that weights were trained under: changing one silently costs accuracy.
CONVENTION = (
    "in_channels",
    "width_multiplier",
    "divisible_by",
    "linear_bottleneck",
    "shortcut",
    "separable_aspp",
    "head_channels",
    "decoder",
    "padding",
    "align_corners",
    "backbone_epsilon",
    "head_epsilon",
    "image_mean",
    "image_std",
)


@dataclasses.dataclass
class DataConfig:
    """Data sets and the augmentation of training examples."""

    train: DataSet
    val: DataSet
    # Training crop, a multiple of the output stride plus one.
    crop_size: int = 513
    # Random scale: discrete steps, or continuous (uniform in the logarithm) where step is 0.
    scale_range: tuple[float, float] = (0.5, 2.0)
    scale_step: float = 0.25
    flip: bool = True
    # Random brightness, contrast, saturation and hue.
    photometric: bool = False
    # Use the first examples of the training split only (0 = all); for over-fitting checks.
    train_examples: int = 0
    # Images of a class that fewer than this share of the images hold are repeated, by the root
    # of the rarity (arXiv:1908.03195); 0 shows every image once an epoch.
    repeat_threshold: float = 0.0
    # An example that cannot be read ends the run ("stop"), or the next one that can takes its
    # place ("skip"), which is logged.
    damaged: str = "stop"
    # Reader threads in this process, or reader processes (0 = threads only).
    threads: int = 2
    workers: int = 0


@dataclasses.dataclass
class Sgd:
    """Momentum SGD, without Nesterov (TensorFlow DeepLab)."""

    momentum: float = 0.9


@dataclasses.dataclass
class AdamW:
    """Adam with decoupled weight decay (arXiv:1711.05101)."""

    b1: float = 0.9
    b2: float = 0.999


@dataclasses.dataclass
class OptimizerConfig:
    """The update rule and its schedule: base * (1 - step / total_steps) ** power."""

    rule: Sgd | AdamW = dataclasses.field(default_factory=Sgd)
    learning_rate: float = 0.007
    power: float = 0.9
    # Linear warm-up from zero.
    warmup_steps: int = 0
    # On the kernels of convolutions that are not depthwise; never on norm, bias, depthwise.
    weight_decay: float = 4e-5
    # Learning rate of everything outside the backbone, relative to the backbone's.
    head_multiplier: float = 1.0
    # Global norm; 0 does not clip.
    clip_norm: float = 0.0


@dataclasses.dataclass
class LossConfig:
    """Cross entropy over labelled pixels."""

    # One weight a class, or () for equal weights.
    class_weights: tuple[float, ...] = ()
    # Share of the hardest labelled pixels that count, reached linearly from 1 in `top_k_steps`.
    top_k: float = 1.0
    top_k_steps: int = 0


# What networks are made of: a parameter belongs to the part that its name begins with. `head` is
# the image classifier's last convolution.
PARTS = ("backbone", "aspp", "decoder", "head", "classifier")
FREEZABLE = (
    "backbone",
    "aspp",
    "decoder",
    "classifier",
    "backbone.stem",
    *(f"backbone.stages.{index}" for index in range(7)),
)


@dataclasses.dataclass
class TrainConfig:
    """The loop: how long, how often, on what."""

    total_steps: int = 30_000
    # Global batch; each step splits it into `accumulate` parts run one after the other.
    batch_size: int = 16
    accumulate: int = 1
    seed: int = 0
    log_every: int = 10
    eval_every: int = 1000
    checkpoint_every: int = 1000
    # Save as well when this many seconds have passed since the last save; 0 does not.
    checkpoint_every_seconds: int = 0
    # A step whose loss or gradient is not finite is left out; then "stop" or "skip" over it.
    nonfinite: str = "stop"
    # Initial weights (a file, a folder or hf://owner/name; "" starts at random), and which PARTS
    # of them to take; the rest starts at random.
    init_weights: str = ""
    init_parts: tuple[str, ...] = ("backbone",)
    # Decay of the moving average of the weights, which is then what is scored; 0 is off.
    ema_decay: float = 0.0
    # Use the stored norm statistics in training instead of the batch's.
    freeze_norm: bool = False
    # What stays as it is, norm statistics included: "backbone", "backbone.stem",
    # "backbone.stages.0" and so on, "aspp", "decoder", "classifier".
    # A step costs less the more of the network's beginning is frozen: nothing flows back into it.
    freeze: tuple[str, ...] = ()
    # Also log to this project at Weights & Biases (pip install "deeplab_mnv2[wandb]"); "" does not.
    wandb_project: str = ""
    # Devices along which parameters, and image rows, are split; the rest is data parallel.
    fsdp: int = 1
    space: int = 1


@dataclasses.dataclass
class EvaluationConfig:
    """The protocol under which a checkpoint is scored."""

    batch_size: int = 1
    # Sides that images are padded to, the smallest that fits; each costs one compilation.
    pad_sizes: tuple[int, ...] = (513, 1025, 2049)
    # 0 is the training output stride.
    output_stride: int = 0
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    # Distances in pixels from a label boundary within which boundary mIoU is scored.
    boundary_widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    bootstrap_samples: int = 1000
    # Images shown in the report: the worst, the best and random ones, a third each.
    pictures: int = 48


@dataclasses.dataclass
class Config:
    """A whole run."""

    data: DataConfig
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)


def to_dict(value: Any) -> Any:
    """Return a JSON-ready copy of a config; objects carry their class name as `type`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def model_from_dict(fields: Mapping[str, Any]) -> ModelConfig:
    """Return the `ModelConfig` that `to_dict` wrote.

    Raises:
        UserError: a field is not known to this version, or of another type.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    fields = {name: value for name, value in fields.items() if name != "type"}
    if unknown := sorted(fields.keys() - defaults.keys()):
        raise UserError(
            f"The stored model setting {unknown[0]!r} is not known to this version of "
            "deeplab_mnv2; update the package to read this file."
        )
    for name, value in fields.items():
        if not _is_like(value, defaults[name]):
            raise UserError(
                f"The stored model setting {name}={str(value)[:80]!r} is of another type than "
                f"{defaults[name]!r}; the file is damaged."
            )
    return ModelConfig(**fields)


def _is_like(value: Any, default: Any) -> bool:
    """Return whether JSON's value has the type of a default: tuples are lists of numbers."""
    if isinstance(default, tuple):
        return isinstance(value, list) and all(_is_like(item, 0.0) for item in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return type(value) is type(default)
    # A hand-made file may say 1 for 1.0.
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))
