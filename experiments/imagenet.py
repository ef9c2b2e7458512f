"""ImageNet with the best recipe that is published whole: torchvision's second, 72.15 % top-1.

600 epochs of 8 x 128 images: 176 x 176 parts of photographs, TrivialAugment, erasing, mixup and
cutmix, label smoothing, averaged weights, each image four times in a row, augmented anew; scored at
224 of 232. Not run here: it takes days on eight GPUs.

    python -m deeplab_mnv2.train --config experiments/imagenet.py:IMAGENET --workdir runs/imagenet

`IMAGENET` is a folder with `train/WNID/NAME` and `val/WNID/NAME`, a tar or a zip of it, or a folder
with ImageNet's own archives (`data.imagenet`). With a `classes.txt` of the 1,000 WordNet ids a part
of ImageNet will do. Published weights are scored by the same page:

    python -m deeplab_mnv2.evaluate --config experiments/imagenet.py:IMAGENET --weights FILE
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
    TrivialAugmentWide,
)
from deeplab_mnv2.data.imagenet import imagenet

# Images of the training split, and of a step.
_IMAGES, _BATCH = 1_281_167, 1024
_EPOCH = _IMAGES // _BATCH


def get_config(root: str = "IMAGENET") -> Config:
    return Config(
        data=ClassificationDataConfig(
            train=imagenet(root, "train"),
            val=imagenet(root, "val"),
            crop_size=176,
            policy=TrivialAugmentWide(),
            erase=0.1,
            mixup=0.2,
            cutmix=1.0,
            repeated_augmentation=4,
            workers=8,
        ),
        model=ClassifierConfig(
            padding="symmetric",
            backbone_epsilon=1e-5,
            backbone_momentum=0.9,
            dropout=0.2,
            image_mean=(123.675, 116.28, 103.53),
            image_std=(58.395, 57.12, 57.375),
        ),
        optimizer=OptimizerConfig(
            rule=Sgd(),
            learning_rate=0.5,
            schedule=Cosine(),
            warmup_steps=5 * _EPOCH,
            weight_decay=2e-5,
        ),
        loss=CrossEntropy(label_smoothing=0.1),
        train=TrainConfig(
            total_steps=600 * _EPOCH,
            batch_size=_BATCH,
            eval_every=10 * _EPOCH,
            checkpoint_every=_EPOCH,
            ema_decay=0.9999,
        ),
        evaluation=ClassificationEvaluationConfig(resize=232),
    )
