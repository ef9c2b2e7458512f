"""CIFAR-10 for comparisons of settings: a third of the width of `cifar10.py`, 8 epochs.

python -m deeplab_mnv2.train --config experiments/cifar10_short.py:cifar10.tar
"""

import cifar10
from deeplab_mnv2.config import Config


def get_config(root: str = "cifar10.tar") -> Config:
    config = cifar10.get_config(root)
    config.model.width_multiplier, config.model.output_stride = 0.35, 16
    config.train.total_steps = config.train.eval_every = 6000
    config.optimizer.warmup_steps = 200
    return config
