"""Object detection as a task: SSDLite, augmented images with boxes, average precision."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from deeplab_mnv2.config import (
    Config,
    DetectionDataConfig,
    DetectionEvaluationConfig,
    FocalBox,
    MultiBox,
    SsdLiteConfig,
)
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.tasks.detection.anchors import anchors
from deeplab_mnv2.tasks.detection.evaluator import DetectionEvaluator
from deeplab_mnv2.tasks.detection.losses import loss_sums
from deeplab_mnv2.tasks.detection.matching import targets
from deeplab_mnv2.tasks.detection.transforms import augment, check_example


@dataclasses.dataclass(frozen=True)
class DetectionTask:
    """`tasks.task.Task` for detection; picklable, because reader processes augment."""

    config: Config
    model: SsdLiteConfig

    @property
    def score(self) -> str:
        return "ap" if self._evaluation.metric == "coco" else "ap50"

    @property
    def _data(self) -> DetectionDataConfig:
        data = self.config.data
        assert isinstance(data, DetectionDataConfig)  # the config's check has seen to it
        return data

    @property
    def _evaluation(self) -> DetectionEvaluationConfig:
        evaluation = self.config.evaluation
        assert isinstance(evaluation, DetectionEvaluationConfig)
        return evaluation

    def network(self, rngs: nnx.Rngs) -> SSDLite:
        return SSDLite(self.model, rngs=rngs)

    def augment(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return `image` (size, size, 3) uint8 and the arrays of `transforms.pad_boxes`."""
        check_example(example, self.model.num_classes)
        data = self._data
        return augment(
            example,
            rng,
            size=data.crop_size,
            flip=data.flip,
            photometric=data.photometric,
            crop=data.crop,
            zoom_out=data.zoom_out,
            mean_pixel=self.model.mean_pixel,
            max_boxes=data.max_boxes,
        )

    def loss(
        self, network: SSDLite, batch: Mapping[str, Array], step: Array, rngs: nnx.Rngs
    ) -> tuple[Array, Array]:
        """See `losses.loss_sums`; `batch` as `augment` makes it, (B, ...)."""
        loss = self.config.loss
        assert isinstance(loss, MultiBox | FocalBox)
        image = network.normalize(batch["image"])
        codes, logits = network(image)
        wanted = targets(
            batch["boxes"],
            batch["label"],
            batch["ignore"],
            batch["valid"],
            jnp.asarray(anchors(*image.shape[1:3])),
        )
        return loss_sums(loss, codes, logits, wanted)

    def evaluator(self, network: SSDLite, mesh: Mesh) -> DetectionEvaluator:
        return DetectionEvaluator(
            network, self._data.val, self._evaluation, threads=self._data.threads, mesh=mesh
        )
