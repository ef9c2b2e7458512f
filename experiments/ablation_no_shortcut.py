"""Figure 6b of the paper on CIFAR-10: no shortcut at all. See `ablation_linear_bottleneck.py`.

python -m deeplab_mnv2.train --config experiments/ablation_no_shortcut.py:cifar10.tar
"""

import cifar10_short
from deeplab_mnv2.config import Config


def get_config(root: str = "cifar10.tar") -> Config:
    config = cifar10_short.get_config(root)
    config.model.shortcut = "none"
    return config
