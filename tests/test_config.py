"""Settings check their names and types where they are set, and their ranges before a run."""

import dataclasses
import pathlib

import numpy as np
import pytest

from deeplab_mnv2.config import (
    AdamW,
    ClassifierConfig,
    CrossEntropy,
    DataConfig,
    Dice,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    Poly,
    RmsProp,
    Sum,
    Term,
    TrainConfig,
    model_from_dict,
    to_dict,
)
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.errors import UserError


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        (TrainConfig(), "learning_rate", "There is no setting train.learning_rate"),
        (TrainConfig(), "total_step", "did you mean train.total_steps?"),
        (ModelConfig(), "num_clases", "did you mean model.num_classes?"),
        (OptimizerConfig(), "lr", "There is no setting optimizer.lr"),
        (AdamW(), "beta1", "There is no setting optimizer.rule.beta1"),
        (CrossEntropy(), "classweights", "did you mean loss.class_weights?"),
        (Shapes(), "splitt", "split"),
    ],
)
def test_unknown_settings_are_refused_with_the_near_name(section, name, message):
    before = dataclasses.asdict(section)
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        setattr(section, name, 1)
    assert dataclasses.asdict(section) == before


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        (TrainConfig(), "freeze", "backbone"),
        (TrainConfig(), "freeze", ("backbone", 3)),
        (TrainConfig(), "total_steps", 2.5),
        (TrainConfig(), "total_steps", True),
        (TrainConfig(), "freeze_norm", 1),
        (TrainConfig(), "total_steps", None),
        (ModelConfig(), "atrous_rates", (6, 12, "18")),
        (ModelConfig(), "atrous_rates", (6, 12, 18.5)),
        (ModelConfig(), "image_mean", (1.0, 2.0, True)),
        (ModelConfig(), "width_multiplier", "0.5"),
        (EvaluationConfig(), "pad_sizes", (1, [2])),
        (OptimizerConfig(), "rule", "AdamW"),
        (OptimizerConfig(), "rule", AdamW),
        (OptimizerConfig(), "schedule", AdamW()),
    ],
)
def test_values_of_another_type_are_refused(section, name, value):
    with pytest.raises(UserError, match=rf"{name}=.* is of another type than expected"):
        setattr(section, name, value)


def test_values_that_mean_the_same_are_taken():
    model = ModelConfig(atrous_rates=[6, 12], width_multiplier=1, num_classes=np.int64(5))
    assert (model.atrous_rates, model.width_multiplier) == ((6, 12), 1.0)
    assert type(model.width_multiplier) is float
    assert type(model.num_classes) is int
    assert Folder(root=pathlib.Path("data")).root == "data"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optimizer.learning_rate", -1.0),
        ("optimizer.learning_rate", float("nan")),
        ("optimizer.learning_rate", float("inf")),
        ("optimizer.clip_norm", -1.0),
        ("optimizer.warmup_steps", -5),
        ("optimizer.weight_decay", -1.0),
        ("optimizer.head_multiplier", -1.0),
        ("optimizer.rule", AdamW(b1=1.0)),
        ("optimizer.rule", RmsProp(epsilon=0.0)),
        ("optimizer.schedule", Poly(power=-1.0)),
        ("loss.class_weights", (-1.0,) * 21),
        ("loss.class_weights", (0.0,) * 21),
        ("loss.class_weights", (1.0, 2.0)),
        ("loss.top_k", 0.0),
        ("loss", Sum(())),
        ("loss", Sum((Term(Dice(), 0.0),))),
        ("model.atrous_rates", (0,)),
        ("model.backbone_epsilon", -1.0),
        ("model.backbone_momentum", 2.0),
        ("model.num_classes", 255),
        ("data.scale_range", (2.0, 0.5)),
        ("data.paste", 1.5),
        ("data.repeat_power", 0.0),
        ("data.crop_size", 50),
        ("train.ema_decay", 1.0),
        ("train.freeze", ("head",)),
        ("train.freeze", ("decoder",)),
        ("evaluation.pad_sizes", ()),
        ("evaluation.scales", (0.0,)),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(config, path, value):
    config.check()
    *above, name = path.split(".")
    section = config
    for part in above:
        section = getattr(section, part)
    setattr(section, name, value)
    with pytest.raises(UserError, match="is out of range; it must be"):
        config.check()


def test_models_of_older_files_are_read():
    # Until version 0.1 a classifier's file held the segmentation head's settings too.
    stored = to_dict(ModelConfig(num_classes=100, output_stride=32)) | {"type": "ModelConfig"}
    assert model_from_dict(stored) == ModelConfig(num_classes=100, output_stride=32)
    assert model_from_dict(stored, ClassifierConfig) == ClassifierConfig(num_classes=100)
    with pytest.raises(UserError, match="'depth' is not known to this version"):
        model_from_dict({**stored, "depth": 3})
    with pytest.raises(UserError, match=r"padding=3 is of another type.*the file is damaged"):
        model_from_dict({**stored, "padding": 3})


def test_what_json_cannot_hold_is_refused():
    class Plain:
        pass

    with pytest.raises(UserError, match=r"Plain cannot be stored in config\.json: make it a data"):
        to_dict((1, Plain()))


def test_an_own_data_set_is_refused_with_what_it_lacks():
    @dataclasses.dataclass
    class Stripes:
        split: str
        class_names: tuple[str, ...] = ("ground", "stripe")

        def open(self) -> list[dict[str, object]]:
            return []

    with pytest.raises(UserError, match=r"it must be DataSet\(\.\.\.\), and Stripes has no digest"):
        DataConfig(train=Stripes("train"), val=Stripes("val"))
    with pytest.raises(UserError, match=r"not the class itself: write Stripes\(\.\.\.\)"):
        DataConfig(train=Stripes, val=Stripes)
