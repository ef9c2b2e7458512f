"""CIFAR-10 from random weights, on one CPU core: half the paper's width, 58 epochs.

Images have 32 pixels, so the stem keeps their resolution and the last stages that of 4 x 4.
`cifar10_reference.py` is the full network, for a GPU. Stride, rate and decay were compared on
`train[:90%]` and `train[90%:]`, short runs of one seed:

    output stride    rate    decay     steps    top-1 of train[90%:]
    16               0.1     0.0001    4000     57.4
    8                0.1     0.0005    4000     69.7
    8                0.4     0.0005    2500     59.2

On test, one seed each:

    strides of stem and stage 2    output stride    epochs    top-1
    1, 2 (this page)               8                58        85.1
    1, 2                           16               24        81.6
    1, 1, decay 0.0002             8                12        81.4

    python -m deeplab_mnv2.train --config experiments/cifar10.py:cifar10.tar --workdir runs/cifar10

`cifar10.tar`, a zip or a folder holds `train/CLASS/NAME` and `test/CLASS/NAME`.
"""

from deeplab_mnv2.config import (
    ClassificationDataConfig,
    ClassificationEvaluationConfig,
    ClassifierConfig,
    Config,
    Cosine,
    CrossEntropy,
    OptimizerConfig,
    Sgd,
    TrainConfig,
)
from deeplab_mnv2.data.class_folder import ClassFolder

# Of the 50,000 training images.
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


def get_config(root: str = "cifar10.tar") -> Config:
    return Config(
        data=ClassificationDataConfig(
            train=ClassFolder(root=root, split="train"),
            val=ClassFolder(root=root, split="test"),
            crop_size=32,
            padding=4,
        ),
        model=ClassifierConfig(
            num_classes=10,
            width_multiplier=0.5,
            early_strides=(1, 2),
            output_stride=8,
            image_mean=MEAN,
            image_std=STD,
            backbone_momentum=0.9,
            dropout=0.0,
        ),
        optimizer=OptimizerConfig(
            rule=Sgd(), learning_rate=0.1, schedule=Cosine(), warmup_steps=500, weight_decay=5e-4
        ),
        loss=CrossEntropy(label_smoothing=0.1),
        train=TrainConfig(
            total_steps=45_000,
            batch_size=64,
            log_every=50,
            eval_every=9000,
            checkpoint_every=1500,
            ema_decay=0.999,
        ),
        evaluation=ClassificationEvaluationConfig(batch_size=200, resize=0, crop_size=32),
    )
