"""The package's network taught to compute in 8 bits, as `voc_qat` teaches others.

Scored on photographs whose longer side is 385, as the file sees them.

    python -m deeplab_mnv2.train --config experiments/voc_package_qat.py:VOC2012 \
        --workdir runs/voc_package_qat --weights voc_mobile.safetensors
    python -m deeplab_mnv2.export --weights runs/voc_package_qat --precision int8 --format litert \
        --output voc_int8.tflite
"""

import voc_package
from deeplab_mnv2.config import AdamW, Config, OptimizerConfig


def get_config(folder: str = "") -> Config:
    config = voc_package.get_config(folder)
    config.model.quantized = True
    config.optimizer = OptimizerConfig(rule=AdamW(), learning_rate=5e-5, warmup_steps=20)
    config.train.freeze = ()
    config.train.freeze_norm = True
    config.train.freeze_ranges_from = 160
    config.train.total_steps = config.train.eval_every = 240
    if folder:
        # TFDS's copy of VOC is scored at 0.75, which is much the same.
        config.data.val.long_side = 385
        config.evaluation.scales, config.evaluation.pad_sizes = (1.0,), (385,)
    return config
