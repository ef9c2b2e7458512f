"""A data set classified end to end: each image's five likeliest classes, scores, pictures."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from deeplab_mnv2.config import (
    ClassificationEvaluationConfig,
    ClassifierConfig,
    DataSet,
)
from deeplab_mnv2.data.pipeline import evaluation_batches
from deeplab_mnv2.evaluation.protocol import stamped
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.sharding import batch_sharding, first_process_first, replicated
from deeplab_mnv2.tasks.chosen_pictures import chosen_pictures
from deeplab_mnv2.tasks.classification.evaluation import ClassificationEvaluation, ClassifiedPicture
from deeplab_mnv2.tasks.classification.metrics import scores
from deeplab_mnv2.tasks.classification.transforms import centre, check_example
from deeplab_mnv2.tasks.scoring_batches import fitting_batch_size, placing, rows_in_order
from deeplab_mnv2.weights.model_weights import weights_digest

# How many of the likeliest classes are kept of each image.
LIKELIEST = 5


class ClassificationEvaluator:
    """Scores parameters of a classifier on a data set; compiled once.

    A network of TensorFlow's 1,001 ImageNet classes is scored on the 1,000 without its first.

    Raises:
        UserError: the data set cannot be opened or read.
    """

    def __init__(
        self,
        network: Classifier,
        dataset: DataSet,
        config: ClassificationEvaluationConfig,
        *,
        threads: int,
        mesh: Mesh,
    ):
        self._dataset = dataset
        self._source = first_process_first(dataset.open)
        self._config = config
        self._threads = threads
        self._mesh = mesh
        self._model = network.config
        self._class_names = dataset.class_names
        self._offset = network.config.num_classes - len(self._class_names)
        graphdef, _, _ = nnx.split(network, nnx.Param, nnx.BatchStat)
        self._scorer = jax.jit(
            partial(_likeliest, graphdef, self._offset),
            in_shardings=(None, None, batch_sharding(mesh)),
            out_shardings=replicated(mesh),
        )

    def __len__(self) -> int:
        return len(self._source)

    def __call__(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        *,
        pictures: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> ClassificationEvaluation:
        """Return the scores and `pictures` examples; `progress` gets the images done at a time."""
        # Whole on every device, wherever they came from: the digest reads them on each host.
        params, batch_stats = jax.device_put((params, batch_stats), replicated(self._mesh))
        names, labels, predictions, probabilities = self._classify(params, batch_stats, progress)
        result = {
            **scores(
                labels,
                predictions,
                probabilities,
                self._class_names,
                samples=self._config.bootstrap_samples,
            ),
            "images": len(names),
            "compilations": self._scorer._cache_size(),  # pyright: ignore[reportAttributeAccessIssue]
            "protocol": stamped(self._protocol(len(names)), weights_digest(params, batch_stats)),
        }
        chosen = choose(labels, predictions, probabilities, pictures)
        found = [
            self._picture(names[index], index, predictions, probabilities, groups)
            for index, groups in chosen.items()
        ]
        return ClassificationEvaluation(result, names, labels, predictions, probabilities, found)

    def _classify(
        self, params: nnx.State, batch_stats: nnx.State, progress: Callable[[int], None] | None
    ) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        place = placing(self._mesh)
        batches = evaluation_batches(
            self._source,
            _Prepare(self._config, self._model, len(self._class_names)),
            threads=self._threads,
            batch_size=fitting_batch_size(self._config.batch_size, self._mesh),
            fill={},
        )

        def run(batch: dict[str, Any]) -> tuple[Array, Array]:
            return self._scorer(params, batch_stats, place(batch["image"]))

        def row_of(
            batch: dict[str, Any], found: tuple[np.ndarray, np.ndarray], row: int
        ) -> tuple[str, int, np.ndarray, np.ndarray]:
            return batch["name"][row], batch["label"][row], found[0][row], found[1][row]

        ordered = rows_in_order(run, batches, row_of, progress)
        kept = min(LIKELIEST, len(self._class_names))
        shape = (len(ordered), kept)
        predictions = np.array([classes for _, _, classes, _ in ordered], np.int32)
        probabilities = np.array([shares for _, _, _, shares in ordered], np.float32)
        return (
            [row[0] for row in ordered],
            np.array([row[1] for row in ordered], np.int64),
            predictions.reshape(shape),
            probabilities.reshape(shape),
        )

    def _picture(
        self,
        name: str,
        index: int,
        predictions: np.ndarray,
        probabilities: np.ndarray,
        groups: tuple[str, ...],
    ) -> ClassifiedPicture:
        example = self._source[index]
        return ClassifiedPicture(
            name,
            centre(example["image"], self._config, self._model.mean_pixel),
            self._class_names[example["label"]],
            [self._class_names[label] for label in predictions[index]],
            probabilities[index].tolist(),
            groups,
        )

    def _protocol(self, images: int) -> dict[str, Any]:
        config = self._config
        return {
            "data_set": type(self._dataset).__name__,
            "split": self._dataset.split,
            "split_digest": self._dataset.digest(),
            "classes": list(self._class_names),
            "images": images,
            "resize": config.resize,
            "crop_size": config.crop_size,
            "interpolation": f"{config.interpolation}, antialiased",
            "crop": "the middle; what it lacks has the mean colour",
            "label_offset": self._offset,
        }


def choose(
    labels: np.ndarray, predictions: np.ndarray, probabilities: np.ndarray, number: int
) -> dict[int, tuple[str, ...]]:
    """Return indices of the surest mistakes, the least sure hits and random images, a third each.

    With the groups that they belong to. The random ones depend on the number of images alone, so
    runs over a split share them.
    """
    wrong = predictions[:, 0] != labels
    third = number // 3
    surest = np.argsort(-probabilities[:, 0], kind="stable")
    candidates = {
        "sure-and-wrong": surest[wrong[surest]][:third],
        "unsure-and-right": surest[::-1][~wrong[surest[::-1]]][:third],
        "random": np.random.default_rng(0).permutation(len(labels)),
    }
    return chosen_pictures({name: found.tolist() for name, found in candidates.items()}, number)


@dataclasses.dataclass(frozen=True)
class _Prepare:
    """Maps an example to the `image` that is scored, and its `label`; runs on reader threads."""

    config: ClassificationEvaluationConfig
    model: ClassifierConfig
    classes: int

    def __call__(self, example: Mapping[str, Any]) -> dict[str, Any]:
        check_example(example, self.classes)
        image = centre(example["image"], self.config, self.model.mean_pixel)
        return {"image": image, "label": int(example["label"])}


def _likeliest(
    graphdef: nnx.GraphDef, offset: int, params: nnx.State, batch_stats: nnx.State, image: Array
) -> tuple[Array, Array]:
    """Return the likeliest classes (B, 5) of images (B, H, W, 3) uint8, and their probabilities."""
    model = nnx.merge(graphdef, params, batch_stats)
    model.eval()
    probabilities = jax.nn.softmax(model(model.normalize(image))[:, offset:])
    found, classes = jax.lax.top_k(probabilities, min(LIKELIEST, probabilities.shape[-1]))
    return classes, found
