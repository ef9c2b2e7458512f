"""Figure 6a of the paper on CIFAR-10: a linear bottleneck against ReLU6 after the projection.

This page is the arm with ReLU6; `cifar10_short.py` is the other. Steps, images and augmentation are
the same. Three seeds of each, with what came out of the three ablations
([table](README.md#the-two-ablations)):

    python -m deeplab_mnv2.sweep --config experiments/cifar10_short.py:cifar10.tar --seeds 0,1,2 \
        --grid model.linear_bottleneck=true,false --workdir runs/linear
    python -m deeplab_mnv2.compare runs/linear/*=false-* --against runs/linear/*=true-*
"""

import cifar10_short
from deeplab_mnv2.config import Config


def get_config(root: str = "cifar10.tar") -> Config:
    config = cifar10_short.get_config(root)
    config.model.linear_bottleneck = False
    return config
