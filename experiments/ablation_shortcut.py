"""Figure 6b of the paper on CIFAR-10: shortcuts between bottlenecks, expansions, or none.

This page is the arm with shortcuts between expansions, `ablation_no_shortcut.py` that without any;
`cifar10_short.py` is the one between bottlenecks. Three seeds of each, compared, are in
[README.md](README.md#the-two-ablations).

    python -m deeplab_mnv2.train --config experiments/ablation_shortcut.py:cifar10.tar \
        --workdir runs/expansion_0
"""

import cifar10_short
from deeplab_mnv2.config import Config


def get_config(root: str = "cifar10.tar") -> Config:
    config = cifar10_short.get_config(root)
    config.model.shortcut = "expansion"
    return config
