"""DeepLabv3+ on MobileNetV2: separable ASPP and the decoder at stride 4.

Paper: Chen et al. 2018 (arXiv:1802.02611); 71.1 mIoU from ImageNet weights is published by
VainF/DeepLabV3Plus-Pytorch under another protocol. Not run here.

    python -m deeplab_mnv2.train --config experiments/voc_decoder_os16.py:VOC2012 \
        --workdir runs/voc_decoder_os16
"""

import voc_os16
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_os16.get_config(folder)
    config.model.atrous_rates = (6, 12, 18)
    config.model.separable_aspp = True
    config.model.decoder = True
    return config
