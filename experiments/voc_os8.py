"""The mobile head at output stride 8: finer features at five times the cost.

Starts from the whole network of a voc_os16 run, not only its backbone, with frozen norm and a
lower learning rate, as in DeepLabv3 (arXiv:1706.05587, Section 4.1) for the test server. Not run
here.

    python -m deeplab_mnv2.export --weights runs/voc_os16 --output runs/voc_os16.safetensors
    python -m deeplab_mnv2.train --config experiments/voc_os8.py:VOC2012 --workdir runs/voc_os8
"""

import voc_os16
from deeplab_mnv2.config import Config


def get_config(folder: str = "") -> Config:
    config = voc_os16.get_config(folder)
    config.model.output_stride = 8
    config.optimizer.learning_rate = 0.001
    config.train.freeze_norm = True
    config.train.init_weights = "runs/voc_os16.safetensors"
    config.train.init_parts = ("backbone", "aspp", "classifier")
    return config
