"""voc_small with separable ASPP at rates 6, 12, 18: how much the larger head improves the score.

    python -m deeplab_mnv2.train --config experiments/voc_small_aspp.py:VOC2012 \
        --workdir runs/voc_small_aspp --weights tf2_mobilenet_v2_1.0_224_ptq.tflite
    python -m deeplab_mnv2.compare runs/voc_small runs/voc_small_aspp
"""

import voc_small
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_small.get_config(folder)
    config.model.atrous_rates = (6, 12, 18)
    config.model.separable_aspp = True
    return config
