"""CIFAR-10 with the paper's network at full width, from random weights: for a GPU.

The stem and the second stage keep the resolution of 32 pixels, as in the reference repository
(kuangliu/pytorch-cifar), whose score is 94.43 % after 200 epochs. Not run here: on two CPU cores an
epoch takes more than five minutes.

    python -m deeplab_mnv2.train --config experiments/cifar10_reference.py:cifar10.tar \
        --workdir runs/cifar10_reference
"""

import cifar10
from deeplab_mnv2.config import Config


def get_config(root: str = "cifar10.tar") -> Config:
    config = cifar10.get_config(root)
    config.model.width_multiplier = 1.0
    config.model.early_strides, config.model.output_stride = (1, 1), 8
    config.loss.label_smoothing = 0.0
    config.train.batch_size, config.train.total_steps = 128, 78_200
    config.train.eval_every, config.train.checkpoint_every = 7820, 3910
    config.train.ema_decay = 0.0
    return config
