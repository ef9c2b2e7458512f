"""SSDLite on drawn shapes, from random weights: minutes on two CPU cores, nothing to download.

python -m deeplab_mnv2.train --config experiments/ssdlite_shapes.py
"""

from deeplab_mnv2.config import (
    AdamW,
    Config,
    Cosine,
    DetectionDataConfig,
    DetectionEvaluationConfig,
    MultiBox,
    OptimizerConfig,
    SsdLiteConfig,
    TrainConfig,
)
from deeplab_mnv2.data.shapes_boxes import ShapesBoxes


def get_config() -> Config:
    return Config(
        data=DetectionDataConfig(
            train=ShapesBoxes(split="train"),
            val=ShapesBoxes(split="val"),
            crop_size=160,
            crop=False,
            max_boxes=20,
        ),
        model=SsdLiteConfig(
            num_classes=20,
            width_multiplier=0.35,
            image_size=160,
            backbone_momentum=0.95,
            head_momentum=0.95,
        ),
        optimizer=OptimizerConfig(
            rule=AdamW(b2=0.99),
            learning_rate=3e-3,
            schedule=Cosine(),
            warmup_steps=100,
            weight_decay=1e-3,
            clip_norm=10.0,
        ),
        loss=MultiBox(),
        train=TrainConfig(
            total_steps=1500, batch_size=16, eval_every=500, checkpoint_every=500, ema_decay=0.99
        ),
        evaluation=DetectionEvaluationConfig(metric="voc", nms_iou=0.45, score_threshold=0.01),
    )
