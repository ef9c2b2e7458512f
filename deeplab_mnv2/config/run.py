"""A whole run: how long it trains, how it is scored, and all its settings together."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.config.data import DataConfig
from deeplab_mnv2.config.loss import CrossEntropy, Loss, check_loss
from deeplab_mnv2.config.model import FREEZABLE, PARTS, BackboneConfig, DeepLabConfig
from deeplab_mnv2.config.optimizer import OptimizerConfig
from deeplab_mnv2.errors import UserError


@dataclasses.dataclass
class TrainConfig(Section):
    """The loop: how long, how often, on what."""

    SECTION: ClassVar[str] = "train"

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
    # Initial weights (a file, a folder, a run or hf://owner/name; "" starts at random), and which
    # PARTS of them to take; the rest starts at random.
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

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: one is out of range.
        """
        steps = ("total_steps", "log_every", "eval_every", "checkpoint_every")
        self.require_at_least(1, *steps, "batch_size", "accumulate", "fsdp", "space")
        self.require_at_least(0, "seed", "checkpoint_every_seconds")
        self.require_one_of(("stop", "skip"), "nonfinite")
        self.require(0 <= self.ema_decay < 1, "ema_decay", "in [0, 1)")
        self.require(
            self.batch_size % self.accumulate == 0,
            "accumulate",
            f"a divisor of train.batch_size={self.batch_size}",
        )
        for name, choices in (("freeze", FREEZABLE), ("init_parts", PARTS)):
            self.require(
                set(getattr(self, name)) <= set(choices), name, f"some of {', '.join(choices)}"
            )


# Sides that images are padded to, multiples of every output stride plus one, at most half as long
# again as the image: the padding takes part in image pooling, but each shape is compiled once.
PAD_SIZES = (33, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049)


@dataclasses.dataclass
class EvaluationConfig(Section):
    """The protocol under which a checkpoint is scored."""

    SECTION: ClassVar[str] = "evaluation"

    batch_size: int = 1
    # Sides that images are padded to, the smallest that holds them, beyond the largest in steps of
    # 512 pixels; the rule is `tasks.segmentation.padding.padded_shape`.
    pad_sizes: tuple[int, ...] = PAD_SIZES
    # 0 is the training output stride.
    output_stride: int = 0
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    # Distances in pixels from a label boundary within which boundary mIoU is scored.
    boundary_widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    bootstrap_samples: int = 1000
    # Images shown in the report: the worst, the best and random ones, a third each.
    pictures: int = 48

    def check(self, output_stride: int) -> None:
        """Check every setting; `output_stride` is the network's.

        Raises:
            UserError: one is out of range.
        """
        self.require_at_least(1, "batch_size", "bootstrap_samples")
        self.require_at_least(0, "pictures")
        self.require(
            bool(self.scales) and 0 < min(self.scales) <= max(self.scales) < float("inf"),
            "scales",
            "numbers above 0",
        )
        widths = self.boundary_widths
        self.require(
            list(widths) == sorted(set(widths)) and min(widths, default=1) >= 1,
            "boundary_widths",
            "increasing numbers of 1 or more",
        )
        self.require_one_of((0, 8, 16, 32), "output_stride")
        stride = self.output_stride or output_stride
        self.require(
            bool(self.pad_sizes)
            and all(size > 0 and size % stride == 1 for size in self.pad_sizes),
            "pad_sizes",
            f"one or more sizes, each a multiple of the output stride {stride} plus one",
        )


@dataclasses.dataclass
class Config(Section):
    """A whole run; the type of `model` is the task."""

    SECTION: ClassVar[str] = "config"

    data: DataConfig
    model: BackboneConfig = dataclasses.field(default_factory=DeepLabConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    loss: Loss = dataclasses.field(default_factory=CrossEntropy)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)

    def check(self) -> None:
        """Check every section, and the settings against each other, before anything is built.

        Raises:
            UserError: a setting is out of range or does not fit another.
        """
        model, data, train = self.model, self.data, self.train
        for section in (model, data, self.optimizer, train):
            section.check()
        self.evaluation.check(model.output_stride)
        model.require(
            model.in_channels == 3,
            "in_channels",
            "3 in a run, whose images are in colour; build the network itself for others",
        )
        if not isinstance(model, DeepLabConfig):
            return
        check_loss(self.loss, model.num_classes)
        stride = model.output_stride
        near = max(1, (data.crop_size + stride // 2) // stride) * stride + 1
        data.require(
            data.crop_size % stride == 1 and data.crop_size > stride,
            "crop_size",
            f"a multiple of model.output_stride={stride} plus one; the nearest that fits is {near}",
        )
        train.require(
            model.decoder or "decoder" not in train.freeze, "freeze", "parts that the model has"
        )
        for split in (data.train, data.val):
            if len(split.class_names) != model.num_classes:
                raise UserError(
                    f"model.num_classes={model.num_classes} but the data set names "
                    f"{len(split.class_names)} classes; set model.num_classes to that number."
                )


def to_dict(value: Any) -> Any:
    """Return a JSON-ready copy of a config; objects carry their class name as `type`.

    Raises:
        UserError: an object in it is no dataclass, so that its settings cannot be stored.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_dict(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(
        f"{type(value).__name__} cannot be stored in config.json: make it a dataclass of numbers, "
        "texts, tuples and other dataclasses (@dataclasses.dataclass above the class)."
    )
