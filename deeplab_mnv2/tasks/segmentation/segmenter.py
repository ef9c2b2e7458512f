"""A photograph in, a segmentation out: any size and mode, few compiled shapes, bounded memory."""

import dataclasses
import html
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax import Array
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import PAD_SIZES
from deeplab_mnv2.data.bands import in_colour
from deeplab_mnv2.data.decode import Photo
from deeplab_mnv2.data.encode import encoded
from deeplab_mnv2.data.palette import voc_palette
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.tasks.segmentation.drawing import add_legend, overlay, photo_uri
from deeplab_mnv2.tasks.segmentation.multi_scale import head_logits
from deeplab_mnv2.tasks.segmentation.windows import WINDOW, Canvas
from deeplab_mnv2.weights.model_weights import named_classes

# Rows that are painted at a time: painting takes some 80 bytes a pixel.
_ROWS = 256
_NOTEBOOK_HEIGHT = 320

T = TypeVar("T")
# Which (canvas, corner) are in the rows of the logits.
_Batch = tuple[list[tuple[Canvas, tuple[int, int]]], Array]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A photograph and the class of each of its pixels; a notebook shows it as a picture.

    `photo` is (H, W, 3) uint8 RGB, upright; `label` (H, W) uint8; `probabilities`
    (H, W, classes) float32 where asked for; `path` the file it was read from, if any.
    """

    photo: np.ndarray
    label: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray | None = None
    path: Path | None = None

    def overlay(self, *, opacity: float = 0.6, legend: bool = False) -> Image.Image:
        """Return the photograph with its classes painted over in VOC's colours.

        With a `legend` below it: the classes but the first, which stays bare, largest first.
        """
        bands = [slice(top, top + _ROWS) for top in range(0, len(self.label), _ROWS)]
        painted = [overlay(self.photo[b], self.label[b], opacity=opacity) for b in bands]
        picture = Image.fromarray(np.concatenate(painted))
        named = [(index, self.class_names[index]) for index, _ in self._shares() if index]
        return add_legend(picture, named) if legend else picture

    def palette_image(self) -> Image.Image:
        """Return the class ids as a palette image in VOC's colours; saved as PNG, a label file."""
        image = Image.fromarray(self.label)
        image.putpalette(voc_palette().tobytes())
        return image

    def classes(self) -> dict[str, float]:
        """Return the share of the pixels of each class that occurs, largest first.

        Classes of one name are one.
        """
        shares: dict[str, float] = {}
        for index, share in self._shares():
            name = self.class_names[index]
            shares[name] = shares.get(name, 0.0) + share
        return dict(sorted(shares.items(), key=lambda named: -named[1]))

    def _shares(self) -> list[tuple[int, float]]:
        counts = np.bincount(self.label.reshape(-1), minlength=len(self.class_names))
        order = np.argsort(-counts, kind="stable")
        return [(int(i), float(counts[i] / self.label.size)) for i in order if counts[i]]

    def __repr__(self) -> str:
        height, width = self.label.shape
        classes = ", ".join(f"{name} {share:.1%}" for name, share in self.classes().items())
        return f"Segmentation({width} x {height}: {classes})"

    def _repr_png_(self) -> bytes:
        picture = self.overlay()
        picture.thumbnail((4 * _NOTEBOOK_HEIGHT, _NOTEBOOK_HEIGHT))
        return encoded(picture, "PNG")

    def _repr_html_(self) -> str:
        pictures = "".join(
            f'<img alt="{name}" src="{photo_uri(picture, _NOTEBOOK_HEIGHT)}" '
            'style="max-width:100%;margin:0 4px 4px 0">'
            for name, picture in (
                ("photograph", self.photo),
                ("its classes painted over it", np.asarray(self.overlay())),
            )
        )
        legend = "".join(
            '<span style="display:inline-block;margin-right:1em;white-space:nowrap">'
            '<span style="display:inline-block;width:.8em;height:.8em;margin-right:.3em;'
            f'background:rgb({",".join(map(str, voc_palette()[index]))})"></span>'
            f"{html.escape(self.class_names[index])} {share:.1%}</span>"
            for index, share in self._shares()
        )
        return f"<div>{pictures}</div><div>{legend}</div>"


class Segmenter:
    """A network that takes photographs: `Segmenter.load("FILE")(photo).overlay()`.

    The network sees objects best at the size they had in training, so a photograph whose longer
    side exceeds `long_side`, `model.long_side` unless given, is scaled down to it; its label keeps
    the photograph's size. It is then padded with the mean pixel at the bottom and right to the
    next of `pad_sizes`, as `evaluate` does (`padding.padded_shape`). `long_side` 0 scales nothing,
    so that the label is the one that `evaluate` scores at scale 1; a photograph that takes more
    than `windows.LARGEST` pixels is covered by overlapping windows, whose logits are blended at
    the network's own resolution, before they are upsampled, so that memory stays bounded and no
    seams appear.

    With `scales` and `flip` probabilities are averaged over scaled and mirrored images, as
    `evaluate` does, but at the network's own resolution. `class_names` () numbers the classes;
    `load` has their names from the file.

    Raises:
        UserError: the network has another number of classes, or `long_side` is below 0.
    """

    def __init__(
        self,
        model: DeepLab,
        class_names: Sequence[str] = (),
        *,
        long_side: int | None = None,
        pad_sizes: Sequence[int] = PAD_SIZES,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ):
        config = model.config
        self.class_names = named_classes(class_names, config.num_classes)
        self.long_side = config.long_side if long_side is None else long_side
        if self.long_side < 0:
            raise UserError(f"long_side={self.long_side} is below 0; 0 scales nothing.")
        self.pad_sizes = tuple(pad_sizes)
        self._config = config
        # Weights are constants of the program: the compiler folds norm into them and lays them out
        # for its products once, which makes a CPU a tenth faster.
        forward = partial(_head_logits, *nnx.split(model), scales=tuple(scales), flip=flip)
        self._head_logits = jax.jit(forward)
        # One photograph keeps all cores of a CPU busy; an accelerator wants more of them, of
        # WINDOW x WINDOW pixels at most.
        self._batch_size = 1 if jax.default_backend() == "cpu" else 8

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] = weights.PACKAGED,
        class_names: Sequence[str] = (),
        *,
        long_side: int | None = None,
        pad_sizes: Sequence[int] = PAD_SIZES,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> "Segmenter":
        """Return the segmenter with the weights of a file, a folder, a run or hf://owner/name.

        Without a path they are the package's own, for VOC's classes. Classes are called as the file
        calls them (see `weights.read`) unless named here.

        Raises:
            UserError: the weights cannot be read (see `weights.load`).
        """
        return cls.from_weights(
            weights.read(os.fspath(path)),
            class_names,
            long_side=long_side,
            pad_sizes=pad_sizes,
            scales=scales,
            flip=flip,
        )

    @classmethod
    def from_weights(
        cls, source: weights.Weights, class_names: Sequence[str] = (), **settings: Any
    ) -> "Segmenter":
        """Return the segmenter with weights that are read already, with the settings of `load`.

        Raises:
            UserError: they are no segmentation network's.
        """
        return cls(weights.build_deeplab(source), class_names or source.class_names, **settings)

    def __call__(self, photo: Photo, *, probabilities: bool = False) -> Segmentation:
        """Return the segmentation of a file, a PIL image or an array (H, W, 3) uint8 RGB.

        A network of other channels takes images of as many (`data.bands`); in the result, `photo`
        is a picture of them.

        Raises:
            UserError: the file is missing or damaged, or the array is of another form.
        """
        canvas = self._canvas(photo)
        return next(self._collect([canvas], self._dispatch([canvas]), probabilities))

    def batch(
        self,
        photos: Iterable[Photo],
        *,
        probabilities: bool = False,
        on_error: Callable[[Photo, UserError], None] | None = None,
    ) -> Iterator[Segmentation]:
        """Yield the segmentations of many photographs, in order.

        Threads read ahead while the network runs, the network runs while the caller works on
        the result before, and an accelerator takes several photographs at a time. A photograph
        that cannot be read is left out where `on_error` is given, which is called with it.

        Raises:
            UserError: as `__call__`, where `on_error` is not given.
        """
        running = None
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            canvases = self._read_ahead(photos, threads, on_error)
            for group in _groups(canvases, self._batch_size):
                dispatched = group, self._dispatch(group)
                if running is not None:
                    yield from self._collect(*running, probabilities)
                running = dispatched
        if running is not None:
            yield from self._collect(*running, probabilities)

    def _canvas(self, photo: Photo) -> Canvas:
        return Canvas(photo, self._config, self.long_side, self.pad_sizes)

    def _read_ahead(
        self,
        photos: Iterable[Photo],
        threads: ThreadPoolExecutor,
        on_error: Callable[[Photo, UserError], None] | None,
    ) -> Iterator[Canvas]:
        photos = iter(photos)
        waiting = deque()
        while True:
            for photo in islice(photos, self._batch_size + 2 - len(waiting)):
                waiting.append((photo, threads.submit(self._canvas, photo)))
            if not waiting:
                return
            photo, canvas = waiting.popleft()
            try:
                yield canvas.result()
            except UserError as error:
                if on_error is None:
                    raise
                on_error(photo, error)

    def _dispatch(self, canvases: Sequence[Canvas]) -> list[_Batch]:
        """Start the network on every window of the canvases."""
        batches = []
        for shape in sorted({canvas.shape for canvas in canvases}):
            same = [canvas for canvas in canvases if canvas.shape == shape]
            windows = ((canvas, corner) for canvas in same for corner in canvas.corners())
            fitting = max(1, self._batch_size * WINDOW**2 // (shape[0] * shape[1]))
            size = min(self._batch_size, fitting)
            for group in _groups(windows, size):
                # A short batch is filled up, so that one batch size is compiled a shape.
                images = np.zeros((size, *shape, self._config.in_channels), np.uint8)
                for row, (canvas, corner) in enumerate(group):
                    images[row] = canvas.window(corner)
                batches.append((group, self._head_logits(images)))
        return batches

    def _collect(
        self, canvases: Sequence[Canvas], batches: list[_Batch], probabilities: bool
    ) -> Iterator[Segmentation]:
        for group, logits in batches:
            for (canvas, corner), found in zip(group, np.asarray(logits), strict=False):
                canvas.add(corner, found)
        for canvas in canvases:
            label, shares = canvas.paint(probabilities)
            photo = in_colour(canvas.photo)
            yield Segmentation(photo, label, self.class_names, shares, canvas.path)


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    return iter(lambda: list(islice(items, size)), [])


def _head_logits(
    graphdef: nnx.GraphDef,
    state: nnx.State,
    images: Array,
    *,
    scales: tuple[float, ...],
    flip: bool,
) -> Array:
    model = nnx.merge(graphdef, state)
    model.eval()
    return head_logits(model, images, scales, flip=flip)
