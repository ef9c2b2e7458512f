"""SSD's plain heads on MobileNetV2, the paper's comparison with SSDLite's (Table 5). Not run here.

python -m deeplab_mnv2.train --config experiments/ssd_coco.py:COCO
"""

import ssdlite_coco_320
from deeplab_mnv2.config import Config


def get_config(root: str = "COCO") -> Config:
    config = ssdlite_coco_320.get_config(root)
    config.model.separable = False
    return config
