"""Half the width: 0.70 M parameters, 0.87 G multiply-adds at 513.

Channels are rounded as in Google's model (divisible_by 1), whose score from COCO weights is
70.19 mIoU (TensorFlow DeepLab's model zoo). In ImageNet weights of width 0.5 one stage is rounded
to 8, so they do not fit: this starts from random weights unless --weights names others. Not run
here.

    python -m deeplab_mnv2.train --config experiments/voc_dm05_os16.py:VOC2012 \
        --workdir runs/voc_dm05_os16
"""

import voc_os16
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_os16.get_config(folder)
    config.model.width_multiplier = 0.5
    config.model.divisible_by = 1
    config.train.init_weights = ""
    return config
