"""A data set scored end to end: `eval.json`, per-image counts and the pictures of the report."""

import dataclasses
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from deeplab_mnv2.config import DataSet, EvaluationConfig
from deeplab_mnv2.data.pipeline import Chosen, evaluation_batches
from deeplab_mnv2.evaluation.bootstrap import score_intervals
from deeplab_mnv2.evaluation.metrics import scores
from deeplab_mnv2.evaluation.objects import object_size_scores
from deeplab_mnv2.evaluation.pictures import Picture, choose, save
from deeplab_mnv2.evaluation.protocol import protocol
from deeplab_mnv2.evaluation.reliability import calibration
from deeplab_mnv2.evaluation.scoring import Counts, count, make_scorer, weights_digest
from deeplab_mnv2.models.deeplab import DeepLab, at_output_stride
from deeplab_mnv2.sharding import batch_sharding, first_process_first, replicated
from deeplab_mnv2.writing import whole


@dataclasses.dataclass
class Evaluation:
    """What an evaluation found; `result` is the content of `eval.json`.

    That is `metrics.scores`, intervals `ci95` and by class `iou_ci95`, `images`, `boundary_miou`
    by width in pixels, `object_size` (`object_size_scores`), `calibration`, the `confusion`
    matrix, `compilations` and the `protocol`.
    """

    result: dict[str, Any]
    counts: Counts
    pictures: list[Picture]


class Evaluator:
    """Scores parameters of a model on a data set; compiled once, whatever the number of calls.

    At the output stride of `config`, which may be another than the model's.

    Raises:
        UserError: the data set cannot be opened or read.
    """

    def __init__(
        self,
        model: DeepLab,
        dataset: DataSet,
        config: EvaluationConfig,
        *,
        threads: int,
        mesh: Mesh,
    ):
        self._dataset = dataset
        self._source = first_process_first(dataset.open)
        self._config = config
        self._threads = threads
        self._mesh = mesh
        if config.output_stride:
            model = at_output_stride(model, config.output_stride)
        self._model_config = model.config
        graphdef, _, _ = nnx.split(model, nnx.Param, nnx.BatchStat)
        self._scorer = make_scorer(graphdef, config, model.config.num_classes, mesh)

    def __len__(self) -> int:
        return len(self._source)

    def __call__(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        *,
        pictures: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Evaluation:
        """Return the scores and `pictures` examples; `progress` gets the images done at a time."""

        def seen(batch: dict[str, Any], _: Any) -> None:
            if progress is not None:
                progress(len(batch["index"]))

        # Whole on every device, wherever they came from: the digest reads them on each host.
        params, batch_stats = jax.device_put((params, batch_stats), replicated(self._mesh))
        counts = self._count(params, batch_stats, self._source, seen)
        result = self._result(counts, params, batch_stats)
        chosen = choose(counts.confusions, pictures)
        return Evaluation(result, counts, self._pictures(params, batch_stats, counts, chosen))

    def _count(self, params: Any, batch_stats: Any, source: Any, seen: Any) -> Counts:
        parts = self._mesh.size // self._mesh.shape["space"]
        batch_size = -(-self._config.batch_size // parts) * parts
        sharding = batch_sharding(self._mesh)

        def place(array: np.ndarray) -> jax.Array:
            # Every host reads every image and hands over its devices' share of the batch, so
            # that each image counts once however many hosts there are.
            return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

        batches = evaluation_batches(
            source,
            self._config,
            self._model_config,
            threads=self._threads,
            batch_size=batch_size,
        )
        return count(
            self._scorer,
            params,
            batch_stats,
            batches,
            num_classes=self._model_config.num_classes,
            place=place,
            seen=seen,
        )

    def _result(self, counts: Counts, params: Any, batch_stats: Any) -> dict[str, Any]:
        names = self._dataset.class_names
        total = counts.confusions.sum(axis=0)
        intervals = score_intervals(counts.confusions, samples=self._config.bootstrap_samples)
        return {
            **scores(total, names),
            "ci95": intervals.miou and list(intervals.miou),
            "iou_ci95": {n: i and list(i) for n, i in zip(names, intervals.iou, strict=True)},
            "images": len(counts.names),
            "boundary_miou": {
                str(width): scores(matrix, names)["miou"]
                for width, matrix in zip(self._config.boundary_widths, counts.bands, strict=True)
            },
            "object_size": object_size_scores(
                counts.confusions, counts.sizes, counts.objects, names
            ),
            "calibration": calibration(counts.confidences),
            "compilations": counts.compilations,
            "confusion": total.tolist(),
            "protocol": protocol(
                self._dataset,
                self._config,
                self._model_config,
                images=len(counts.names),
                weights_digest=weights_digest(params, batch_stats),
            ),
        }

    def _pictures(
        self, params: Any, batch_stats: Any, counts: Counts, chosen: dict[int, tuple[str, ...]]
    ) -> list[Picture]:
        pictures: list[Picture] = []
        indices = list(chosen)

        def seen(batch: dict[str, Any], prediction: Any) -> None:
            for row, position in enumerate(batch["index"]):
                height, width = batch["size"][row]
                index = indices[position]
                pictures.append(
                    Picture(
                        batch["name"][row],
                        batch["image"][row, :height, :width],
                        batch["label"][row, :height, :width],
                        np.asarray(prediction)[row, :height, :width],
                        counts.confusions[index],
                        chosen[index],
                    )
                )

        if chosen:
            self._count(params, batch_stats, Chosen(self._source, np.array(indices)), seen)
        return sorted(pictures, key=lambda picture: picture.miou)


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write `eval.json`, `pictures.zip` (`pictures.save`) and `confusions.npz`.

    The last holds `names` and per-image `confusions` (N, C, C), which comparisons resample.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / name for name in ("eval.json", "confusions.npz", "pictures.zip"))
    with ExitStack() as stack:
        # They belong together: none takes its place before all are written.
        result, counts, pictures = (stack.enter_context(whole(path)) for path in paths)
        save(evaluation.pictures, pictures)
        with counts.open("wb") as file:
            np.savez_compressed(
                file, names=evaluation.counts.names, confusions=evaluation.counts.confusions
            )
        result.write_text(json.dumps(evaluation.result, indent=1) + "\n")
