"""Semantic segmentation as a task: DeepLab, crops, a loss over labelled pixels, mIoU."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from deeplab_mnv2.config import Config, DataConfig, DeepLabConfig, EvaluationConfig
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.tasks.segmentation.evaluator import SegmentationEvaluator
from deeplab_mnv2.tasks.segmentation.losses import loss_sums
from deeplab_mnv2.tasks.segmentation.pasting import paste
from deeplab_mnv2.tasks.segmentation.transforms import augment, checked_example


@dataclasses.dataclass(frozen=True)
class SegmentationTask:
    """`tasks.task.Task` for segmentation; picklable, because reader processes augment."""

    config: Config
    model: DeepLabConfig
    score: str = "miou"

    def network(self, rngs: nnx.Rngs) -> DeepLab:
        return DeepLab(self.model, rngs=rngs)

    def augment(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return `image` (crop, crop, in_channels) uint8 and `label` (crop, crop) uint8."""
        image, label = checked_example(example, self.model)
        data = self.config.data
        assert isinstance(data, DataConfig)  # the config's check has seen to it
        if "other" in example:
            other = checked_example(example["other"], self.model)
            image, label = paste(image, label, *other, rng, flip=data.flip)
        image, label = augment(image, label, rng, data, self.model.mean_pixel)
        return {"image": image, "label": label}

    def loss(
        self, network: DeepLab, batch: Mapping[str, Array], step: Array, rngs: nnx.Rngs
    ) -> tuple[Array, Array]:
        """See `losses.loss_sums`; `batch` as `augment` makes it, (B, ...)."""
        logits = network.head_logits(network.normalize(batch["image"]), rngs=rngs)
        return loss_sums(
            self.config.loss,
            logits.astype(jnp.float32),
            batch["label"].astype(jnp.int32),
            step,
            align_corners=self.model.align_corners,
        )

    def evaluator(self, network: DeepLab, mesh: Mesh) -> SegmentationEvaluator:
        data, evaluation = self.config.data, self.config.evaluation
        assert isinstance(evaluation, EvaluationConfig)
        return SegmentationEvaluator(network, data.val, evaluation, threads=data.threads, mesh=mesh)
