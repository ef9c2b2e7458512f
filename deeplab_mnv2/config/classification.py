"""Classification: the augmentation of training images, and how images are scored."""

import dataclasses

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.config.data import InputConfig
from deeplab_mnv2.config.evaluation import ScoringConfig


@dataclasses.dataclass
class TrivialAugmentWide(Section):
    """One operation an image, at random strength (arXiv:2103.10158, the wide search space)."""


@dataclasses.dataclass
class RandAugment(Section):
    """A few operations an image, all at one strength (arXiv:1909.13719)."""

    operations: int = 2
    # Of 30, as a share of each operation's largest strength.
    magnitude: int = 9

    def check(self) -> None:
        self.require_at_least(1, "operations")
        self.require(0 <= self.magnitude <= 30, "magnitude", "0 to 30")


@dataclasses.dataclass
class ClassificationDataConfig(InputConfig):
    """Data sets of one class an image, and the augmentation of training images.

    A random part of the image is scaled to a square of `crop_size`; with `padding` the image keeps
    its size instead, is padded by so many pixels of the mean colour, and a square of it is taken.
    """

    crop_size: int = 224
    # The part's share of the area, and its width over its height (arXiv:1409.4842).
    area_range: tuple[float, float] = (0.08, 1.0)
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    padding: int = 0
    policy: TrivialAugmentWide | RandAugment | None = None
    # Probability that a random rectangle is erased (arXiv:1708.04896).
    erase: float = 0.0
    # Strengths of mixup (arXiv:1710.09412) and of cutmix (arXiv:1905.04899), the alpha of a beta
    # distribution; where both are above 0, each batch gets one of them.
    mixup: float = 0.0
    cutmix: float = 0.0

    def check(self) -> None:
        super().check()
        low, high = self.area_range
        self.require(0 < low <= high <= 1, "area_range", "two increasing numbers in (0, 1]")
        low, high = self.aspect_range
        self.require(0 < low <= high < float("inf"), "aspect_range", "two increasing numbers")
        self.require_one_of(("bilinear", "bicubic"), "interpolation")
        self.require(0 <= self.erase <= 1, "erase", "in [0, 1]")
        self.require_at_least(0, "padding", "mixup", "cutmix")
        if isinstance(self.policy, RandAugment):
            self.policy.check()


@dataclasses.dataclass
class ClassificationEvaluationConfig(ScoringConfig):
    """The protocol under which classification is scored: the centre of a scaled image."""

    batch_size: int = 64
    # What the shorter side is scaled to, with antialiasing; 0 scales nothing.
    resize: int = 256
    # Side of the square in the middle that is scored; what it lacks is padded with the mean colour.
    crop_size: int = 224
    interpolation: str = "bilinear"

    def check(self, output_stride: int) -> None:
        super().check(output_stride)
        self.require_at_least(1, "crop_size")
        self.require_at_least(0, "resize")
        self.require_one_of(("bilinear", "bicubic"), "interpolation")
