"""The pixels that COCO's outlines and run lengths mean, as COCO's own tools fill them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_mnv2.data.coco_file import is_number

# Points of an outline are rounded to fifths of a pixel, and its lines drawn there.
_FINE = 5
# Points this many pixels away are mistakes, whose lines would fill the memory.
_FAR = 1e6


def fill_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the pixels (H, W) bool within a closed polygon (N, 2) of x and y.

    The rule is that of COCO's `maskApi`: along every line, drawn five times as fine, each crossing
    into another column of pixels turns the pixels from there down. So a mask has the same pixels
    as in COCO's scores, those at its edge included.
    """
    # Toward zero, as C rounds.
    corners = np.trunc(_FINE * np.asarray(points, np.float64) + 0.5).astype(np.int64)
    lines = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    drawn = np.concatenate([_line(start, end) for start, end in lines])  # (M, 2)
    x, y = drawn.T
    moved = np.flatnonzero(np.diff(x)) + 1
    # The column of the crossing, if it is the first fifth of one.
    before, after = x[moved - 1], x[moved]
    column = (np.where(after < before, after, after - 1) + 0.5) / _FINE - 0.5
    row = np.ceil(((np.minimum(y[moved - 1], y[moved]) + 0.5) / _FINE - 0.5).clip(0, height))
    valid = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    places = column[valid].astype(np.int64) * height + row[valid].astype(np.int64)
    turned = np.bincount(places, minlength=height * width + 1)[: height * width]
    return (np.cumsum(turned) % 2 > 0).reshape(width, height).T


def _line(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the points (M, 2) of a line, both ends among them, a step of the longer side each."""
    dx, dy = np.abs(end - start)
    along = 0 if dx >= dy else 1
    # Drawn from the lower end, so that a line has the same points in both directions.
    is_turned = start[along] > end[along]
    low, high = (end, start) if is_turned else (start, end)
    steps = np.arange(high[along] - low[along] + 1)
    slope = (high[1 - along] - low[1 - along]) / max(1, steps[-1])
    points = np.empty((len(steps), 2), np.int64)
    points[:, along] = low[along] + steps
    points[:, 1 - along] = np.trunc(low[1 - along] + slope * steps + 0.5)
    return points[::-1] if is_turned else points


def run_lengths(counts: str | Sequence[int]) -> list[int]:
    """Return the lengths of runs, the first of zeros, from a list or COCO's text.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(counts, str):
        if not all(type(count) is int for count in counts):
            raise ValueError("its counts are no whole numbers")
        return list(counts)
    found: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"its counts hold {character!r}")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        # From the third on, the difference to the last run but one.
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("its counts end in the middle of a number")
    return found


def fill_runs(segmentation: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """Return the pixels (H, W) bool of run lengths, column by column.

    Raises:
        ValueError: they are not of this size.
    """
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if not isinstance(counts, str | list) or size != [height, width]:
        raise ValueError(f"its runs are of the size {size}, not {[height, width]}")
    runs = run_lengths(counts)
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        raise ValueError("its runs do not fill the image")
    values = np.arange(len(runs)) % 2 > 0
    return np.repeat(values, runs).reshape(width, height).T


def fill(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return the pixels (H, W) bool of an annotation's polygons or run lengths.

    Raises:
        ValueError: it is neither, or of another size.
    """
    if isinstance(segmentation, Mapping):
        return fill_runs(segmentation, height, width)
    if not isinstance(segmentation, list | tuple):
        raise ValueError("it has no outline")
    mask = np.zeros((height, width), bool)
    for polygon in segmentation:
        mask |= fill_polygon(np.reshape(polygon, (-1, 2)), height, width)
    return mask


def compact(segmentation: Any) -> Any:
    """Return polygons as arrays, which take a tenth of the memory of lists; all else as it is.

    Raises:
        ValueError: a polygon holds no three points.
    """
    if not isinstance(segmentation, list):
        return segmentation
    polygons = []
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon has no three points")
        if not all(is_number(n) and abs(n) < _FAR for n in polygon):
            raise ValueError("a polygon holds what is no number of pixels")
        polygons.append(np.array(polygon, np.float64))
    return tuple(polygons)
