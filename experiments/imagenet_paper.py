"""ImageNet as the paper trains (Section 6.1): RMSProp, 0.045 falling by 2 % an epoch. 72.0 % there.

Batches of 96 images a GPU on 16 GPUs; the paper does not say how often the rate falls, TF-slim's
schedule does. Not run here. Other widths: `--config.model.width_multiplier=1.4`, 0.75, 0.5, 0.35.

    python -m deeplab_mnv2.train --config experiments/imagenet_paper.py:IMAGENET
"""

import imagenet
from deeplab_mnv2.config import (
    ClassificationEvaluationConfig,
    ClassifierConfig,
    Config,
    CrossEntropy,
    Exponential,
    OptimizerConfig,
    RmsProp,
)

_BATCH = 16 * 96
_EPOCH = 1_281_167 // _BATCH


def get_config(root: str = "IMAGENET") -> Config:
    config = imagenet.get_config(root)
    data = config.data
    data.crop_size, data.policy, data.photometric = 224, None, True
    data.erase = data.mixup = data.cutmix = 0.0
    # TensorFlow's padding, range and epsilon.
    config.model = ClassifierConfig(dropout=0.2)
    config.optimizer = OptimizerConfig(
        rule=RmsProp(),
        learning_rate=0.045,
        schedule=Exponential(rate=0.98, every=_EPOCH),
        weight_decay=4e-5,
    )
    config.loss = CrossEntropy()
    config.train.batch_size, config.train.total_steps = _BATCH, 300 * _EPOCH
    config.train.eval_every, config.train.checkpoint_every = 10 * _EPOCH, _EPOCH
    config.evaluation = ClassificationEvaluationConfig()
    return config
