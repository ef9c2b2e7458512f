"""The package's weights: after the head (`voc_package_head`) the rest with it, twice three seeds.

The rate was tried on held-out images from another backbone (`voc_head`). Three seeds that begin as
one network lie close together, so that their mean is a network too (arXiv:2203.05482). It is where
three more begin.

    python -m deeplab_mnv2.sweep --config experiments/voc_package.py:VOC2012 --seeds 0,1,2 \
        --weights runs/voc_package_head --workdir runs/voc_package
    python -m experiments.tools.average --output mean.safetensors runs/voc_package/seed*
    python -m deeplab_mnv2.sweep --config experiments/voc_package.py:VOC2012 --seeds 3,4,5 \
        --weights mean.safetensors --workdir runs/voc_package_round2
    python -m experiments.tools.average --output mean2.safetensors runs/voc_package_round2/seed*
    python -m deeplab_mnv2.evaluate --config experiments/voc_package.py:VOC2012 \
        --weights mean2.safetensors --output runs/mean2
    python -m experiments.tools.average --output mean2.safetensors --scores runs/mean2 \
        runs/voc_package_round2/seed*
    python -m deeplab_mnv2.export --weights mean2.safetensors --precision float16 \
        --calibration VOC2012/JPEGImages --output deeplab_mnv2/weights/voc_mobile.safetensors
"""

import voc_package_head
import voc_small
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_package_head.get_config(folder)
    config.train.freeze = voc_small.get_config().train.freeze
    config.optimizer.learning_rate, config.optimizer.head_multiplier = 2e-4, 1.0
    config.train.total_steps = config.train.eval_every = 600
    # Longer sides of 385, which VOC's 500 pixels have at 0.77.
    config.model.long_side = 385
    return config
