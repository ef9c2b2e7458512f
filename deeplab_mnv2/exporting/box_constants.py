"""What decoding needs to know of the anchors, computed once for every runtime."""

from typing import NamedTuple

import numpy as np

from deeplab_mnv2.tasks.detection.anchors import anchors
from deeplab_mnv2.tasks.detection.box_coding import CODE_SCALES


class BoxConstants(NamedTuple):
    """A box is `centres + shifts * shift_units`, and reaches to both sides by
    `exp(stretches * stretch_units) * half_sizes`; shifts and stretches are two codes each.
    """

    centres: np.ndarray  # (A, 2) float32, as all
    shift_units: np.ndarray  # (A, 2)
    half_sizes: np.ndarray  # (A, 2)
    stretch_units: np.ndarray  # (2,)


def box_constants(size: tuple[int, int]) -> BoxConstants:
    """Return the constants of the anchors of images (H, W)."""
    low, high = np.split(anchors(*size), 2, axis=-1)
    scales = np.array(CODE_SCALES, np.float32)
    return BoxConstants(
        centres=(low + high) / 2,
        shift_units=(high - low) / scales[:2],
        half_sizes=(high - low) / 2,
        stretch_units=1 / scales[2:],
    )
