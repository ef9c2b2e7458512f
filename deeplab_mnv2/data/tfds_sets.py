"""Data sets of TensorFlow Datasets by name, read without TensorFlow."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.data.decode import decode_image
from deeplab_mnv2.data.label_files import LabelValues, are_values, checked_classes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import reason


@dataclasses.dataclass
class TfdsClasses(Section):
    """A data set of one class an image: `TfdsClasses("cifar10", split="train[:90%]")`.

    `name` is TFDS's, with a configuration and a version if need be: "imagenette/160px-v2:1.0.0".
    Read from `data_dir` ("" is TFDS's own), or prepared there first, in the format `array_record`.
    `image` and `label` are what TFDS calls the two.
    """

    name: str = ""
    split: str = "train"
    data_dir: str = ""
    image: str = "image"
    label: str = "label"

    @property
    def class_names(self) -> tuple[str, ...]:
        feature = _feature(_builder(self), self.label)
        names = getattr(feature, "names", None)
        if not names:
            raise UserError(f"{self.name} says of {self.label!r} no class names; set label.")
        return tuple(names)

    def open(self) -> "TfdsSource":
        """Prepare the data set where it is not, and open the split.

        Raises:
            UserError: there is no such data set or split, or it cannot be had.
        """
        names = self.class_names
        records = _records(self)
        return TfdsSource(records, f"{self.name} {self.split}", self.image, self.label, len(names))

    def digest(self) -> str:
        return _digest(_builder(self), self.split)


@dataclasses.dataclass
class TfdsMasks(Section):
    """A data set of label maps, such as the trimaps of `TfdsMasks("oxford_iiit_pet", ...)`.

    Of these 1 is the pet, 2 is not and 3 is the border: `values=(2, 1), unlabelled=(3,),
    names=("background", "pet")`. The rest is as in `TfdsClasses`, and in `folder.Folder`.
    """

    name: str = ""
    split: str = "train"
    data_dir: str = ""
    image: str = "image"
    label: str = "segmentation_mask"
    values: tuple[int, ...] = ()
    unlabelled: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        self.require(len(self.names) > 1, "names", "the names of two classes or more")
        return self.names

    def open(self) -> "TfdsSource":
        """Prepare the data set where it is not, and open the split.

        Raises:
            UserError: there is no such data set or split, or it cannot be had.
        """
        number = len(self.class_names)
        self.require(
            len(self.values) in (0, number) and are_values(self.values),
            "values",
            f"{number} different numbers, one for each class, or empty",
        )
        self.require(
            are_values((*(self.values or range(number)), *self.unlabelled)),
            "unlabelled",
            "numbers of no class",
        )
        records = _records(self)
        meaning = LabelValues(number, self.values, self.unlabelled)
        where = f"{self.name} {self.split}"
        return TfdsSource(records, where, self.image, self.label, number, meaning)

    def digest(self) -> str:
        settings = f"{_digest(_builder(self), self.split)} {self.values!r} {self.unlabelled!r}"
        return hashlib.sha256(settings.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """Random access to the examples of one split; `meaning` where labels are maps."""

    records: Sequence[dict[str, Any]]
    where: str
    image: str
    label: str
    num_classes: int
    meaning: LabelValues | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `image` (H, W, 3) uint8, `label`, and `name`, the example's number.

        Raises:
            UserError: an image is damaged, or a label means nothing.
        """
        index = range(len(self))[index]  # an IndexError beyond the end
        record, where = self.records[index], f"{self.where}, example {index},"
        image = decode_image(record[self.image], where)
        if self.meaning is None:
            label: int | np.ndarray = int(record[self.label])
            if not 0 <= label < self.num_classes:
                raise UserError(f"{where} has no label; choose a split that is labelled.")
        else:
            values = np.asarray(record[self.label])
            if values.shape != (*image.shape[:2], 1) or values.dtype.kind != "u":
                raise UserError(
                    f"{where} has a label {values.dtype}{values.shape}, which is no map of numbers "
                    f"of its image {image.shape}; set label."
                )
            label = checked_classes(values[..., 0], self.meaning, where)
        return {"image": image, "label": label, "name": f"{index:07}"}


def _builder(data: TfdsClasses | TfdsMasks) -> tfds.core.DatasetBuilder:
    folder = os.path.expanduser(data.data_dir) or None
    try:
        builder = tfds.builder(data.name, data_dir=folder, file_format="array_record")
        builder.download_and_prepare()  # returns at once where that is done
    # TFDS and the builders raise whatever they like: on names, networks and missing packages.
    except Exception as error:
        raise UserError(
            f"TFDS's {data.name!r} cannot be had in {folder or 'its own folder'} "
            f"({type(error).__name__}: {reason(error)}); check the name, or prepare it there with "
            f"tfds build --file_format=array_record."
        ) from error
    return builder


def _records(data: TfdsClasses | TfdsMasks) -> Sequence[dict[str, Any]]:
    builder = _builder(data)
    for name in (data.image, data.label):
        _feature(builder, name)
    try:
        return builder.as_data_source(
            data.split,  # pyright: ignore[reportCallIssue] - lost in the types of TFDS's decorator
            # Decoded by us, which names what is damaged.
            decoders={data.image: tfds.decode.SkipDecoding()},
        )
    except Exception as error:
        raise UserError(
            f"TFDS's {data.name} cannot be read by number as {data.split!r} ({reason(error)}); "
            f"it has {', '.join(builder.info.splits)}, and must be in the format array_record."
        ) from error


def _feature(builder: tfds.core.DatasetBuilder, name: str) -> Any:
    features: Any = builder.info.features
    if name not in features:
        raise UserError(
            f"TFDS's {builder.name} has no {name!r} but {', '.join(features)}; set image and label."
        )
    return features[name]


def _digest(builder: tfds.core.DatasetBuilder, split: str) -> str:
    # TFDS promises the same examples in the same order for a version.
    identity = f"{builder.info.full_name} {split} {builder.info.splits[split].num_examples}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]
