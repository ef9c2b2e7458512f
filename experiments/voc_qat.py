"""Quantisation-aware training: a float32 network of VOC taught to compute in 8 bits.

Kernels and activations are rounded as the int8 file rounds them, in ranges that follow the network
and are frozen for the last third; the exporter writes the file with these ranges. README.md has
the scores, beside those of ranges measured after training.

    python -m deeplab_mnv2.train --config experiments/voc_qat.py:VOC2012 \
        --workdir runs/voc_qat --weights FLOAT.safetensors
    python -m deeplab_mnv2.export --weights runs/voc_qat@best --precision int8 --format litert \
        --output voc_int8.tflite
"""

import voc_small_finetune
from deeplab_mnv2.config import AdamW, Config, OptimizerConfig


def get_config(folder: str = "") -> Config:
    config = voc_small_finetune.get_config(folder)
    config.model.quantized = True
    config.optimizer = OptimizerConfig(rule=AdamW(), learning_rate=5e-5, warmup_steps=20)
    config.train.freeze = ()
    config.train.freeze_ranges_from = 200
    config.train.total_steps, config.train.batch_size = 300, 8
    config.train.ema_decay = 0.0
    config.train.eval_every = 300
    return config
