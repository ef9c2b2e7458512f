"""Everything a run is made of, as typed dataclasses that check themselves.

An experiment (`experiments/*.py`) returns a `Config`; the command line changes single fields
(`--config.train.total_steps=100`). Data sets, losses, update rules and schedules are objects, not
names; the type of `config.model` is the task. The dataclasses are not frozen because command-line
overrides set attributes.
"""

from deeplab_mnv2.config.classification import (
    ClassificationDataConfig,
    ClassificationEvaluationConfig,
    RandAugment,
    TrivialAugmentWide,
)
from deeplab_mnv2.config.data import DataConfig, DataSet, InputConfig, Source
from deeplab_mnv2.config.detection import DetectionDataConfig, DetectionEvaluationConfig
from deeplab_mnv2.config.evaluation import PAD_SIZES, EvaluationConfig, ScoringConfig
from deeplab_mnv2.config.loss import (
    CrossEntropy,
    Dice,
    Focal,
    FocalBox,
    Jaccard,
    Loss,
    LovaszSoftmax,
    MultiBox,
    OwnLoss,
    Sum,
    Term,
)
from deeplab_mnv2.config.model import (
    CONVENTION,
    FREEZABLE,
    IGNORE_LABEL,
    PARTS,
    BackboneConfig,
    ClassifierConfig,
    DeepLabConfig,
    ModelConfig,
    SsdLiteConfig,
    model_from_dict,
)
from deeplab_mnv2.config.optimizer import (
    AdamW,
    Constant,
    Cosine,
    Exponential,
    Lamb,
    Lion,
    OptimizerConfig,
    OwnRule,
    OwnSchedule,
    Poly,
    RmsProp,
    Sgd,
)
from deeplab_mnv2.config.run import Config, to_dict
from deeplab_mnv2.config.train import TrainConfig

__all__ = [
    "CONVENTION",
    "FREEZABLE",
    "IGNORE_LABEL",
    "PAD_SIZES",
    "PARTS",
    "AdamW",
    "BackboneConfig",
    "ClassificationDataConfig",
    "ClassificationEvaluationConfig",
    "ClassifierConfig",
    "Config",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "DataConfig",
    "DataSet",
    "DeepLabConfig",
    "DetectionDataConfig",
    "DetectionEvaluationConfig",
    "Dice",
    "EvaluationConfig",
    "Exponential",
    "Focal",
    "FocalBox",
    "InputConfig",
    "Jaccard",
    "Lamb",
    "Lion",
    "Loss",
    "LovaszSoftmax",
    "ModelConfig",
    "MultiBox",
    "OptimizerConfig",
    "OwnLoss",
    "OwnRule",
    "OwnSchedule",
    "Poly",
    "RandAugment",
    "RmsProp",
    "ScoringConfig",
    "Sgd",
    "Source",
    "SsdLiteConfig",
    "Sum",
    "Term",
    "TrainConfig",
    "TrivialAugmentWide",
    "model_from_dict",
    "to_dict",
]
