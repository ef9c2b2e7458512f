"""SSDLite on MobileNetV1, which the paper's Table 6 compares: 5.1 M parameters, 1.3 G, 22.2 mAP.

Not run here.

    python -m deeplab_mnv2.train --config experiments/mobilenet_v1_ssdlite.py:COCO
"""

import ssdlite_coco_320
from deeplab_mnv2.config import Config


def get_config(root: str = "COCO") -> Config:
    config = ssdlite_coco_320.get_config(root)
    config.model.version = 1
    return config
