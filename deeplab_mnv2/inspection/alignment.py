"""Do labels lie on their images: edges of the one on edges of the other?"""

from collections.abc import Sequence

import cv2
import numpy as np

# Ways in which labels go wrong together, when a tool flips or pads images but not their labels.
_MIRRORED = ("mirrored left to right", "upside down", "turned by half")
_SHIFTED = ("shifted down", "shifted up", "shifted to the right", "shifted to the left")
# How far labels are shifted to try, as share of the longer side, and in pixels at least.
_SHIFT, _LEAST_SHIFT = 0.03, 3
# Side of the square that edges are blurred over: outlines are drawn beside the edge, and VOC has a
# band of five unlabelled pixels there.
_BLUR = 7
# Fewer examples show nothing; more edges under labels by this factor, in so many standard errors.
_EXAMPLES, _FACTOR, _ERRORS = 8, 1.1, 4.0


def edges_under_label(image: np.ndarray, label: np.ndarray) -> np.ndarray | None:
    """Return how strong an image's edges are below the label's, for the label as it is and moved.

    Of `image` (H, W, bands) and `label` (H, W); relative to the image's edges everywhere, in the
    order of no change and `misplaced`'s. None where the label has no edge or the image none.
    """
    grey = image.astype(np.float32).mean(axis=-1)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    strength = cv2.blur(strength, (_BLUR, _BLUR))
    edges = np.zeros(label.shape, bool)
    edges[1:] |= label[1:] != label[:-1]
    edges[:, 1:] |= label[:, 1:] != label[:, :-1]
    if not edges.any() or not strength.any():
        return None
    step = max(_LEAST_SHIFT, round(_SHIFT * max(label.shape)))
    moved = [edges, edges[:, ::-1], edges[::-1], edges[::-1, ::-1]]
    moved += [np.roll(edges, by, axis) for axis in (0, 1) for by in (-step, step)]
    return np.array([strength[way].mean() for way in moved]) / strength.mean()


def misplaced(found: Sequence[np.ndarray]) -> str:
    """Return in words how the labels of many examples lie wrong, "" where they lie well.

    `found` is what `edges_under_label` returned of each. A single label proves nothing, but where
    another place fits better over all of them, it is no chance.
    """
    if len(found) < _EXAMPLES:
        return ""
    logs = np.log(np.maximum(np.stack(found), 1e-6))
    gains = logs[:, 1:] - logs[:, :1]  # (examples, ways)
    mean = gains.mean(axis=0)
    errors = mean / np.maximum(gains.std(axis=0, ddof=1) / np.sqrt(len(gains)), 1e-6)
    best = int(np.argmax(mean))
    if mean[best] < np.log(_FACTOR) or errors[best] < _ERRORS:
        return ""
    return (*_MIRRORED, *_SHIFTED)[best]
