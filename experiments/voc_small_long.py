"""voc_small for three times as many steps: the weights that the package brings.

    python -m deeplab_mnv2.train --config experiments/voc_small_long.py:VOC2012 \
        --workdir runs/voc_small_long --weights tf2_mobilenet_v2_1.0_224_ptq.tflite
"""

from deeplab_mnv2.config import Config
from experiments import voc_small


def get_config(folder: str = "") -> Config:
    config = voc_small.get_config(folder)
    config.train.total_steps = 3000
    return config
