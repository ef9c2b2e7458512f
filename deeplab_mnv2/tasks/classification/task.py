"""Image classification as a task: a MobileNet's classifier, augmented images, top-1."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from deeplab_mnv2.config import (
    ClassificationDataConfig,
    ClassificationEvaluationConfig,
    ClassifierConfig,
    Config,
)
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.tasks.classification.evaluator import ClassificationEvaluator
from deeplab_mnv2.tasks.classification.losses import loss_sums
from deeplab_mnv2.tasks.classification.mixing import mix
from deeplab_mnv2.tasks.classification.transforms import augment, check_example


@dataclasses.dataclass(frozen=True)
class ClassificationTask:
    """`tasks.task.Task` for classification; picklable, because reader processes augment."""

    config: Config
    model: ClassifierConfig
    score: str = "top1"

    @property
    def _data(self) -> ClassificationDataConfig:
        data = self.config.data
        assert isinstance(data, ClassificationDataConfig)  # the config's check has seen to it
        return data

    def network(self, rngs: nnx.Rngs) -> Classifier:
        return Classifier(self.model, rngs=rngs)

    def augment(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return `image` (crop, crop, 3) uint8 and `label`, a scalar int32 array."""
        check_example(example, self.model.num_classes)
        image = augment(example["image"], rng, self._data, self.model.mean_pixel)
        return {"image": image, "label": np.asarray(example["label"], np.int32)}

    def loss(
        self, network: Classifier, batch: Mapping[str, Array], step: Array, rngs: nnx.Rngs
    ) -> tuple[Array, Array]:
        """See `losses.loss_sums`; `batch` as `augment` makes it, (B, ...)."""
        data = self._data
        image = network.normalize(batch["image"])
        target = jax.nn.one_hot(batch["label"], self.model.num_classes, dtype=jnp.float32)
        image, target = mix(
            image,
            target,
            rngs.dropout(),
            mixup=data.mixup,
            cutmix=data.cutmix,
            repeats=data.repeated_augmentation,
        )
        return loss_sums(self.config.loss, network(image, rngs=rngs), target, step)

    def evaluator(self, network: Classifier, mesh: Mesh) -> ClassificationEvaluator:
        evaluation = self.config.evaluation
        assert isinstance(evaluation, ClassificationEvaluationConfig)
        return ClassificationEvaluator(
            network, self._data.val, evaluation, threads=self._data.threads, mesh=mesh
        )
