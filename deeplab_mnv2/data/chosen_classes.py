"""A data set of boxes seen through the classes of a network that knows other ones."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from deeplab_mnv2.config import DataSet, Source
from deeplab_mnv2.config.checks import Section

_OF_OBJECTS = ("boxes", "pixel_boxes", "ignore", "area")


@dataclasses.dataclass
class ChosenClasses(Section):
    """The objects of the classes that are named, in that order; other objects are left out.

    A class that the data set does not have stands for one without objects.
    """

    data_set: DataSet
    classes: tuple[str, ...]
    split: str = ""

    def __post_init__(self) -> None:
        self.split = self.data_set.split

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    def open(self) -> "ChosenClassesSource":
        names = self.data_set.class_names
        places = np.array([self.classes.index(n) if n in self.classes else -1 for n in names])
        return ChosenClassesSource(self.data_set.open(), places)

    def digest(self) -> str:
        text = f"{self.data_set.digest()}\n" + "\n".join(self.classes)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ChosenClassesSource:
    """Examples whose `label` is the place among the chosen classes."""

    source: Source
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = dict(self.source[index])
        label = self.places[example["label"]]
        kept = label >= 0
        example |= {key: example[key][kept] for key in _OF_OBJECTS if key in example}
        return {**example, "label": label[kept]}
