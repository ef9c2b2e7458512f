"""The head alone, on a backbone that stays as ImageNet made it; `voc_head_first` goes on from here.

A new head sends large, random gradients into the backbone, which then forgets what few of the 2,677
photographs show. On the 250 images held out of trainaug it has 39.1 after 600 steps, 39.8 at 0.75
of the size, of which no gradient has entered the backbone. A step costs half of `voc_balanced`'s.

    python -m deeplab_mnv2.train --config experiments/voc_head.py:VOC2012 \
        --workdir runs/voc_head --weights mobilenet_v2_imagenet_float.pt
"""

import voc_balanced
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_balanced.get_config(folder)
    config.train.freeze = ("backbone",)
    config.train.total_steps = config.train.eval_every = 600
    # As photographs of training are, at the median.
    config.evaluation.scales = (0.75,)
    return config
