"""Figure 6 of the paper on VOC: a small network, from random weights, on photographs of 161 pixels.

This page is the paper's network, with linear bottlenecks and shortcuts between them; the other
arms are this command with `--config.model.linear_bottleneck=false`,
`--config.model.shortcut=expansion` or `--config.model.shortcut=none`. From random weights, since
ImageNet's are those of the paper's network, and an arm would be scored for how well it forgets
them. So scores are low, 4 to 6 mIoU after 20 minutes of a core; README.md has all four.

    python -m deeplab_mnv2.train --config experiments/voc_ablation.py:VOC2012 \
        --workdir runs/voc_linear
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
from deeplab_mnv2.data.folder import Folder

_SIDE = 161


def get_config(folder: str = "VOC2012") -> Config:
    return Config(
        data=DataConfig(
            train=Folder(root=folder, split="trainaug", long_side=_SIDE),
            val=Folder(root=folder, split="val", long_side=_SIDE),
            crop_size=129,
            scale_range=(0.75, 1.5),
            scale_step=0.0,
        ),
        model=ModelConfig(
            width_multiplier=0.35,
            head_channels=64,
            backbone_momentum=0.99,
            head_momentum=0.99,
        ),
        optimizer=OptimizerConfig(
            rule=AdamW(), learning_rate=3e-3, warmup_steps=100, weight_decay=1e-2
        ),
        train=TrainConfig(total_steps=2500, ema_decay=0.99, eval_every=2500, checkpoint_every=500),
        evaluation=EvaluationConfig(pad_sizes=(_SIDE,)),
    )
