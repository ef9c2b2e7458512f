"""A data set searched end to end: what was found in each image, scores, pictures."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from deeplab_mnv2.config import DataSet, DetectionEvaluationConfig, SsdLiteConfig
from deeplab_mnv2.data.boxes import Objects, objects_of
from deeplab_mnv2.data.pipeline import evaluation_batches
from deeplab_mnv2.evaluation.protocol import stamped
from deeplab_mnv2.evaluation.ratios import mean_present
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.sharding import batch_sharding, first_process_first, replicated
from deeplab_mnv2.tasks.chosen_pictures import chosen_pictures
from deeplab_mnv2.tasks.detection.decoding import Detected, find
from deeplab_mnv2.tasks.detection.evaluation import DetectedPicture, DetectionEvaluation
from deeplab_mnv2.tasks.detection.matches import Detections, match_voc
from deeplab_mnv2.tasks.detection.scores import detection_scores
from deeplab_mnv2.tasks.detection.transforms import check_example, resize, resize_legacy
from deeplab_mnv2.tasks.detection.voc_precision import voc_precisions
from deeplab_mnv2.tasks.scoring_batches import fitting_batch_size, placing, rows_in_order
from deeplab_mnv2.weights.model_weights import weights_digest


class DetectionEvaluator:
    """Scores parameters of a detector on a data set; compiled once.

    Raises:
        UserError: the data set cannot be opened or read.
    """

    def __init__(
        self,
        network: SSDLite,
        dataset: DataSet,
        config: DetectionEvaluationConfig,
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
        graphdef, _, _ = nnx.split(network, nnx.Param, nnx.BatchStat)
        self._finder = jax.jit(
            partial(_find, graphdef, config),
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
    ) -> DetectionEvaluation:
        """Return the scores and `pictures` examples; `progress` gets the images done at a time."""
        # Whole on every device, wherever they came from: the digest reads them on each host.
        params, batch_stats = jax.device_put((params, batch_stats), replicated(self._mesh))
        names, objects, detections = self._search(params, batch_stats, progress)
        config = self._config
        result = {
            **detection_scores(
                detections,
                objects,
                self._class_names,
                config.metric,
                samples=config.bootstrap_samples,
            ),
            "images": len(names),
            "compilations": self._finder._cache_size(),  # pyright: ignore[reportAttributeAccessIssue]
            "protocol": stamped(self._protocol(len(names)), weights_digest(params, batch_stats)),
        }
        own = [_own_ap50(d, o) for d, o in zip(detections, objects, strict=True)]
        shown = [
            DetectedPicture(
                names[index],
                self._source[index]["image"],
                objects[index],
                detections[index],
                own[index],
                groups,
            )
            for index, groups in choose(np.array(own), pictures).items()
        ]
        return DetectionEvaluation(result, names, objects, detections, shown)

    def _search(
        self, params: nnx.State, batch_stats: nnx.State, progress: Callable[[int], None] | None
    ) -> tuple[list[str], list[Objects], list[Detections]]:
        place = placing(self._mesh)
        batches = evaluation_batches(
            self._source,
            _Prepare(self._config, self._model, len(self._class_names)),
            threads=self._threads,
            batch_size=fitting_batch_size(self._config.batch_size, self._mesh),
            fill={},
        )

        def run(batch: dict[str, Any]) -> Detected:
            return self._finder(params, batch_stats, place(batch["image"]))

        def row_of(batch: dict[str, Any], found: Any, row: int) -> tuple[str, Objects, Detections]:
            kept = slice(int(found.counts[row]))
            # To pixels of the original image, in which objects are given.
            boxes = found.boxes[row, kept] * np.array(batch["size"][row] * 2, float)
            detections = Detections(boxes, found.scores[row, kept], found.classes[row, kept])
            return batch["name"][row], batch["objects"][row], detections

        ordered = rows_in_order(run, batches, row_of, progress)
        return (
            [name for name, _, _ in ordered],
            [objects for _, objects, _ in ordered],
            [detections for _, _, detections in ordered],
        )

    def _protocol(self, images: int) -> dict[str, Any]:
        config = self._config
        return {
            "data_set": type(self._dataset).__name__,
            "split": self._dataset.split,
            "split_digest": self._dataset.digest(),
            "classes": list(self._class_names),
            "images": images,
            "image_size": self._model.image_size,
            "resize": config.resize,
            "metric": config.metric,
            "nms_iou": config.nms_iou,
            "score_threshold": config.score_threshold,
            "max_detections": config.max_detections,
            "ignored": "crowds and difficult objects need not be found and are no errors",
        }


def choose(ap50: np.ndarray, number: int) -> dict[int, tuple[str, ...]]:
    """Return indices of the worst, the best and random images, a third each, with their groups.

    By their own AP50 (N,), NaN for those without objects, which are among the random ones only.
    """
    scored = [int(i) for i in np.argsort(ap50, kind="stable") if not np.isnan(ap50[i])]
    third = min(number // 3, len(scored))
    candidates = {
        "worst": scored[:third],
        "best": scored[len(scored) - third :],
        "random": np.random.default_rng(0).permutation(len(ap50)).tolist(),
    }
    return chosen_pictures(candidates, number)


@dataclasses.dataclass(frozen=True)
class _Prepare:
    """Maps an example to the `image` that is searched and its `objects`; on reader threads."""

    config: DetectionEvaluationConfig
    model: SsdLiteConfig
    classes: int

    def __call__(self, example: Mapping[str, Any]) -> dict[str, Any]:
        check_example(example, self.classes)
        scale = resize if self.config.resize == "bilinear" else resize_legacy
        image = example["image"]
        return {
            "image": scale(image, self.model.image_size),
            "objects": objects_of(example),
            "size": image.shape[:2],
        }


def _find(
    graphdef: nnx.GraphDef,
    config: DetectionEvaluationConfig,
    params: nnx.State,
    batch_stats: nnx.State,
    image: Array,
) -> Detected:
    network = nnx.merge(graphdef, params, batch_stats)
    network.eval()
    return find(network, image, config)


def _own_ap50(detections: Detections, objects: Objects) -> float:
    """Return the AP50 of one image over its classes, NaN where it has no objects."""
    classes = np.unique(objects.label[~objects.ignore])
    if not len(classes):
        return float("nan")
    count = int(max(objects.label.max(), detections.label.max(initial=0))) + 1
    _, area = voc_precisions(match_voc(detections, objects), count)
    return float(mean_present(area)[0])
