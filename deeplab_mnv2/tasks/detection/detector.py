"""Photographs in, boxes out: what `predict` and notebooks use."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import DetectionEvaluationConfig
from deeplab_mnv2.data.decode import Photo, photo_pixels
from deeplab_mnv2.data.encode import encoded
from deeplab_mnv2.data.photo_groups import filled, read_groups
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.tasks.detection.decoding import Detected, find
from deeplab_mnv2.tasks.detection.drawing import draw_boxes
from deeplab_mnv2.tasks.detection.matches import Detections
from deeplab_mnv2.tasks.detection.transforms import resize, resize_legacy
from deeplab_mnv2.weights.model_weights import named_classes

# Score from which boxes are kept unless asked otherwise. For an average precision nearly all are.
SHOWN_SCORE = 0.3
# Overlap of two boxes of one object, for those who look at them: VOC's, and most detectors'.
SHOWN_NMS_IOU = 0.45
# Photographs that the network sees at a time.
_BATCH = 8
# Height of a photograph in a notebook, in pixels.
_NOTEBOOK_HEIGHT = 480


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Detection:
    """A photograph and the objects found in it, surest first; a notebook shows it as a picture.

    `photo` is (H, W, 3) uint8 RGB, upright; `boxes` (D, 4) are (ymin, xmin, ymax, xmax) in its
    pixels, `scores` (D,), `labels` (D,) numbers of classes; `path` the file it was read from.
    """

    photo: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    path: Path | None = None

    @property
    def classes(self) -> list[str]:
        """The class of each box."""
        return [self.class_names[label] for label in self.labels]

    def overlay(self) -> Image.Image:
        """Return the photograph with its boxes, their classes and scores in percent."""
        found = Detections(self.boxes, self.scores, self.labels)
        return Image.fromarray(draw_boxes(self.photo, found, self.class_names, 0.0))

    def __repr__(self) -> str:
        height, width = self.photo.shape[:2]
        pairs = zip(self.classes, self.scores, strict=True)
        found = ", ".join(f"{name} {score:.0%}" for name, score in pairs)
        return f"Detection({width} x {height}: {found or 'nothing'})"

    def _repr_png_(self) -> bytes:
        picture = self.overlay()
        picture.thumbnail((4 * _NOTEBOOK_HEIGHT, _NOTEBOOK_HEIGHT))
        return encoded(picture, "PNG")


class Detector:
    """A network that finds objects: `Detector.load(FILE)(photo).overlay()`.

    A photograph is scaled to the network's square by `settings`, which is how `evaluate` scores
    it, and boxes are given in its own pixels. `class_names` () numbers the classes; `load` has
    their names from the file.

    Raises:
        UserError: the network takes no colour images, or has another number of classes.
    """

    def __init__(
        self,
        network: SSDLite,
        class_names: Sequence[str] = (),
        *,
        least_score: float = SHOWN_SCORE,
        settings: DetectionEvaluationConfig | None = None,
    ):
        config = network.config
        if config.in_channels != 3:
            raise UserError(
                f"The network takes images of {config.in_channels} channels, but photographs "
                "have 3; call the network itself on arrays."
            )
        self.class_names = named_classes(class_names, config.num_classes)
        self.settings = settings or DetectionEvaluationConfig(nms_iou=SHOWN_NMS_IOU)
        self.settings = dataclasses.replace(self.settings, score_threshold=least_score)
        self.settings.check(config.output_stride)
        self._size = config.image_size
        self._scale = resize if self.settings.resize == "bilinear" else resize_legacy
        # Weights are constants of the program; see `segmenter.Segmenter`.
        self._find = jax.jit(partial(_find, *nnx.split(network), self.settings))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        class_names: Sequence[str] = (),
        *,
        least_score: float = SHOWN_SCORE,
        settings: DetectionEvaluationConfig | None = None,
    ) -> "Detector":
        """Return the detector with the weights of a file, a folder, a run or hf://owner/name.

        Classes are called as the file calls them (see `weights.read`) unless named here. Boxes of
        `least_score` or more are found.

        Raises:
            UserError: the weights cannot be read, or are no detector's.
        """
        source = weights.read(os.fspath(path))
        return cls.from_weights(source, class_names, least_score=least_score, settings=settings)

    @classmethod
    def from_weights(
        cls, source: weights.Weights, class_names: Sequence[str] = (), **settings: Any
    ) -> "Detector":
        """Return the detector with weights that are read already, with the settings of `load`.

        Raises:
            UserError: they are no detector's.
        """
        return cls(weights.build_detector(source), class_names or source.class_names, **settings)

    def __call__(self, photo: Photo) -> Detection:
        """Return the objects in a file, a PIL image or an array (H, W, 3) uint8 RGB.

        Raises:
            UserError: the file is missing or damaged, or the array is of another form.
        """
        return next(self.batch([photo]))

    def batch(
        self,
        photos: Iterable[Photo],
        *,
        on_error: Callable[[Photo, UserError], None] | None = None,
    ) -> Iterator[Detection]:
        """Yield the objects of many photographs, in order; threads read ahead.

        A photograph that cannot be read is left out where `on_error` is given, which is called
        with it.

        Raises:
            UserError: as `__call__`, where `on_error` is not given.
        """
        for group in read_groups(photos, self._read, _BATCH, on_error):
            yield from self._search(group)

    def _read(self, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
        pixels = photo_pixels(photo)
        return pixels, self._scale(pixels, self._size)

    def _search(
        self, group: list[tuple[Photo, tuple[np.ndarray, np.ndarray]]]
    ) -> Iterator[Detection]:
        images = filled([scaled for _, (_, scaled) in group], _BATCH)
        found = jax.device_get(self._find(images))
        for row, (photo, (pixels, _)) in enumerate(group):
            kept = slice(int(found.counts[row]))
            sides = np.array(pixels.shape[:2] * 2, np.float32)
            path = Path(photo) if isinstance(photo, str | os.PathLike) else None
            boxes, scores, labels = (
                np.asarray(array)[row, kept] for array in (found.boxes, found.scores, found.classes)
            )
            yield Detection(pixels, boxes * sides, scores, labels, self.class_names, path)


def _find(
    graphdef: nnx.GraphDef, state: nnx.State, settings: DetectionEvaluationConfig, images: Array
) -> Detected:
    network = nnx.merge(graphdef, state)
    network.eval()
    return find(network, images, settings)
