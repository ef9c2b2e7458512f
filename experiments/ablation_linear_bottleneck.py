"""Figure 6a of the paper on CIFAR-10: a linear bottleneck against ReLU6 after the projection.

This page is the arm with ReLU6; `cifar10_short.py` is the other. Steps, images and augmentation are
the same. Three seeds of each, compared:

    for seed in 0 1 2; do
      python -m deeplab_mnv2.train --config experiments/cifar10_short.py:cifar10.tar \
          --workdir runs/linear_$seed --config.train.seed=$seed
      python -m deeplab_mnv2.train --config experiments/ablation_linear_bottleneck.py:cifar10.tar \
          --workdir runs/relu6_$seed --config.train.seed=$seed
    done
    python -m deeplab_mnv2.compare runs/relu6_* --against runs/linear_*
"""

import cifar10_short
from deeplab_mnv2.config import Config


def get_config(root: str = "cifar10.tar") -> Config:
    config = cifar10_short.get_config(root)
    config.model.linear_bottleneck = False
    return config
