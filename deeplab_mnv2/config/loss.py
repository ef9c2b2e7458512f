"""Losses, as objects; `losses` of `tasks.segmentation` and of `tasks.detection` compute them."""

import dataclasses
from typing import Any, ClassVar, Protocol

from deeplab_mnv2.config.checks import Section


class _Loss(Section):
    SECTION: ClassVar[str] = "loss"


@dataclasses.dataclass
class CrossEntropy(_Loss):
    """Cross entropy over labelled pixels."""

    # One weight a class, or () for equal weights.
    class_weights: tuple[float, ...] = ()
    # Share of the hardest labelled pixels that count, reached linearly from 1 in `top_k_steps`.
    top_k: float = 1.0
    top_k_steps: int = 0
    # Share of the target that is spread evenly over all classes (arXiv:1512.00567).
    label_smoothing: float = 0.0

    def check(self, num_classes: int) -> None:
        weights = self.class_weights
        self.require(
            len(weights) in (0, num_classes),
            "class_weights",
            f"empty or one number for each of the {num_classes} classes",
        )
        self.require(
            not weights or (min(weights) >= 0 and 0 < max(weights) < float("inf")),
            "class_weights",
            "numbers of 0 or more, not all 0",
        )
        self.require(0 < self.top_k <= 1, "top_k", "in (0, 1]")
        self.require_at_least(0, "top_k_steps")
        self.require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)")


@dataclasses.dataclass
class Focal(_Loss):
    """Cross entropy times (1 - p) ** gamma, p the probability of the label (arXiv:1708.02002)."""

    gamma: float = 2.0

    def check(self, num_classes: int) -> None:
        self.require_at_least(0, "gamma")


@dataclasses.dataclass
class Dice(_Loss):
    """1 - soft Dice, over the classes that the batch is labelled with (arXiv:1606.04797)."""

    def check(self, num_classes: int) -> None:
        """Nothing can be out of range."""


@dataclasses.dataclass
class Jaccard(_Loss):
    """1 - soft intersection over union, over the classes that the batch is labelled with."""

    def check(self, num_classes: int) -> None:
        """Nothing can be out of range."""


@dataclasses.dataclass
class LovaszSoftmax(_Loss):
    """The Lovász extension of 1 - IoU, over the classes labelled (arXiv:1705.08790)."""

    def check(self, num_classes: int) -> None:
        """Nothing can be out of range."""


class OwnLoss(Protocol):
    """A loss of your own: a dataclass in your experiment file."""

    def sums(self, logits: Any, label: Any, step: Any) -> tuple[Any, Any]:
        """Return a sum and what to divide it by, both scalars.

        `logits` (B, H, W, classes) float32 at the label's size, `label` (B, H, W) int32 with
        `IGNORE_LABEL` where unlabelled, `step` int32.
        """
        ...


@dataclasses.dataclass
class Term(_Loss):
    """A loss in a `Sum`, and its weight there."""

    loss: "CrossEntropy | Focal | Dice | Jaccard | LovaszSoftmax | OwnLoss"
    weight: float = 1.0


@dataclasses.dataclass
class Sum(_Loss):
    """The weighted sum of losses: `Sum((Term(CrossEntropy()), Term(Jaccard(), 0.5)))`."""

    terms: tuple[Term, ...]

    def check(self, num_classes: int) -> None:
        self.require(bool(self.terms), "terms", "one or more terms")
        for term in self.terms:
            term.require(0 < term.weight < float("inf"), "weight", "above 0")
            check_loss(term.loss, num_classes)


@dataclasses.dataclass
class MultiBox(_Loss):
    """Detection: smooth L1 of boxes, sigmoid cross entropy of classes, and of hard negatives.

    Of each image count the matched anchors and the hardest others (arXiv:1512.02325). Background
    is a class among the others.
    """

    # Others for each matched anchor, and the fewest in an image.
    negatives: float = 3.0
    min_negatives: int = 3
    # Weight of the box loss; that of the class loss is 1.
    box_weight: float = 1.0

    def check(self, num_classes: int) -> None:
        self.require_at_least(0, "negatives", "min_negatives", "box_weight")


@dataclasses.dataclass
class FocalBox(_Loss):
    """Detection: smooth L1 of boxes, focal loss of classes over all anchors (arXiv:1708.02002).

    Background is the absence of every class; its logit is not trained.
    """

    gamma: float = 2.0
    # Weight of an anchor's own class; that of the others is 1 - alpha.
    alpha: float = 0.75
    # Weight of the box loss; that of the class loss is 1.
    box_weight: float = 1.0

    def check(self, num_classes: int) -> None:
        self.require_at_least(0, "gamma", "box_weight")
        self.require(0 < self.alpha < 1, "alpha", "in (0, 1)")


Loss = CrossEntropy | Focal | Dice | Jaccard | LovaszSoftmax | Sum | MultiBox | FocalBox | OwnLoss


def check_loss(loss: Any, num_classes: int) -> None:
    """Check the settings of a loss; one of the user's own may have a `check(num_classes)` too.

    Raises:
        UserError: one is out of range.
    """
    if hasattr(loss, "check"):
        loss.check(num_classes)
