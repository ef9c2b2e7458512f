"""A photograph in, a segmentation out: any size and mode, few compiled shapes, bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from PIL import Image, ImageOps

from deeplab_mnv2 import weights
from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.pipeline import mean_pixel
from deeplab_mnv2.data.voc_classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.segmentation import Segmentation

Photo = str | os.PathLike[str] | Image.Image | np.ndarray
T = TypeVar("T")

# Sides that photographs are padded to, a multiple of every output stride plus one: each is
# compiled once. The last one is also the window that goes over larger photographs.
SIDES = (129, 257, 513, 769, 1025)
# What longer photographs are scaled down to: the crop that the published weights were trained
# with. VOC's 500 pixels enlarged fourfold score 0.67 mIoU this way, 0.57 at 1025 pixels and 0.37
# in windows without scaling (24 images).
LONG_SIDE = 513
# Least overlap of neighbouring windows.
OVERLAP = 256
# Side of the square of pixels whose logits exist at a time.
_TILE = 513


class Segmenter:
    """A network that takes photographs: `Segmenter.load("FILE")(photo).overlay()`.

    The network sees objects best at the size they had in training, so a photograph whose longer
    side exceeds `long_side` is scaled down to it; its label keeps the photograph's size. It is
    then padded with the mean pixel at the bottom and right to the next of `SIDES`, square, as in
    evaluation. `long_side` 0 scales nothing: a photograph beyond the last of `SIDES` is covered
    by overlapping windows, whose logits are blended at the network's own resolution, before
    they are upsampled, so that memory stays bounded and no seams appear.

    `class_names` () means VOC's names for 21 classes and numbers otherwise.

    Raises:
        UserError: the network takes no colour images, or has another number of classes.
    """

    def __init__(
        self, model: DeepLab, class_names: Sequence[str] = (), *, long_side: int = LONG_SIDE
    ):
        config = model.config
        if config.in_channels != 3:
            raise UserError(
                f"The network takes images of {config.in_channels} channels, but photographs "
                "have 3; call the network itself on arrays."
            )
        self.class_names = tuple(class_names) or default_class_names(config.num_classes)
        if len(self.class_names) != config.num_classes:
            raise UserError(
                f"{len(self.class_names)} class names are given, but the network has "
                f"{config.num_classes} classes; name each of them, background first."
            )
        self.long_side = long_side
        self._config = config
        self._graphdef, self._state = nnx.split(model)
        # One photograph keeps all cores of a CPU busy; an accelerator wants more of them.
        self._batch_size = 1 if jax.default_backend() == "cpu" else 8

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        class_names: Sequence[str] = (),
        *,
        long_side: int = LONG_SIDE,
    ) -> "Segmenter":
        """Return the segmenter with the weights of a file, a folder or hf://owner/name.

        Raises:
            UserError: the weights cannot be read (see `weights.load`).
        """
        return cls(weights.load(os.fspath(path)), class_names, long_side=long_side)

    def __call__(self, photo: Photo, *, probabilities: bool = False) -> Segmentation:
        """Return the segmentation of a file, a PIL image or an array (H, W, 3) uint8 RGB.

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

    def _canvas(self, photo: Photo) -> "_Canvas":
        return _Canvas(photo, self._config, self.long_side)

    def _read_ahead(
        self,
        photos: Iterable[Photo],
        threads: ThreadPoolExecutor,
        on_error: Callable[[Photo, UserError], None] | None,
    ) -> Iterator["_Canvas"]:
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

    def _dispatch(self, canvases: Sequence["_Canvas"]) -> "list[_Batch]":
        """Start the network on every window of the canvases."""
        batches = []
        for side in sorted({canvas.side for canvas in canvases}):
            same = [canvas for canvas in canvases if canvas.side == side]
            windows = ((canvas, corner) for canvas in same for corner in canvas.corners())
            for group in _groups(windows, self._batch_size):
                # A short batch is filled up, so that one batch size is compiled a side.
                images = np.zeros((self._batch_size, side, side, 3), np.uint8)
                for row, (canvas, corner) in enumerate(group):
                    images[row] = canvas.window(corner)
                batches.append((group, _head_logits(self._graphdef, self._state, images)))
        return batches

    def _collect(
        self, canvases: Sequence["_Canvas"], batches: "list[_Batch]", probabilities: bool
    ) -> Iterator[Segmentation]:
        for group, logits in batches:
            for (canvas, corner), found in zip(group, np.asarray(logits), strict=False):
                canvas.add(corner, found)
        for canvas in canvases:
            label, shares = canvas.paint(probabilities)
            yield Segmentation(canvas.photo, label, self.class_names, shares, canvas.path)


class _Canvas:
    """A photograph on its way through the network, window by window."""

    def __init__(self, photo: Photo, config: ModelConfig, long_side: int):
        self.photo = _pixels(photo)
        self.path = Path(photo) if isinstance(photo, str | os.PathLike) else None
        self.config = config
        longest = max(self.photo.shape[:2])
        self.scaled = self.photo
        if 0 < long_side < longest:
            size = [max(1, round(n * long_side / longest)) for n in self.photo.shape[1::-1]]
            self.scaled = cv2.resize(self.photo, size, interpolation=cv2.INTER_AREA)
        self.side = next((n for n in SIDES if n >= max(self.scaled.shape[:2])), SIDES[-1])
        self.starts = [_starts(n, self.side, config.output_stride) for n in self.scaled.shape[:2]]
        self.padded = [starts[-1] + self.side for starts in self.starts]
        self.total = self.weight = np.zeros(0, np.float32)

    def corners(self) -> Iterator[tuple[int, int]]:
        """Yield the top left corners of the windows."""
        return ((top, left) for top in self.starts[0] for left in self.starts[1])

    def window(self, corner: tuple[int, int]) -> np.ndarray:
        """Return the pixels (side, side, 3) at a corner, padded with the mean pixel."""
        top, left = corner
        found = self.scaled[top : top + self.side, left : left + self.side]
        window = np.empty((self.side, self.side, 3), np.uint8)
        window[:] = mean_pixel(self.config)
        window[: found.shape[0], : found.shape[1]] = found
        return window

    def add(self, corner: tuple[int, int], logits: np.ndarray) -> None:
        """Add a window's logits (h, w, classes), weighted less towards its edges."""
        points, classes = logits.shape[0], logits.shape[-1]
        step = (self.side - 1) // (points - 1)
        if not self.total.size:
            size = [(n - 1) // step + 1 for n in self.padded]
            self.total = np.zeros((*size, classes), np.float32)
            self.weight = np.zeros((*size, 1), np.float32)
        ramp = np.minimum(np.arange(1, points + 1), np.arange(points, 0, -1)).astype(np.float32)
        weight = ramp[:, None, None] * ramp[None, :, None]
        top, left = (n // step for n in corner)
        place = np.s_[top : top + points, left : left + points]
        self.total[place] += weight * logits
        self.weight[place] += weight

    def paint(self, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the label (H, W) and, where asked for, the probabilities (H, W, classes)."""
        logits = self.total / self.weight  # (H', W', classes)
        height, width = self.photo.shape[:2]
        rows, columns = (self._grid_positions(axis, logits.shape[axis]) for axis in (0, 1))
        label = np.empty((height, width), np.uint8)
        scores = np.empty((height, width, logits.shape[-1]), np.float32) if probabilities else None
        tile = min(_TILE, self.side)
        # Grid points around the pixels of a tile.
        reach = [
            min(points, tile * (points - 1) // (padded - 1) + 3)
            for points, padded in zip(logits.shape, self.padded, strict=False)
        ]
        for top in range(0, height, tile):
            first_row, row_at = _local(rows[top : top + tile], logits.shape[0], reach[0], tile)
            for left in range(0, width, tile):
                first_column, column_at = _local(
                    columns[left : left + tile], logits.shape[1], reach[1], tile
                )
                cut = logits[first_row:, first_column:][: reach[0], : reach[1]]
                place = np.s_[top : top + tile, left : left + tile]
                inside = np.s_[: height - top, : width - left]
                if scores is None:
                    label[place] = np.asarray(_labels(cut, row_at, column_at))[inside]
                else:
                    scores[place] = np.asarray(_probabilities(cut, row_at, column_at))[inside]
                    label[place] = scores[place].argmax(-1)
        return label, scores

    def _grid_positions(self, axis: int, points: int) -> np.ndarray:
        """Return where on the grid of logits each row or column of the photograph lies."""
        full, scaled = self.photo.shape[axis], self.scaled.shape[axis]
        at = ((np.arange(full) + 0.5) * scaled / full - 0.5).clip(0, scaled - 1)
        # As `models.layers.resize` does from the grid to the padded image.
        if self.config.align_corners:
            return at * (points - 1) / (self.padded[axis] - 1)
        return ((at + 0.5) * points / self.padded[axis] - 0.5).clip(0, points - 1)


# Which (canvas, corner) lie in the rows of the logits.
_Batch = tuple[list[tuple[_Canvas, tuple[int, int]]], Array]


def default_class_names(num_classes: int) -> tuple[str, ...]:
    """Return VOC's class names for 21 classes, `class 0` and so on otherwise."""
    if num_classes == len(VOC_CLASSES):
        return VOC_CLASSES
    return tuple(f"class {index}" for index in range(num_classes))


def _pixels(photo: Photo) -> np.ndarray:
    """Return a photograph as (H, W, 3) uint8 RGB."""
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise UserError(
                f"An array of shape {photo.shape} and type {photo.dtype} is no photograph; give "
                "(H, W, 3) uint8 RGB."
            )
        return photo
    if isinstance(photo, Image.Image):
        return _rgb(photo)
    return read_image(Path(photo))


def _rgb(image: Image.Image) -> np.ndarray:
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            # Pillow clips 16-bit grey to 255; scale it instead, as `read_image` does.
            grey = (np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise UserError(f"The image cannot be read ({error}); fetch its file again.") from error


def _starts(length: int, side: int, stride: int) -> list[int]:
    """Return where windows start, on the grid of the output stride, evenly spread."""
    last = max(0, -(-(length - side) // stride)) * stride
    gaps = -(-last // (side - OVERLAP))
    return [round(i * last / max(1, gaps) / stride) * stride for i in range(gaps + 1)]


def _local(at: np.ndarray, points: int, reach: int, tile: int) -> tuple[int, np.ndarray]:
    """Return the first of `reach` grid points around some positions, and these from there."""
    first = min(int(at[0]), points - reach)
    local = np.zeros(tile, np.float32)
    local[: len(at)] = at - first
    return first, local


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    return iter(lambda: list(islice(items, size)), [])


@partial(jax.jit, static_argnums=0)
def _head_logits(graphdef: nnx.GraphDef, state: nnx.State, images: Array) -> Array:
    model = nnx.merge(graphdef, state)
    model.eval()
    return model.head_logits(model.normalize(images)).astype(jnp.float32)


@jax.jit
def _labels(grid: Array, rows: Array, columns: Array) -> Array:
    return jnp.argmax(_sample(grid, rows, columns), axis=-1).astype(jnp.uint8)


@jax.jit
def _probabilities(grid: Array, rows: Array, columns: Array) -> Array:
    return jax.nn.softmax(_sample(grid, rows, columns), axis=-1)


def _sample(grid: Array, rows: Array, columns: Array) -> Array:
    """Interpolate a grid (h, w, C) at every pair of positions, to (rows, columns, C)."""
    by_row, by_column = (
        jnp.maximum(0, 1 - jnp.abs(at[:, None] - jnp.arange(points, dtype=jnp.float32)))
        for at, points in ((rows, grid.shape[0]), (columns, grid.shape[1]))
    )
    return jnp.einsum("ph,hqc->pqc", by_row, jnp.einsum("qw,hwc->hqc", by_column, grid))
