"""The sections of a detection run, and that they fit each other."""

import dataclasses
import json

import pytest

from deeplab_mnv2.config import (
    Config,
    CrossEntropy,
    DataConfig,
    DetectionDataConfig,
    DetectionEvaluationConfig,
    FocalBox,
    Jaccard,
    ModelConfig,
    MultiBox,
    SsdLiteConfig,
    Sum,
    Term,
    TrainConfig,
    model_from_dict,
    to_dict,
)
from deeplab_mnv2.errors import UserError


@dataclasses.dataclass
class Named:
    """A data set of which only the names of the classes are asked."""

    split: str = "train"
    classes: int = 3

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple("abcdefgh"[: self.classes])

    def open(self): ...

    def digest(self) -> str:
        return ""


def detection(**sections) -> Config:
    return Config(
        **{
            "data": DetectionDataConfig(train=Named(), val=Named()),
            "model": SsdLiteConfig(num_classes=3),
            "loss": MultiBox(),
            "evaluation": DetectionEvaluationConfig(),
            **sections,
        }
    )


@pytest.mark.parametrize("loss", [MultiBox(), FocalBox()])
def test_a_run_of_detection_is_accepted(loss):
    train = TrainConfig(freeze=("backbone.stages.0", "head", "extras", "box_heads", "class_heads"))
    detection(loss=loss, train=train).check()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"loss": CrossEntropy()}, r"config\.loss=.*MultiBox\(\.\.\.\) or FocalBox"),
        ({"loss": Sum((Term(Jaccard()),))}, r"config\.loss=.*MultiBox\(\.\.\.\) or FocalBox"),
        ({"loss": MultiBox(negatives=-1.0)}, r"loss\.negatives=-1\.0"),
        ({"model": SsdLiteConfig(num_classes=4)}, "names 3 classes"),
        (
            {"model": SsdLiteConfig(num_classes=3, image_size=320)},
            r"data\.crop_size=300 .* must be model\.image_size=320",
        ),
        ({"data": DataConfig(train=Named(), val=Named())}, r"config\.data=.*DetectionDataConfig"),
        ({"train": TrainConfig(freeze=("aspp",))}, "parts that the model has"),
        ({"train": TrainConfig(freeze=("classifier",))}, "parts that the model has"),
        ({"evaluation": DetectionEvaluationConfig(metric="map")}, r"evaluation\.metric='map'"),
        ({"evaluation": DetectionEvaluationConfig(resize="nearest")}, r"evaluation\.resize="),
        ({"evaluation": DetectionEvaluationConfig(nms_iou=0.0)}, r"evaluation\.nms_iou="),
        ({"evaluation": DetectionEvaluationConfig(score_threshold=1.0)}, "score_threshold"),
        ({"evaluation": DetectionEvaluationConfig(max_detections=0)}, "max_detections"),
    ],
)
def test_what_does_not_fit_is_refused(sections, words):
    with pytest.raises(UserError, match=words):
        detection(**sections).check()


@pytest.mark.parametrize(
    "settings", [{"zoom_out": 1.1}, {"zoom_out": -0.1}, {"max_boxes": 0}, {"crop_size": 0}]
)
def test_data_out_of_range_is_refused(settings):
    (name,) = settings
    with pytest.raises(UserError, match=rf"data\.{name}="):
        detection(data=DetectionDataConfig(train=Named(), val=Named(), **settings)).check()


@pytest.mark.parametrize("loss", [MultiBox(), FocalBox()])
def test_segmentation_refuses_losses_of_detection(config, loss):
    config.loss = loss
    with pytest.raises(UserError, match=r"config\.loss=.*a loss of segmentation"):
        config.check()


@pytest.mark.parametrize("part", ["head", "extras", "box_heads", "class_heads"])
def test_segmentation_has_no_part_of_the_detector(config, part):
    config.train.freeze = (part,)
    with pytest.raises(UserError, match="parts that the model has"):
        config.check()


def test_the_network_is_stored_and_read_as_json():
    config = SsdLiteConfig(num_classes=7, image_size=320, separable=False)
    assert model_from_dict(json.loads(json.dumps(to_dict(config))), SsdLiteConfig) == config
    assert model_from_dict(to_dict(ModelConfig())) == ModelConfig()
