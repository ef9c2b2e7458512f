"""A data set classified end to end: `eval.json`, each image's five likeliest classes, pictures."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
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
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.sharding import batch_sharding, first_process_first, replicated
from deeplab_mnv2.tasks.classification.metrics import scores
from deeplab_mnv2.tasks.classification.transforms import centre, check_example
from deeplab_mnv2.tasks.scoring_batches import fitting_batch_size, one_batch_late, placing
from deeplab_mnv2.weights.model_weights import weights_digest

# How many of the likeliest classes are kept of each image.
LIKELIEST = 5
# A table of more classes than this shows the worst only.
_ROWS = 40


@dataclasses.dataclass
class ClassifiedPicture:
    """An image that was scored, (crop, crop, 3) uint8, with its classes and why it was chosen."""

    name: str
    image: np.ndarray
    label: str
    classes: list[str]
    probabilities: list[float]
    groups: tuple[str, ...]


@dataclasses.dataclass
class ClassificationEvaluation:
    """What an evaluation found; `result` is the content of `eval.json`.

    `predictions` (N, 5) are the likeliest classes of each image with their `probabilities`.
    """

    result: dict[str, Any]
    names: list[str]
    labels: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    pictures: list[ClassifiedPicture]

    def warnings(self) -> list[str]:
        """Return what makes the scores worth less than they seem, a sentence each."""
        predicted = np.unique(self.predictions[:, 0])
        if len(predicted) > 1 or len(np.unique(self.labels)) < 2:
            return []
        name = list(self.result["accuracy"])[predicted[0]]
        return [
            f"Every image is predicted as {name!r}. That passes in a run's first steps; if it "
            "lasts, check the class folders and the learning rate."
        ]

    def shown(self) -> dict[str, np.ndarray]:
        """Return one of each kind of picture, for TensorBoard."""
        return {group: picture.image for picture in self.pictures for group in picture.groups}

    def summary(self) -> str:
        result = self.result
        low, high = result["ci95"] or (float("nan"),) * 2
        return (
            f"top-1 {100 * result['top1']:.2f} % (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}), top-5 {100 * result['top5']:.2f} % on {result['images']} images"
        )

    def conditions(self) -> str:
        stamp = self.result["protocol"]
        return (
            f"shorter side {stamp['resize'] or 'as it is'}, the middle {stamp['crop_size']} x "
            f"{stamp['crop_size']}, {stamp['interpolation']}"
        )

    def table(self) -> str:
        """Return accuracy by class and its 95 % interval in percent; of many classes the worst."""
        accuracy = {n: value for n, value in self.result["accuracy"].items() if value is not None}
        names = list(accuracy)
        title = "class"
        if len(names) > _ROWS:
            names = sorted(names, key=lambda name: accuracy[name])[:_ROWS]
            title = f"the {_ROWS} worst of {len(accuracy)} classes"
        width = max(len(title), *map(len, names))
        lines = [f"{title:{width}}  {'top-1':>6}  95 % interval"]
        for name in names:
            interval = self.result["accuracy_ci95"][name] or ()
            between = " to ".join(f"{100 * bound:.2f}" for bound in interval) or "-"
            lines.append(f"{name:{width}}  {100 * accuracy[name]:>6.2f}  {between}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `eval.json` and `predictions.npz`: `names`, `labels`, `classes`, `probabilities`.

        Raises:
            UserError: they cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # They belong together: none is replaced before both are written.
            result, predictions = (
                stack.enter_context(replace_atomically(folder / name))
                for name in ("eval.json", "predictions.npz")
            )
            with predictions.open("wb") as file:
                np.savez_compressed(
                    file,
                    names=self.names,
                    labels=self.labels,
                    classes=self.predictions,
                    probabilities=self.probabilities,
                )
            result.write_text(json.dumps(self.result, indent=1) + "\n")


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

        rows: dict[int, tuple[str, int, np.ndarray, np.ndarray]] = {}
        for batch, found in one_batch_late(run, batches):
            classes, shares = jax.device_get(found)
            for row, index in enumerate(batch["index"]):
                rows[index] = batch["name"][row], batch["label"][row], classes[row], shares[row]
            if progress is not None:
                progress(len(batch["index"]))
        ordered = [rows[index] for index in sorted(rows)]
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
    groups: dict[int, tuple[str, ...]] = {}
    for group, indices in (
        ("sure-and-wrong", surest[wrong[surest]][:third]),
        ("unsure-and-right", surest[::-1][~wrong[surest[::-1]]][:third]),
        ("random", np.random.default_rng(0).permutation(len(labels))),
    ):
        for index in indices.tolist():
            if len(groups) >= number:
                break
            groups[index] = (*groups.get(index, ()), group)
    return groups


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
