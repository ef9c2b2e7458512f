"""The package's network, in float32 as `voc_package` leaves it, taught to compute in 8 bits.

What `voc_package` trains is trained, at a tenth of its rate. (The whole network at 5e-5 for 240
steps, its norm frozen, had 52.65 instead of 55.82.) Scored on photographs whose longer side is 385,
as the file sees them.

    python -m deeplab_mnv2.train --config experiments/voc_package_qat.py:VOC2012 \
        --workdir runs/voc_package_qat --weights mean2.safetensors
    python -m deeplab_mnv2.export --weights runs/voc_package_qat --precision int8 --format litert \
        --output voc_int8.tflite
"""

import voc_package
from deeplab_mnv2.config import AdamW, Config, OptimizerConfig


def get_config(folder: str = "") -> Config:
    config = voc_package.get_config(folder)
    config.model.quantized = True
    config.optimizer = OptimizerConfig(rule=AdamW(), learning_rate=2e-5, warmup_steps=20)
    config.train.freeze_ranges_from = 80
    config.train.total_steps = config.train.eval_every = 120
    if folder:
        # TFDS's copy of VOC is scored at 0.75, which is much the same.
        config.data.val.long_side = 385
        config.evaluation.scales, config.evaluation.pad_sizes = (1.0,), (385,)
    return config
