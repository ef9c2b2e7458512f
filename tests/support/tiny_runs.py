"""The smallest real run of each task, for what holds for all of them alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplab_mnv2.config import (
    AdamW,
    ClassificationDataConfig,
    ClassificationEvaluationConfig,
    ClassifierConfig,
    Config,
    CrossEntropy,
    DataConfig,
    DetectionDataConfig,
    DetectionEvaluationConfig,
    EvaluationConfig,
    ModelConfig,
    MultiBox,
    OptimizerConfig,
    SsdLiteConfig,
    TrainConfig,
)
from deeplab_mnv2.data.class_folder import ClassFolder
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.data.shapes_boxes import ShapesBoxes

COLOURS = {"blue": (40, 60, 220), "green": (50, 200, 60), "red": (210, 50, 40)}
_SCENE, _BOXES, _COLOUR = 49, 96, 48


def segmentation(folder: Path, **train: Any) -> Config:
    """Drawn scenes; nothing is written to the folder."""
    return Config(
        data=DataConfig(
            train=Shapes(split="train", length=32, size=_SCENE),
            val=Shapes(split="val", length=10, size=_SCENE),
            crop_size=_SCENE,
            threads=1,
        ),
        model=ModelConfig(width_multiplier=0.35, head_channels=32),
        optimizer=OptimizerConfig(rule=AdamW(), learning_rate=1e-3),
        train=_train(train),
        evaluation=EvaluationConfig(
            batch_size=8, pad_sizes=(_SCENE,), bootstrap_samples=50, pictures=3
        ),
    )


def classification(folder: Path, **train: Any) -> Config:
    """Class folders of noisy pictures in three colours, written to the folder once."""
    root = folder / "colours"
    if not root.exists():
        write_colours(root)
    return Config(
        data=ClassificationDataConfig(
            train=ClassFolder(root=str(root), split="train"),
            val=ClassFolder(root=str(root), split="val"),
            crop_size=_COLOUR,
            area_range=(0.5, 1.0),
            mixup=0.1,
            threads=1,
        ),
        model=ClassifierConfig(num_classes=len(COLOURS), width_multiplier=0.35, output_stride=16),
        optimizer=OptimizerConfig(rule=AdamW(), learning_rate=1e-3),
        loss=CrossEntropy(label_smoothing=0.1),
        train=_train(train),
        evaluation=ClassificationEvaluationConfig(
            batch_size=8, resize=54, crop_size=_COLOUR, bootstrap_samples=50, pictures=6
        ),
    )


def detection(folder: Path, **train: Any) -> Config:
    """Drawn scenes with boxes; nothing is written to the folder."""
    return Config(
        data=DetectionDataConfig(
            train=ShapesBoxes(split="train", length=32, size=_BOXES),
            val=ShapesBoxes(split="val", length=10, size=_BOXES),
            crop_size=_BOXES,
            max_boxes=12,
            threads=1,
        ),
        model=SsdLiteConfig(num_classes=20, width_multiplier=0.35, image_size=_BOXES),
        optimizer=OptimizerConfig(rule=AdamW(), learning_rate=1e-3),
        loss=MultiBox(),
        train=_train(train),
        evaluation=DetectionEvaluationConfig(
            batch_size=8, bootstrap_samples=20, pictures=6, max_detections=20
        ),
    )


def quantized(folder: Path, **train: Any) -> Config:
    """Segmentation in 8 bits, through all phases: floats, moving ranges, frozen ranges."""
    config = segmentation(folder, **train)
    config.model.quantized = True
    config.train.quantize_from = config.train.total_steps // 4
    config.train.freeze_ranges_from = config.train.total_steps // 2 + 1
    return config


TASKS: dict[str, Callable[..., Config]] = {
    "segmentation": segmentation,
    "quantized": quantized,
    "classification": classification,
    "detection": detection,
}


def write_colours(root: Path) -> None:
    """Write class folders: 16 pictures of each colour to train on, 8 to score."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 16), ("val", 8)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for index in range(number):
                noise = rng.integers(-30, 30, (40, 36 + index, 3))
                picture = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(root / split / name / f"{index}.png")


def _train(settings: dict[str, Any]) -> TrainConfig:
    usual = {
        "total_steps": 4,
        "batch_size": 8,
        "log_every": 1,
        "eval_every": 4,
        "checkpoint_every": 2,
    }
    return TrainConfig(**(usual | settings))
