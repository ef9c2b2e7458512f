"""The anchors of TensorFlow's SSDLite: boxes of fixed shapes around the cells of six grids.

Boxes are (ymin, xmin, ymax, xmax), normalised: 1 is the image's height or width.
"""

import math

import numpy as np

# One a level, and the one behind the last (arXiv:1512.02325, Section 2.2, with 0.2 to 0.95).
SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
# Width over height; the last is not a third, in TensorFlow's published networks.
RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
# The first level has three boxes only.
_FIRST_LEVEL = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))
# Input size over grid size of the first level; each further one halves the grid.
_FIRST_STRIDE = 16


def grids(height: int, width: int) -> list[tuple[int, int]]:
    """Return rows and columns of each level's grid for an image of a size in pixels."""
    # Each layer of stride 2 rounds up, by either rule of padding.
    return [
        (math.ceil(height / stride), math.ceil(width / stride))
        for stride in (_FIRST_STRIDE * 2**level for level in range(len(SCALES) - 1))
    ]


def anchors(height: int, width: int) -> np.ndarray:
    """Return the anchors (A, 4) float32 of an image: by level, row, column, shape; not clipped.

    A is 1,917 for 300 x 300 pixels and 2,034 for 320 x 320.
    """
    # Square boxes stay square on oblong images.
    short = min(height, width)
    found = []
    for level, (rows, columns) in enumerate(grids(height, width)):
        size = np.array(box_sizes(level)) * (short / height, short / width)  # (boxes, 2)
        y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
        centre = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)  # (rows, columns, 2)
        centre = centre[:, :, None]
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=-1)
        found.append(boxes.reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


def box_sizes(level: int) -> list[tuple[float, float]]:
    """Return height and width of a level's boxes, in parts of the shorter side."""
    scale, next_scale = SCALES[level], SCALES[level + 1]
    shapes = [(scale, ratio) for ratio in RATIOS] + [(math.sqrt(scale * next_scale), 1.0)]
    return [
        (scale / math.sqrt(ratio), scale * math.sqrt(ratio))
        for scale, ratio in (_FIRST_LEVEL if level == 0 else shapes)
    ]
