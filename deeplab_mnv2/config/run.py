"""A whole run: all its settings together, checked against each other, and stored as JSON."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.config.data import DataConfig
from deeplab_mnv2.config.evaluation import EvaluationConfig
from deeplab_mnv2.config.loss import CrossEntropy, Loss, check_loss
from deeplab_mnv2.config.model import BackboneConfig, DeepLabConfig
from deeplab_mnv2.config.optimizer import OptimizerConfig
from deeplab_mnv2.config.train import TrainConfig
from deeplab_mnv2.errors import UserError


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
