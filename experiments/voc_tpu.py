"""voc_os16 on a pod slice or an eight-GPU machine: global batch 64, bfloat16.

It sees as many images as 30,000 steps of 16. The learning rate is scaled with the batch and warmed
up for five epochs of trainaug. Not run here.

    python -m deeplab_mnv2.train --config experiments/voc_tpu.py --workdir runs/voc_tpu \
        --distributed
"""

import voc_os16
from deeplab_mnv2.config import Config

FACTOR = 4


def get_config(folder: str = "") -> Config:
    config = voc_os16.get_config(folder)
    config.model.dtype = "bfloat16"
    config.optimizer.learning_rate *= FACTOR
    config.optimizer.warmup_steps = 5 * 10_582 // (16 * FACTOR)
    config.train.batch_size *= FACTOR
    config.train.total_steps //= FACTOR
    config.data.threads = 16
    return config
