"""voc_small for twice as many steps: how much a longer run improves the score.

The difference is no larger than between seeds: the training loss keeps falling, the score does not
rise.

    python -m deeplab_mnv2.train --config experiments/voc_small_long.py:VOC2012 \
        --workdir runs/voc_small_long --weights tf2_mobilenet_v2_1.0_224_ptq.tflite
    python -m deeplab_mnv2.compare runs/voc_small runs/voc_small_long
"""

import voc_small
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_small.get_config(folder)
    config.train.total_steps = 2000
    return config
