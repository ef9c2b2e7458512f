"""SSDLite on PASCAL VOC 2007 and 2012: the usual recipe, for a GPU. Published: 68.6 to 68.9 AP50.

qfgaohao/pytorch-ssd has 68.6 with 200 epochs from ImageNet's weights, lufficc/SSD 68.9. Both train
on 07+12 trainval and score on 07 test; `root` is a folder in VOC's layout that holds both years'
images, annotations and lists. Not run here.

    python -m deeplab_mnv2.train --config experiments/ssdlite_voc.py:VOC0712 --weights FILE
"""

from deeplab_mnv2.config import (
    Config,
    Cosine,
    DetectionDataConfig,
    DetectionEvaluationConfig,
    MultiBox,
    OptimizerConfig,
    Sgd,
    SsdLiteConfig,
    TrainConfig,
)
from deeplab_mnv2.data.voc_boxes import VocBoxes


def get_config(root: str = "VOC0712") -> Config:
    return Config(
        data=DetectionDataConfig(
            train=VocBoxes(root=root, split="trainval"),
            val=VocBoxes(root=root, split="test"),
            photometric=True,
            zoom_out=0.5,
        ),
        model=SsdLiteConfig(num_classes=20),
        optimizer=OptimizerConfig(
            rule=Sgd(), learning_rate=0.01, schedule=Cosine(), warmup_steps=500, weight_decay=5e-4
        ),
        loss=MultiBox(),
        train=TrainConfig(
            total_steps=103_000, batch_size=32, eval_every=5000, checkpoint_every=1000
        ),
        evaluation=DetectionEvaluationConfig(metric="voc", nms_iou=0.45, score_threshold=0.01),
    )
