"""Quick start: drawn shapes, from random weights, on any machine.

Nothing is downloaded: the scenes are drawn from (seed, index). A narrow network at output
stride 8, because the scenes are small.

    python -m deeplab_mnv2.train
"""

from deeplab_mnv2.config import (
    AdamW,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from deeplab_mnv2.data.shapes import Shapes


def get_config() -> Config:
    return Config(
        data=DataConfig(
            train=Shapes(split="train"),
            val=Shapes(split="val"),
            crop_size=97,
            scale_range=(1.0, 1.0),
        ),
        model=ModelConfig(
            width_multiplier=0.35,
            output_stride=8,
            backbone_momentum=0.99,
            head_momentum=0.99,
        ),
        optimizer=OptimizerConfig(
            rule=AdamW(b2=0.99), learning_rate=1e-2, warmup_steps=50, weight_decay=1e-3
        ),
        train=TrainConfig(
            total_steps=1000, batch_size=16, eval_every=500, checkpoint_every=200, ema_decay=0.99
        ),
        evaluation=EvaluationConfig(batch_size=8, pad_sizes=(97,)),
    )
