"""The mobile head at output stride 16 on PASCAL VOC 2012 (trainaug): the baseline.

Paper: Sandler et al. 2018, Table 7, the row without ASPP (75.32 mIoU from a COCO checkpoint;
from ImageNet alone 70.1 has been published, biyoml/PyTorch-DeepLabV3). Recipe: TensorFlow
DeepLab's, 30,000 steps of 16 crops of 513. Starts from Google's ImageNet weights. Not run here
at full length.

    python -m deeplab_mnv2.train --config experiments/voc_os16.py --workdir runs/voc_os16
    python -m deeplab_mnv2.train --config experiments/voc_os16.py:VOC2012 --workdir runs/voc_os16

With the first command TFDS downloads VOC and SBD; in the second, VOC2012 is a folder in VOC's
layout.
"""

from deeplab_mnv2.config import Config, DataConfig, DataSet, EvaluationConfig, TrainConfig
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.voc import Voc


def get_config(folder: str = "") -> Config:
    def split(name: str) -> DataSet:
        return Folder(root=folder, split=name) if folder else Voc(split=name)

    return Config(
        data=DataConfig(train=split("trainaug"), val=split("val")),
        train=TrainConfig(init_weights="hf://google/mobilenet_v2_1.0_224"),
        # The convention of the published scores: squares of 513, which holds all of VOC's images.
        evaluation=EvaluationConfig(pad_sizes=(513, 1025, 2049)),
    )
