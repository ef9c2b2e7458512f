"""The first part of the package's weights: the head alone, on a backbone that stays as it is.

As in `voc_head`, from Google's ImageNet weights, whose 8 bits have made a backbone that bears
rounding: one that began as PyTorch's does not (experiments/README.md, 8 bits).

    python -m deeplab_mnv2.train --config experiments/voc_package_head.py:VOC2012 \
        --workdir runs/voc_package_head --weights tf2_mobilenet_v2_1.0_224_ptq.tflite
"""

import voc_balanced
import voc_small
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    return head_alone(voc_balanced.balanced(voc_small.get_config(folder)))


def head_alone(config: Config) -> Config:
    """Return a config of VOC that trains the head alone, in 600 steps."""
    config.train.freeze = ("backbone",)
    config.train.total_steps = config.train.eval_every = 600
    # As photographs of training are, at the median.
    config.evaluation.scales = (0.75,)
    return config
