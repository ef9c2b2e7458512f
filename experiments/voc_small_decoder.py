"""voc_small with the decoder of DeepLabv3+: how much features at stride 4 improve the score.

After 1,000 steps the score is lower: the decoder starts from random weights, and the learning rates
were chosen for the mobile head.

    python -m deeplab_mnv2.train --config experiments/voc_small_decoder.py:VOC2012 \
        --workdir runs/voc_small_decoder --weights tf2_mobilenet_v2_1.0_224_ptq.tflite
    python -m deeplab_mnv2.compare runs/voc_small runs/voc_small_decoder
"""

import voc_small
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_small.get_config(folder)
    config.model.decoder = True
    return config
