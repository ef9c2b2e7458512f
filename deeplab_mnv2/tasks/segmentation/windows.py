"""A photograph on its way through the network: windows out, logits in, a label at its own size."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.data.bands import network_image
from deeplab_mnv2.data.decode import Photo, scale_down
from deeplab_mnv2.models.layers import sample_positions
from deeplab_mnv2.tasks.segmentation.padding import padded_shape

# Most pixels, with padding, that the network sees at once; some 1.5 GB at width 1.
LARGEST = 2049**2
# Longest side of the windows that go over what is larger, and their least overlap.
WINDOW, OVERLAP = 1025, 256
# Side of the square of pixels whose logits exist at a time.
_TILE = 513


class Canvas:
    """A photograph on its way through the network, window by window."""

    def __init__(self, photo: Photo, config: ModelConfig, long_side: int, pad_sizes: Sequence[int]):
        self.photo = network_image(photo, config)
        self.path = Path(photo) if isinstance(photo, str | os.PathLike) else None
        self.config = config
        self.scaled = scale_down(self.photo, long_side)
        # As in an evaluation, so that a photograph gets the label that was scored.
        shape = padded_shape(self.scaled.shape[:2], pad_sizes, config.output_stride)
        if shape[0] * shape[1] > LARGEST:
            shape = min(shape[0], WINDOW), min(shape[1], WINDOW)
        self.shape = shape
        self.starts = [
            _starts(length, side, config.output_stride)
            for length, side in zip(self.scaled.shape[:2], shape, strict=True)
        ]
        self.padded = [starts[-1] + side for starts, side in zip(self.starts, shape, strict=True)]
        self.total = self.weight = np.zeros(0, np.float32)

    def corners(self) -> Iterator[tuple[int, int]]:
        """Yield the top left corners of the windows."""
        return ((top, left) for top in self.starts[0] for left in self.starts[1])

    def window(self, corner: tuple[int, int]) -> np.ndarray:
        """Return the pixels (*shape, in_channels) at a corner, padded with the mean pixel."""
        top, left = corner
        found = self.scaled[top : top + self.shape[0], left : left + self.shape[1]]
        window = np.empty((*self.shape, self.config.in_channels), np.uint8)
        window[:] = self.config.mean_pixel
        window[: found.shape[0], : found.shape[1]] = found
        return window

    def add(self, corner: tuple[int, int], logits: np.ndarray) -> None:
        """Add a window's logits (h, w, classes), weighted less towards its edges."""
        *points, classes = logits.shape
        step = (self.shape[0] - 1) // (points[0] - 1)
        if not self.total.size:
            size = [(n - 1) // step + 1 for n in self.padded]
            self.total = np.zeros((*size, classes), np.float32)
            self.weight = np.zeros((*size, 1), np.float32)
        rows, columns = (
            np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)).astype(np.float32) for n in points
        )
        weight = rows[:, None, None] * columns[None, :, None]
        top, left = (n // step for n in corner)
        place = np.s_[top : top + points[0], left : left + points[1]]
        self.total[place] += weight * logits
        self.weight[place] += weight

    def paint(self, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the label (H, W) and, where asked for, the probabilities (H, W, classes)."""
        logits = self.total / self.weight  # (H', W', classes)
        height, width = self.photo.shape[:2]
        rows, columns = (self._grid_positions(axis, logits.shape[axis]) for axis in (0, 1))
        label = np.empty((height, width), np.uint8)
        scores = np.empty((height, width, logits.shape[-1]), np.float32) if probabilities else None
        tile = [min(_TILE, side) for side in self.shape]
        # Grid points around the pixels of a tile.
        reach = [
            min(points, side * (points - 1) // (padded - 1) + 3)
            for points, side, padded in zip(logits.shape, tile, self.padded, strict=False)
        ]
        for top in range(0, height, tile[0]):
            first_row, row_at = _local(
                rows[top : top + tile[0]], logits.shape[0], reach[0], tile[0]
            )
            for left in range(0, width, tile[1]):
                first_column, column_at = _local(
                    columns[left : left + tile[1]], logits.shape[1], reach[1], tile[1]
                )
                cut = logits[first_row:, first_column:][: reach[0], : reach[1]]
                place = np.s_[top : top + tile[0], left : left + tile[1]]
                inside = np.s_[: height - top, : width - left]
                if scores is None:
                    label[place] = np.asarray(_labels(cut, row_at, column_at))[inside]
                else:
                    scores[place] = np.asarray(_probabilities(cut, row_at, column_at))[inside]
                    label[place] = scores[place].argmax(-1)
        return label, scores

    def _grid_positions(self, axis: int, points: int) -> np.ndarray:
        """Return where on the grid of logits each row or column of the photograph falls."""
        full, scaled = self.photo.shape[axis], self.scaled.shape[axis]
        # The photograph was scaled by areas, which have their centres at half pixels.
        at = sample_positions(np.arange(full), scaled, full, align_corners=False)
        return sample_positions(at, points, self.padded[axis], self.config.align_corners)


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


@jax.jit
def _labels(grid: Array, rows: Array, columns: Array) -> Array:
    return jnp.argmax(_sample(grid, rows, columns), axis=-1).astype(jnp.uint8)


@jax.jit
def _probabilities(grid: Array, rows: Array, columns: Array) -> Array:
    return jax.nn.softmax(_sample(grid, rows, columns), axis=-1)


def _sample(grid: Array, rows: Array, columns: Array) -> Array:
    """Interpolate a grid (h, w, C) at every pair of positions, to (rows, columns, C)."""
    by_row, by_column = (
        jnp.maximum(0, 1 - jnp.abs(at[:, None] - jnp.arange(points, dtype=jnp.float32)[None]))
        for at, points in ((rows, grid.shape[0]), (columns, grid.shape[1]))
    )
    wide = jnp.einsum("qw,hwc->hqc", by_column, grid, precision="highest")
    # A plain product, which leaves the classes of a pixel side by side (see `layers.resize`).
    high = jnp.matmul(by_row, wide.reshape(wide.shape[0], -1), precision="highest")
    return high.reshape(-1, *wide.shape[1:])
