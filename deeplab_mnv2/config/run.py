"""A whole run: all its settings together, checked against each other, and stored as JSON."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.config.classification import (
    ClassificationDataConfig,
    ClassificationEvaluationConfig,
)
from deeplab_mnv2.config.data import DataConfig, DataSet, InputConfig
from deeplab_mnv2.config.detection import DetectionDataConfig, DetectionEvaluationConfig
from deeplab_mnv2.config.evaluation import EvaluationConfig, ScoringConfig
from deeplab_mnv2.config.loss import CrossEntropy, FocalBox, Loss, MultiBox, check_loss
from deeplab_mnv2.config.model import BackboneConfig, ClassifierConfig, DeepLabConfig, SsdLiteConfig
from deeplab_mnv2.config.optimizer import OptimizerConfig
from deeplab_mnv2.config.train import TrainConfig
from deeplab_mnv2.errors import UserError

_STAGES_OF_V2 = ("backbone.stages.5", "backbone.stages.6")
# The sections that go with each kind of network.
_SECTIONS: dict[type[BackboneConfig], tuple[type[InputConfig], type[ScoringConfig]]] = {
    DeepLabConfig: (DataConfig, EvaluationConfig),
    ClassifierConfig: (ClassificationDataConfig, ClassificationEvaluationConfig),
    SsdLiteConfig: (DetectionDataConfig, DetectionEvaluationConfig),
}
# The parts of each kind of network that `train.freeze` can name, the backbone's own aside.
_FREEZABLE: dict[type[BackboneConfig], tuple[str, ...]] = {
    DeepLabConfig: ("aspp", "decoder", "classifier"),
    ClassifierConfig: ("head", "classifier"),
    SsdLiteConfig: ("head", "extras", "box_heads", "class_heads"),
}


@dataclasses.dataclass
class Config(Section):
    """A whole run; the type of `model` is the task."""

    SECTION: ClassVar[str] = "config"

    data: InputConfig
    model: BackboneConfig = dataclasses.field(default_factory=DeepLabConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    loss: Loss = dataclasses.field(default_factory=CrossEntropy)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluation: ScoringConfig = dataclasses.field(default_factory=EvaluationConfig)

    def check(self, *, trains: bool = True) -> None:
        """Check every section, and the settings against each other, before anything is built.

        To score only, the training data need not be there (`trains` false).

        Raises:
            UserError: a setting is out of range or does not fit another.
        """
        model, data, train = self.model, self.data, self.train
        self._check_kinds()
        for section in (model, data, self.optimizer, train):
            section.check()
        self.evaluation.check(model.output_stride)
        model.require(
            model.in_channels == 3 or isinstance(model, DeepLabConfig),
            "in_channels",
            "3 for classification and detection, whose images are in colour",
        )
        data.require(
            model.in_channels == 3 or not data.photometric,
            "photometric",
            "False where images are not in colour (model.in_channels is not 3)",
        )
        for name in ("quantize_from", "freeze_ranges_from"):
            step = getattr(train, name)
            train.require(
                step == 0 or (model.quantized and step < train.total_steps),
                name,
                "0, or with model.quantized a step before train.total_steps",
            )
        train.require(
            model.version == 2 or not {*train.freeze} & {*_STAGES_OF_V2, "head"},
            "freeze",
            "parts that the model has, with model.version=1 stages 0 to 4 and no head",
        )
        match model:
            case DeepLabConfig():
                self._check_segmentation(model, trains)
            case ClassifierConfig():
                self._check_classification(model, trains)
            case SsdLiteConfig():
                self._check_detection(model, trains)

    def _check_kinds(self) -> None:
        for kind, sections in _SECTIONS.items():
            if isinstance(self.model, kind):
                for name, wanted in zip(("data", "evaluation"), sections, strict=True):
                    self.require(
                        isinstance(getattr(self, name), wanted),
                        name,
                        f"{wanted.__name__}(...) for a network of {kind.__name__}",
                    )
                parts = {name.partition(".")[0] for name in self.train.freeze}
                self.train.require(
                    parts <= {"backbone", *_FREEZABLE[kind]}, "freeze", "parts that the model has"
                )

    def _check_segmentation(self, model: DeepLabConfig, trains: bool) -> None:
        data, train = self.data, self.train
        self.require(
            not isinstance(self.loss, MultiBox | FocalBox), "loss", "a loss of segmentation"
        )
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
        for split in (data.train, data.val) if trains else (data.val,):
            self._check_classes(split, model.num_classes)

    def _check_classification(self, model: ClassifierConfig, trains: bool) -> None:
        loss = self.loss
        if isinstance(loss, CrossEntropy):
            check_loss(loss, model.num_classes)
            loss.require(loss.top_k == 1, "top_k", "1.0 for classification")
        else:
            self.require(
                hasattr(loss, "sums"), "loss", "CrossEntropy(...) or your own, for classification"
            )
        if trains:
            self._check_classes(self.data.train, model.num_classes)
        # TensorFlow's ImageNet networks have a background class in front of the 1,000.
        if trains or (len(self.data.val.class_names), model.num_classes) != (1000, 1001):
            self._check_classes(self.data.val, model.num_classes)

    def _check_detection(self, model: SsdLiteConfig, trains: bool) -> None:
        data = self.data
        self.require(
            isinstance(self.loss, MultiBox | FocalBox),
            "loss",
            "MultiBox(...) or FocalBox(...) for detection",
        )
        check_loss(self.loss, model.num_classes)
        data.require(
            data.crop_size == model.image_size,
            "crop_size",
            f"model.image_size={model.image_size}",
        )
        if trains:
            self._check_classes(data.train, model.num_classes)
            self._check_classes(data.val, model.num_classes)

    def _check_classes(self, data_set: DataSet, num_classes: int) -> None:
        if (classes := len(data_set.class_names)) != num_classes:
            raise UserError(
                f"model.num_classes={num_classes} but the data set names {classes} classes; set "
                "model.num_classes to that number."
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
