"""SSDLite on COCO at the paper's 320 x 320: 4.3 M parameters, 0.8 G multiply-adds. Not run here.

python -m deeplab_mnv2.train --config experiments/ssdlite_coco_320.py:COCO
"""

import ssdlite_coco
from deeplab_mnv2.config import Config


def get_config(root: str = "COCO") -> Config:
    config = ssdlite_coco.get_config(root)
    config.model.image_size = config.data.crop_size = 320
    config.evaluation.resize = "bilinear"
    return config
