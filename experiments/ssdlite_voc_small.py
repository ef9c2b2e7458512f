"""SSDLite on a part of PASCAL VOC, for two CPU cores.

The images are those of `voc_small`: 2,677 of trainaug with their boxes to train on, 443 of val to
score. The stem and the first stages keep their ImageNet weights, as there.

    python -m deeplab_mnv2.train --config experiments/ssdlite_voc_small.py:VOC2012 \
        --workdir runs/ssdlite_voc_small --weights mobilenet_v2_imagenet_float.pt
"""

import ssdlite_voc
from deeplab_mnv2.config import AdamW, Config, Cosine, OptimizerConfig
from deeplab_mnv2.data.voc_boxes import VocBoxes

_LISTS = "ImageSets/Segmentation/{split}.txt"


def get_config(root: str = "VOC2012") -> Config:
    config = ssdlite_voc.get_config(root)
    config.data.train = VocBoxes(root=root, split="trainaug", lists=_LISTS)
    config.data.val = VocBoxes(root=root, split="val", lists=_LISTS)
    config.data.repeat_threshold = 0.1
    # What the weights were trained under: PyTorch's padding and range, its epsilon.
    config.model.padding = "symmetric"
    config.model.backbone_epsilon = 1e-5
    config.model.image_mean = (123.675, 116.28, 103.53)
    config.model.image_std = (58.395, 57.12, 57.375)
    config.optimizer = OptimizerConfig(
        rule=AdamW(),
        learning_rate=3e-4,
        schedule=Cosine(),
        warmup_steps=50,
        weight_decay=1e-2,
        head_multiplier=5.0,
        clip_norm=10.0,
    )
    config.train.total_steps, config.train.batch_size = 3000, 16
    config.train.freeze = ("backbone.stem", *(f"backbone.stages.{stage}" for stage in range(3)))
    config.train.ema_decay = 0.99
    config.train.eval_every, config.train.checkpoint_every = 500, 100
    return config
