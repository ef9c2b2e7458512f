"""First stage for small machines: only the head learns, on the ImageNet features as they are.

A frozen backbone has no backward pass, so a step costs a third of a full one. Crops of 321 show
whole objects because images are scaled down; images of rare classes are repeated.
`experiments/voc_small.py` goes on from here with the whole network.

    python -m deeplab_mnv2.train --config experiments/voc_small_head.py:VOC2012 \
        --workdir runs/voc_small_head --weights tf2_mobilenet_v2_1.0_224_ptq.tflite
    python -m deeplab_mnv2.export --workdir runs/voc_small_head --format safetensors \
        --output runs/voc_small_head.safetensors
"""

from deeplab_mnv2.config import AdamW, Config, OptimizerConfig
from experiments import voc_os16


def get_config(folder: str = "") -> Config:
    config = voc_os16.get_config(folder)
    config.data.crop_size = 321
    config.data.scale_range, config.data.scale_step = (0.45, 1.1), 0.0
    config.data.repeat_threshold = 0.1
    config.model.head_momentum = 0.99
    config.optimizer = OptimizerConfig(
        rule=AdamW(), learning_rate=2e-3, warmup_steps=50, weight_decay=1e-2
    )
    config.train.total_steps, config.train.batch_size = 800, 16
    config.train.freeze = ("backbone",)
    config.train.ema_decay = 0.99
    config.train.eval_every = config.train.checkpoint_every = 200
    return config
