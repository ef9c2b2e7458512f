"""Data: what a data set is, and how examples are drawn from it and augmented."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from deeplab_mnv2.config.checks import Section


class Source(Protocol):
    """Random access to examples; picklable, so that worker processes can hold it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return `image` (H, W, 3) uint8 RGB, `name` and `label`.

        The label is (H, W) uint8 class ids for segmentation, for classification a number. For
        segmentation the image may also be (H, W, model.in_channels) uint8, uint16 or float32,
        in the values of `model.value_range`.
        """
        ...


class DataSet(Protocol):
    """What an experiment names as data: a dataclass; only its methods touch the disk."""

    split: str

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def open(self) -> Source: ...

    def digest(self) -> str:
        """Return 16 hex digits that identify the examples of the split, in order."""
        ...


@dataclasses.dataclass
class InputConfig(Section):
    """Data sets and how they are read, whatever the task."""

    SECTION: ClassVar[str] = "data"

    train: DataSet
    val: DataSet
    # Side of a training example in pixels.
    crop_size: int = 513
    flip: bool = True
    # Random brightness, contrast, saturation and hue.
    photometric: bool = False
    # Use the first examples of the training split only (0 = all); for over-fitting checks.
    train_examples: int = 0
    # Images of a class that fewer than this share of the images hold are repeated, by a power of
    # the rarity: its root is that of arXiv:1908.03195, with 1 such classes come equally often. A
    # threshold of 0 shows every image once an epoch.
    repeat_threshold: float = 0.0
    repeat_power: float = 0.5
    # How often an image comes in a row, each time augmented anew (arXiv:1902.05509).
    repeated_augmentation: int = 1
    # An example that cannot be read ends the run ("stop"), or is replaced by the next one that
    # can ("skip"), which is logged.
    damaged: str = "stop"
    # Reader threads in this process, or reader processes (0 = threads only).
    threads: int = 2
    workers: int = 0

    @property
    def mixed(self) -> float:
        """Share of the training examples that come with another one, to be mixed with it."""
        return 0.0

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: one is out of range.
        """
        self.require_at_least(1, "threads", "crop_size", "repeated_augmentation")
        self.require_at_least(0, "workers", "train_examples", "repeat_threshold")
        self.require(0 < self.repeat_power <= 1, "repeat_power", "above 0, at most 1")
        self.require_one_of(("stop", "skip"), "damaged")


@dataclasses.dataclass
class DataConfig(InputConfig):
    """Segmentation: data sets and the augmentation of training examples.

    `crop_size` is a multiple of the output stride plus one.
    """

    # Random scale: discrete steps, or continuous (uniform in the logarithm) where step is 0.
    scale_range: tuple[float, float] = (0.5, 2.0)
    scale_step: float = 0.25
    # Share of the examples into which what another one shows of a class is pasted, scaled and,
    # with `flip`, flipped at random (arXiv:2012.07177). Class 0, background, never is.
    paste: float = 0.0

    @property
    def mixed(self) -> float:
        return self.paste

    def check(self) -> None:
        super().check()
        self.require(0 <= self.paste <= 1, "paste", "from 0 to 1")
        low, high = self.scale_range
        self.require(
            0 < low <= high < float("inf"), "scale_range", "two increasing numbers above 0"
        )
        self.require_at_least(0, "scale_step")
