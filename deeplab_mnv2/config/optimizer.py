"""The optimizer: update rules and learning-rate schedules, as objects."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from deeplab_mnv2.config.checks import Section


class _Rule(Section):
    SECTION: ClassVar[str] = "optimizer.rule"

    def _require_fractions(self, *names: str) -> None:
        for name in names:
            self.require(0 <= getattr(self, name) < 1, name, "in [0, 1)")


@dataclasses.dataclass
class Sgd(_Rule):
    """Momentum SGD, without Nesterov (TensorFlow DeepLab)."""

    momentum: float = 0.9

    def check(self) -> None:
        self._require_fractions("momentum")


@dataclasses.dataclass
class AdamW(_Rule):
    """Adam with decoupled weight decay (arXiv:1711.05101)."""

    b1: float = 0.9
    b2: float = 0.999

    def check(self) -> None:
        self._require_fractions("b1", "b2")


@dataclasses.dataclass
class RmsProp(_Rule):
    """RMSProp in TensorFlow's form, with which the MobileNet papers train.

    The mean square starts at `initial`, `epsilon` is added under the root, and the learning rate
    scales the step before it enters the momentum. Weight decay is L2 in the loss.
    """

    decay: float = 0.9
    momentum: float = 0.9
    epsilon: float = 1.0
    initial: float = 1.0

    def check(self) -> None:
        self._require_fractions("decay", "momentum")
        self.require(0 < self.epsilon < float("inf"), "epsilon", "above 0")
        self.require_at_least(0, "initial")


@dataclasses.dataclass
class Lamb(_Rule):
    """Adam scaled layer by layer, for large batches (arXiv:1904.00962)."""

    b1: float = 0.9
    b2: float = 0.999

    def check(self) -> None:
        self._require_fractions("b1", "b2")


@dataclasses.dataclass
class Lion(_Rule):
    """Sign of the momentum, with decoupled weight decay (arXiv:2302.06675)."""

    b1: float = 0.9
    b2: float = 0.99

    def check(self) -> None:
        self._require_fractions("b1", "b2")


class _Schedule(Section):
    SECTION: ClassVar[str] = "optimizer.schedule"


@dataclasses.dataclass
class Poly(_Schedule):
    """(1 - step / total_steps) ** power (arXiv:1606.00915)."""

    power: float = 0.9

    def check(self) -> None:
        self.require_at_least(0, "power")


@dataclasses.dataclass
class Cosine(_Schedule):
    """Half a cosine from 1 to `end` over the run (arXiv:1608.03983)."""

    end: float = 0.0

    def check(self) -> None:
        self.require(0 <= self.end <= 1, "end", "in [0, 1]")


@dataclasses.dataclass
class Exponential(_Schedule):
    """Times `rate` every `every` steps: at once with `staircase`, else smoothly."""

    rate: float = 0.98
    every: int = 1000
    staircase: bool = True

    def check(self) -> None:
        self.require(0 < self.rate <= 1, "rate", "in (0, 1]")
        self.require_at_least(1, "every")


@dataclasses.dataclass
class Constant(_Schedule):
    """The same learning rate throughout."""

    def check(self) -> None:
        """Nothing can be out of range."""


class OwnSchedule(Protocol):
    """A schedule of your own: a dataclass in your experiment file."""

    def factor(self, step: Any, total_steps: int) -> Any:
        """Return what the learning rate is multiplied by at a step (a traced int32 scalar)."""
        ...


class OwnRule(Protocol):
    """An update rule of your own: a dataclass in your experiment file."""

    def transformation(self, decay: Any) -> Any:
        """Return an `optax.GradientTransformation` without learning rate.

        `decay` is the transformation that adds the weight decay; chain it where it belongs.
        """
        ...


@dataclasses.dataclass
class OptimizerConfig(Section):
    """The update rule, its learning rate and its schedule."""

    SECTION: ClassVar[str] = "optimizer"

    rule: Sgd | AdamW | RmsProp | Lamb | Lion | OwnRule = dataclasses.field(default_factory=Sgd)
    learning_rate: float = 0.007
    schedule: Poly | Cosine | Exponential | Constant | OwnSchedule = dataclasses.field(
        default_factory=Poly
    )
    # Linear warm-up from zero, which scales the schedule rather than delaying it.
    warmup_steps: int = 0
    # On the kernels of convolutions that are not depthwise; never on norm, bias, depthwise.
    weight_decay: float = 4e-5
    # Learning rate of everything outside the backbone, relative to the backbone's.
    head_multiplier: float = 1.0
    # Global norm; 0 does not clip.
    clip_norm: float = 0.0

    def check(self) -> None:
        """Check every setting, those of rule and schedule too.

        Raises:
            UserError: one is out of range.
        """
        self.require(0 < self.learning_rate < float("inf"), "learning_rate", "above 0")
        names = ("warmup_steps", "weight_decay", "head_multiplier", "clip_norm")
        self.require_at_least(0, *names)
        for part in (self.rule, self.schedule):
            check: Callable[[], None] | None = getattr(part, "check", None)
            if check is not None:
                check()
