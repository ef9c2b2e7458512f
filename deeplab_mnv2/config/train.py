"""The training loop: how long, how often, on what."""

import dataclasses
from typing import ClassVar

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.config.model import FREEZABLE, PARTS


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
    # Initial weights: a file, a folder or hf://owner/name; "" starts at random.
    init_weights: str = ""
    # Which PARTS of them to take, the rest starts at random; () takes all where the head fits
    # (settings, number and names of the classes), and else the backbone.
    init_parts: tuple[str, ...] = ()
    # Decay of the moving average of the weights, which is then what is scored; 0 is off.
    ema_decay: float = 0.0
    # With model.quantized: the step from which on the network is rounded to 8 bits. Before it, it
    # learns in float32 and its ranges are measured.
    quantize_from: int = 0
    # With model.quantized: the step from which on the ranges stay as they are; 0 is never.
    freeze_ranges_from: int = 0
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
        self.require_at_least(
            0, "seed", "checkpoint_every_seconds", "quantize_from", "freeze_ranges_from"
        )
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
