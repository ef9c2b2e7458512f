"""ImageNet on a TPU: the recipe of `imagenet.py` in bfloat16, batches of 4,096. Not run here.

python -m deeplab_mnv2.train --config experiments/imagenet_tpu.py:IMAGENET
"""

import imagenet
from deeplab_mnv2.config import Config

_FACTOR = 4


def get_config(root: str = "IMAGENET") -> Config:
    config = imagenet.get_config(root)
    config.model.dtype = "bfloat16"
    config.optimizer.learning_rate *= _FACTOR
    config.optimizer.warmup_steps //= _FACTOR
    for name in ("total_steps", "eval_every", "checkpoint_every"):
        setattr(config.train, name, getattr(config.train, name) // _FACTOR)
    config.train.batch_size *= _FACTOR
    return config
