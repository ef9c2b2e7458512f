"""The protocol under which a checkpoint is scored."""

import dataclasses
from typing import ClassVar

from deeplab_mnv2.config.checks import Section

# Sides that images are padded to, multiples of every output stride plus one, at most half as long
# again as the image: the padding takes part in image pooling, but each shape is compiled once.
PAD_SIZES = (33, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049)


@dataclasses.dataclass
class ScoringConfig(Section):
    """What every task's evaluation has."""

    SECTION: ClassVar[str] = "evaluation"

    batch_size: int = 1
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


@dataclasses.dataclass
class EvaluationConfig(ScoringConfig):
    """The protocol under which segmentation is scored."""

    # Sides that images are padded to, the smallest that holds them, beyond the largest in steps of
    # 512 pixels; the rule is `tasks.segmentation.padding.padded_shape`.
    pad_sizes: tuple[int, ...] = PAD_SIZES
    # 0 is the training output stride.
    output_stride: int = 0
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    # Distances in pixels from a label boundary within which boundary mIoU is scored.
    boundary_widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32)

    def check(self, output_stride: int) -> None:
        super().check(output_stride)
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
