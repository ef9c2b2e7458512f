"""The head alone, on a backbone that stays as PyTorch's ImageNet weights made it.

A new head sends large, random gradients into the backbone, which then forgets what few of the 2,677
photographs show (arXiv:2202.10054). On the 250 images held out of trainaug the head alone has 39.1
after 600 steps, without a gradient in the backbone; trained on with everything but the first stages
at a rate of 2e-4 everywhere, 43.8 after 500 more, where `voc_balanced` has 42.3 after 500 in all.
At 0.75 of the size these are 39.8, 45.4 and 45.0. A step costs half of `voc_balanced`'s.

    python -m deeplab_mnv2.train --config experiments/voc_head.py:VOC2012 \
        --workdir runs/voc_head --weights mobilenet_v2_imagenet_float.pt
"""

import voc_balanced
import voc_package_head
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    return voc_package_head.head_alone(voc_balanced.get_config(folder))
