"""First the head (`voc_head`), then the rest with it: how the package's weights are made.

As in "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution"
(arXiv:2202.10054): a head that fits already leaves the backbone more of what ImageNet taught it.

    python -m deeplab_mnv2.train --config experiments/voc_head_first.py:VOC2012 \
        --workdir runs/voc_head_first --weights runs/voc_head
"""

import voc_balanced
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_balanced.get_config(folder)
    config.optimizer.learning_rate, config.optimizer.head_multiplier = 2e-4, 1.0
    config.train.total_steps = config.train.eval_every = 900
    # Longer sides of 385, which VOC's 500 pixels have at 0.77.
    config.model.long_side = 385
    config.evaluation.scales = (0.75,)
    return config
