"""A data set searched end to end: `eval.json`, what was found in each image, pictures."""

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

from deeplab_mnv2.config import DataSet, DetectionEvaluationConfig, SsdLiteConfig
from deeplab_mnv2.data.boxes import Objects, objects_of
from deeplab_mnv2.data.pipeline import evaluation_batches
from deeplab_mnv2.evaluation.protocol import stamped
from deeplab_mnv2.evaluation.ratios import mean_present
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.sharding import batch_sharding, first_process_first, replicated
from deeplab_mnv2.tasks.detection.decoding import Detected, find
from deeplab_mnv2.tasks.detection.drawing import draw_boxes
from deeplab_mnv2.tasks.detection.matches import Detections, match_voc
from deeplab_mnv2.tasks.detection.scores import detection_scores
from deeplab_mnv2.tasks.detection.transforms import check_example, resize, resize_legacy
from deeplab_mnv2.tasks.detection.voc_precision import voc_precisions
from deeplab_mnv2.tasks.scoring_batches import fitting_batch_size, one_batch_late, placing
from deeplab_mnv2.weights.model_weights import weights_digest

# Boxes of a lower score are not drawn where no better operating point is known.
_SHOWN_SCORE = 0.3


@dataclasses.dataclass
class DetectedPicture:
    """An image that was scored, (H, W, 3) uint8, its objects, what was found and its own AP50."""

    name: str
    image: np.ndarray
    objects: Objects
    detections: Detections
    ap50: float
    groups: tuple[str, ...]


@dataclasses.dataclass
class DetectionEvaluation:
    """What an evaluation found; `result` is the content of `eval.json`."""

    result: dict[str, Any]
    names: list[str]
    objects: list[Objects]
    detections: list[Detections]
    pictures: list[DetectedPicture]

    @property
    def score(self) -> str:
        """The key of the main score, "ap" or "ap50"."""
        return "ap" if "ap" in self.result else "ap50"

    @property
    def shown_score(self) -> float:
        """The score from which boxes are drawn."""
        point = self.result["operating_point"]
        return point["score"] if point else _SHOWN_SCORE

    def warnings(self) -> list[str]:
        """Return what makes the scores worth less than they seem, a sentence each."""
        if self.result["operating_point"] is None:
            return [
                "No box finds an object. That passes in a run's first steps; if it lasts, check "
                "the boxes (python -m deeplab_mnv2.doctor) and the learning rate."
            ]
        return []

    def shown(self) -> dict[str, np.ndarray]:
        """Return one of each kind of picture with its boxes, for TensorBoard."""
        names = list(self.result["ap_per_class"])
        return {
            group: draw_boxes(picture.image, picture.detections, names, self.shown_score)
            for picture in self.pictures
            for group in picture.groups
        }

    def summary(self) -> str:
        result = self.result
        low, high = result["ci95"] or (float("nan"),) * 2
        title = {"ap": "AP", "ap50": "AP50"}[self.score]
        other = f", AP50 {100 * (result['ap50'] or 0):.2f} %" if self.score == "ap" else ""
        return (
            f"{title} {100 * (result[self.score] or 0):.2f} % (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}){other} on {result['images']} images"
        )

    def conditions(self) -> str:
        stamp = self.result["protocol"]
        return (
            f"{stamp['image_size']} x {stamp['image_size']}, {stamp['resize']}, {stamp['metric']}, "
            f"non-maximum suppression {stamp['nms_iou']}, scores above "
            f"{stamp['score_threshold']:g}, {stamp['max_detections']} boxes an image"
        )

    def table(self) -> str:
        """Return AP by class and its 95 % interval in percent, of the classes with objects."""
        found = {n: v for n, v in self.result["ap_per_class"].items() if v is not None}
        width = max(map(len, ["class", *found]))
        lines = [f"{'class':{width}}  {'AP':>6}  {'objects':>7}  95 % interval"]
        for name, value in found.items():
            interval = self.result["ap_per_class_ci95"][name] or ()
            between = " to ".join(f"{100 * bound:.2f}" for bound in interval) or "-"
            number = self.result["objects_per_class"][name]
            lines.append(f"{name:{width}}  {100 * value:>6.2f}  {number:>7}  {between}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `eval.json`, and `detections.npz` with all boxes, which comparisons need.

        The latter has `names` (N,), and of objects and of detections `boxes` (M, 4) in pixels,
        `label` (M,), `image` (M,), and `ignore` and `area`, or `scores`.

        Raises:
            UserError: they cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # They belong together: none is replaced before both are written.
            result, found = (
                stack.enter_context(replace_atomically(folder / name))
                for name in ("eval.json", "detections.npz")
            )
            with found.open("wb") as file:
                arrays = {
                    "names": np.array(self.names),
                    **_flat("object", self.objects),
                    **_flat("detection", self.detections),
                }
                np.savez_compressed(file, allow_pickle=False, **arrays)
            result.write_text(json.dumps(self.result, indent=1) + "\n")


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

        rows: dict[int, tuple[str, Objects, Detections]] = {}
        for batch, on_device in one_batch_late(run, batches):
            found = jax.device_get(on_device)
            for row, index in enumerate(batch["index"]):
                kept = slice(int(found.counts[row]))
                # To pixels of the original image, in which objects are given.
                boxes = found.boxes[row, kept] * np.array(batch["size"][row] * 2, float)
                detections = Detections(boxes, found.scores[row, kept], found.classes[row, kept])
                rows[index] = batch["name"][row], batch["objects"][row], detections
            if progress is not None:
                progress(len(batch["index"]))
        ordered = [rows[index] for index in sorted(rows)]
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
    groups: dict[int, tuple[str, ...]] = {}
    for group, indices in (
        ("worst", scored[:third]),
        ("best", scored[len(scored) - third :]),
        ("random", np.random.default_rng(0).permutation(len(ap50)).tolist()),
    ):
        for index in indices:
            if len(groups) >= number:
                break
            groups[index] = (*groups.get(index, ()), group)
    return groups


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


def _flat(prefix: str, parts: list[Any]) -> dict[str, np.ndarray]:
    """Return the arrays of all images one after the other, and the image of each row."""
    counts = [len(part.label) for part in parts]
    fields = [field.name for field in dataclasses.fields(parts[0])] if parts else []
    flat = {
        f"{prefix}_{name}": np.concatenate([getattr(p, name) for p in parts]) for name in fields
    }
    return {**flat, f"{prefix}_image": np.repeat(np.arange(len(parts)), counts)}
