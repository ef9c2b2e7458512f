"""The mobile head extended to ASPP, with rates 6, 12, 18.

Paper: Sandler et al. 2018, Table 7 (4.52 M parameters, 75.70 mIoU from a COCO checkpoint).
Not run here.

    python -m deeplab_mnv2.train --config experiments/voc_aspp_os16.py:VOC2012 \
        --workdir runs/voc_aspp_os16
"""

import voc_os16
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_os16.get_config(folder)
    config.model.atrous_rates = (6, 12, 18)
    return config
