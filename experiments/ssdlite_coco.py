"""SSDLite on COCO, 300 x 300: the paper's detector (Table 6: 22.1 mAP at 320 on test-dev).

The schedule is that of mmdetection's SSDLite, 600 epochs from random weights (21.3 on val2017),
with TensorFlow's network. `root` has COCO's own layout: `train2017/`, `val2017/` and
`annotations/instances_*.json`. Not trained here; the page also scores published detectors:

    python -m deeplab_mnv2.train --config experiments/ssdlite_coco.py:COCO
    python -m deeplab_mnv2.evaluate --config experiments/ssdlite_coco.py:COCO \
        --weights ssdlite_mobilenet_v2_person_frozen.pb --class_names person
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
from deeplab_mnv2.data.coco import Coco


def get_config(root: str = "COCO") -> Config:
    return Config(
        data=DetectionDataConfig(
            train=Coco(root=root, split="train2017"),
            val=Coco(root=root, split="val2017"),
            photometric=True,
            zoom_out=0.5,
        ),
        model=SsdLiteConfig(),
        optimizer=OptimizerConfig(
            rule=Sgd(), learning_rate=0.015, schedule=Cosine(), warmup_steps=500, weight_decay=4e-5
        ),
        loss=MultiBox(),
        train=TrainConfig(
            total_steps=366_000, batch_size=192, eval_every=12_200, checkpoint_every=3050
        ),
        # TensorFlow 1's resizing, under which its published detectors were trained.
        evaluation=DetectionEvaluationConfig(resize="legacy"),
    )
