"""`voc_small` from an ImageNet backbone in float32 with norm statistics of its own.

The file is PyTorch's, whose padding, epsilon and range of pixels the network then has to have.
`voc_small` starts from numbers of 8 bits into which norm is folded.

    python -m deeplab_mnv2.train --config experiments/voc_small_float.py:VOC2012 \
        --workdir runs/voc_small_float --weights mobilenet_v2_imagenet_float.pt
"""

import voc_small
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_small.get_config(folder)
    config.model.padding = "symmetric"
    config.model.backbone_epsilon = 1e-5
    config.model.image_mean = (123.675, 116.28, 103.53)
    config.model.image_std = (58.395, 57.12, 57.375)
    return config
