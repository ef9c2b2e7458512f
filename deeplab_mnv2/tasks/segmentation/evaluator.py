"""A data set segmented end to end: per-image counts, scores, pictures."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from deeplab_mnv2.config import DataSet, EvaluationConfig
from deeplab_mnv2.data.bands import in_colour
from deeplab_mnv2.data.pipeline import Chosen, evaluation_batches
from deeplab_mnv2.evaluation.calibration import calibration
from deeplab_mnv2.evaluation.protocol import stamped
from deeplab_mnv2.models.deeplab import DeepLab, at_output_stride
from deeplab_mnv2.sharding import first_process_first, replicated
from deeplab_mnv2.tasks.scoring_batches import fitting_batch_size, placing
from deeplab_mnv2.tasks.segmentation.counting import Counts, Predict, count, make_scorer
from deeplab_mnv2.tasks.segmentation.evaluation import SegmentationEvaluation
from deeplab_mnv2.tasks.segmentation.intervals import score_intervals
from deeplab_mnv2.tasks.segmentation.metrics import scores
from deeplab_mnv2.tasks.segmentation.object_sizes import object_size_scores
from deeplab_mnv2.tasks.segmentation.padding import FILL, PrepareForScoring
from deeplab_mnv2.tasks.segmentation.pictures import Picture, choose
from deeplab_mnv2.tasks.segmentation.protocol import protocol
from deeplab_mnv2.weights.model_weights import weights_digest


class SegmentationEvaluator:
    """Scores parameters of a model on a data set; compiled once, whatever the number of calls.

    At the output stride of `config`, which may be another than the model's. `scorer` is what
    predicts and counts in the model's place, as `make_scorer` describes it.

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
        scorer: Predict | None = None,
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
        self._scorer = scorer or make_scorer(graphdef, config, model.config.num_classes, mesh)

    def __len__(self) -> int:
        return len(self._source)

    def __call__(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        *,
        pictures: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> SegmentationEvaluation:
        """Return the scores and `pictures` examples; `progress` gets the images done at a time."""

        def seen(batch: dict[str, Any], _: jax.Array) -> None:
            if progress is not None:
                progress(len(batch["index"]))

        # Whole on every device, wherever they came from: the digest reads them on each host.
        params, batch_stats = jax.device_put((params, batch_stats), replicated(self._mesh))
        counts = self._count(params, batch_stats, self._source, seen)
        stamp = protocol(self._dataset, self._config, self._model_config, counts.extents)
        result = results(
            counts,
            self._dataset.class_names,
            self._config,
            stamped(stamp, weights_digest(params, batch_stats)),
        )
        chosen = choose(counts.confusions, pictures)
        return SegmentationEvaluation(
            result, counts, self._pictures(params, batch_stats, counts, chosen)
        )

    def _count(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        source: Any,
        seen: Callable[[dict[str, Any], jax.Array], None],
    ) -> Counts:
        batches = evaluation_batches(
            source,
            PrepareForScoring(self._config, self._model_config),
            threads=self._threads,
            batch_size=fitting_batch_size(self._config.batch_size, self._mesh),
            fill=FILL,
        )
        return count(
            self._scorer,
            params,
            batch_stats,
            batches,
            num_classes=self._model_config.num_classes,
            place=placing(self._mesh),
            seen=seen,
        )

    def _pictures(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        counts: Counts,
        chosen: dict[int, tuple[str, ...]],
    ) -> list[Picture]:
        """Run the network once more over the chosen images: keeping all would fill the memory."""
        pictures: list[Picture] = []
        indices = list(chosen)

        def seen(batch: dict[str, Any], prediction: jax.Array) -> None:
            for row, position in enumerate(batch["index"]):
                height, width = batch["size"][row]
                index = indices[position]
                pictures.append(
                    Picture(
                        batch["name"][row],
                        in_colour(batch["image"][row, :height, :width]),
                        batch["label"][row, :height, :width],
                        np.asarray(prediction)[row, :height, :width],
                        counts.confusions[index],
                        chosen[index],
                    )
                )

        if chosen:
            self._count(params, batch_stats, Chosen(self._source, np.array(indices)), seen)
        return sorted(pictures, key=lambda picture: picture.miou)


def results(
    counts: Counts, class_names: Sequence[str], config: EvaluationConfig, stamp: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of `eval.json`.

    That is `metrics.scores`, intervals `ci95` and by class `iou_ci95`, `images`, `boundary_miou`
    by width in pixels, `object_size` (`object_size_scores`), `calibration`, the `confusion`
    matrix, `compilations` and the stamp as `protocol`.
    """
    total = counts.confusions.sum(axis=0)
    miou, *iou = score_intervals(counts.confusions, samples=config.bootstrap_samples)
    return {
        **scores(total, class_names),
        "ci95": miou and list(miou),
        "iou_ci95": {n: i and list(i) for n, i in zip(class_names, iou, strict=True)},
        "images": len(counts.names),
        "boundary_miou": {
            str(width): scores(matrix, class_names)["miou"]
            for width, matrix in zip(config.boundary_widths, counts.bands, strict=True)
        },
        "object_size": object_size_scores(
            counts.confusions, counts.sizes, counts.objects, class_names
        ),
        "calibration": calibration(counts.confidences),
        "compilations": counts.compilations,
        "confusion": total.tolist(),
        "protocol": stamp,
    }
