"""Second stage for small machines: the whole network, from where `voc_small_head.py` stopped.

    python -m deeplab_mnv2.train --config experiments/voc_small.py:VOC2012 \
        --workdir runs/voc_small --weights runs/voc_small_head.safetensors
    python -m deeplab_mnv2.export --workdir runs/voc_small --format safetensors \
        --precision float16 --output runs/voc_small.safetensors
"""

from deeplab_mnv2.config import PARTS, AdamW, Config, OptimizerConfig
from experiments import voc_small_head


def get_config(folder: str = "") -> Config:
    config = voc_small_head.get_config(folder)
    config.model.backbone_momentum = 0.99
    config.optimizer = OptimizerConfig(
        rule=AdamW(), learning_rate=4e-4, warmup_steps=50, weight_decay=1e-2, head_multiplier=2.0
    )
    config.train.init_parts = PARTS
    config.train.freeze = ()
    config.train.total_steps = 900
    config.train.ema_decay = 0.995
    config.train.eval_every, config.train.checkpoint_every = 300, 50
    return config
