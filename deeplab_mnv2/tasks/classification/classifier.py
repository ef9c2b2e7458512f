"""Photographs in, their likeliest classes out: what `predict` and notebooks use."""

import dataclasses
import html
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
from deeplab_mnv2.config import ClassificationEvaluationConfig
from deeplab_mnv2.data.decode import Photo, photo_pixels
from deeplab_mnv2.data.encode import encoded
from deeplab_mnv2.data.photo_groups import filled, read_groups
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models import classifier
from deeplab_mnv2.tasks.classification.transforms import centre
from deeplab_mnv2.weights.model_weights import named_classes

# Photographs that the network sees at a time.
_BATCH = 16
# Height of a photograph in a notebook, in pixels.
_NOTEBOOK_HEIGHT = 240


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Classification:
    """A photograph and how likely each class is; a notebook shows it as a picture.

    `photo` is (H, W, 3) uint8 RGB, upright; `probabilities` (classes,) float32; `path` the file it
    was read from, if any.
    """

    photo: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    path: Path | None = None

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.class_names[int(self.probabilities.argmax())]

    def top(self, number: int = 5) -> list[tuple[str, float]]:
        """Return the likeliest classes and their probabilities."""
        order = np.argsort(-self.probabilities, kind="stable")[:number]
        return [(self.class_names[i], float(self.probabilities[i])) for i in order]

    def __repr__(self) -> str:
        height, width = self.photo.shape[:2]
        classes = ", ".join(f"{name} {share:.1%}" for name, share in self.top())
        return f"Classification({width} x {height}: {classes})"

    def _repr_png_(self) -> bytes:
        picture = Image.fromarray(self.photo)
        picture.thumbnail((4 * _NOTEBOOK_HEIGHT, _NOTEBOOK_HEIGHT))
        return encoded(picture, "PNG")

    def _repr_markdown_(self) -> str:
        rows = "".join(f"| {html.escape(name)} | {share:.1%} |\n" for name, share in self.top())
        return f"| class | probability |\n| --- | ---: |\n{rows}"


class Classifier:
    """A network that tells what a photograph shows: `Classifier.load(FILE)(photo)`.

    A photograph is scaled and cropped as in `scaling`, which is how `evaluate` scores it.
    `class_names` () numbers the classes; `load` has their names and the scaling from the file.

    Raises:
        UserError: the network takes no colour images, or has another number of classes.
    """

    def __init__(
        self,
        network: classifier.Classifier,
        class_names: Sequence[str] = (),
        *,
        scaling: ClassificationEvaluationConfig | None = None,
    ):
        config = network.config
        if config.in_channels != 3:
            raise UserError(
                f"The network takes images of {config.in_channels} channels, but photographs "
                "have 3; call the network itself on arrays."
            )
        self.class_names = named_classes(class_names, config.num_classes)
        self.scaling = scaling or ClassificationEvaluationConfig()
        self.scaling.check(config.output_stride)
        self._mean_pixel = config.mean_pixel
        # Weights are constants of the program; see `segmenter.Segmenter`.
        self._probabilities = jax.jit(partial(_probabilities, *nnx.split(network)))

    @classmethod
    def load(cls, path: str | os.PathLike[str], class_names: Sequence[str] = ()) -> "Classifier":
        """Return the classifier with the weights of a file, a folder, a run or hf://owner/name.

        Classes are called as the file calls them (see `weights.read`) unless named here.

        Raises:
            UserError: the weights cannot be read, or are no classifier's.
        """
        return cls.from_weights(weights.read(os.fspath(path)), class_names)

    @classmethod
    def from_weights(cls, source: weights.Weights, class_names: Sequence[str] = ()) -> "Classifier":
        """Return the classifier with weights that are read already.

        Raises:
            UserError: they are no classifier's.
        """
        network, names = weights.build_classifier(source), class_names or source.class_names
        return cls(network, names, scaling=scaling_of(source))

    def __call__(self, photo: Photo) -> Classification:
        """Return the classes of a file, a PIL image or an array (H, W, 3) uint8 RGB.

        Raises:
            UserError: the file is missing or damaged, or the array is of another form.
        """
        return next(self.batch([photo]))

    def batch(
        self,
        photos: Iterable[Photo],
        *,
        on_error: Callable[[Photo, UserError], None] | None = None,
    ) -> Iterator[Classification]:
        """Yield the classes of many photographs, in order; threads read ahead.

        A photograph that cannot be read is left out where `on_error` is given, which is called
        with it.

        Raises:
            UserError: as `__call__`, where `on_error` is not given.
        """
        for group in read_groups(photos, self._read, _BATCH, on_error):
            yield from self._classify(group)

    def _read(self, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
        pixels = photo_pixels(photo)
        return pixels, centre(pixels, self.scaling, self._mean_pixel)

    def _classify(
        self, group: list[tuple[Photo, tuple[np.ndarray, np.ndarray]]]
    ) -> Iterator[Classification]:
        images = filled([crop for _, (_, crop) in group], _BATCH)
        found = np.asarray(self._probabilities(images))
        for (photo, (pixels, _)), probabilities in zip(group, found, strict=False):
            path = Path(photo) if isinstance(photo, str | os.PathLike) else None
            yield Classification(pixels, probabilities, self.class_names, path)


def scaling_of(source: weights.Weights) -> ClassificationEvaluationConfig:
    """Return how images are scaled for a classifier: as its file says, else ImageNet's way."""
    config = ClassificationEvaluationConfig()
    known: dict[str, Any] = {n: v for n, v in source.scaling.items() if v is not None}
    return dataclasses.replace(config, **known)


def _probabilities(graphdef: nnx.GraphDef, state: nnx.State, images: Array) -> Array:
    network = nnx.merge(graphdef, state)
    network.eval()
    return jax.nn.softmax(network(network.normalize(images)))
