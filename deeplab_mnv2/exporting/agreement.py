"""An exported file against the network it came from, on the same images."""

import dataclasses
import math
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from deeplab_mnv2.exporting.target import Network, Run, Target, found_boxes, outputs_of
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.tasks.detection.box_coding import overlaps

# Least share of pixels, of a classifier's images or of a detector's boxes that are the network's.
LEAST_AGREEMENT = {"float32": 0.999, "float16": 0.99, "int8": 0.9}
# A box is the same where no side of it is farther away, in pixels of the network's image; integers
# move boxes by more, and it is the same that overlaps enough.
_SAME_SIDE, _SAME_OVERLAP = 0.5, 0.5


@dataclasses.dataclass(frozen=True)
class Agreement:
    """`share` is that of the `number` answers that are the network's.

    Answers are the classes of pixels, or a classifier's of images, or boxes: each that either
    finds is one, and is the same with the same class and within half a pixel, of int8 where they
    overlap by a half. `logits` is the largest difference of logits, of scores with boxes; None
    where the file returns class ids. `seconds` is the median of a run.
    """

    share: float
    number: int
    logits: float | None
    seconds: float

    def suffices(self, precision: str) -> bool:
        """Return whether it is as much as the precision allows to expect.

        Rounded down to whole answers: of 32 images one may differ, which may be a tie.
        """
        least = math.floor(LEAST_AGREEMENT[precision] * self.number)
        return round(self.share * self.number) >= least


class _Compared(NamedTuple):
    same: np.ndarray
    difference: float


def compare(model: Network, run: Run, images: list[np.ndarray], target: Target) -> Agreement:
    """Run a file and its network on images (1, H, W, 3) uint8."""
    graphdef, state = nnx.split(model)

    @jax.jit
    def reference(state: nnx.State, image: Array) -> tuple[Array, ...]:
        return outputs_of(nnx.merge(graphdef, state), image, target)

    run(images[0])  # whatever a runtime does the first time
    compared, seconds = [], []
    for image in images:
        begin = time.perf_counter()
        found = run(image)
        seconds.append(time.perf_counter() - begin)
        expected = tuple(np.asarray(output) for output in reference(state, image))
        if isinstance(model, SSDLite) and target.box_rules:
            compared.append(_compare_boxes(found, found_boxes(expected), target))
        else:
            compared.append(_compare_classes(found, expected, target))
    same = np.concatenate([answer.same.ravel() for answer in compared])
    return Agreement(
        share=float(np.mean(same)) if same.size else 1.0,
        number=same.size,
        logits=None if target.argmax else max(answer.difference for answer in compared),
        seconds=float(np.median(seconds)),
    )


def _compare_classes(
    found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...], target: Target
) -> _Compared:
    """Compare logits or class ids; a detector's logits are the last output, behind its codes."""
    if target.argmax:
        return _Compared(found[0] == expected[0], 0.0)
    same = found[-1].argmax(axis=-1) == expected[-1].argmax(axis=-1)
    pairs = zip(found, expected, strict=True)
    return _Compared(same, max(float(np.abs(one - other).max()) for one, other in pairs))


def _compare_boxes(
    found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...], target: Target
) -> _Compared:
    """Compare boxes (D, 4), scores (D,) and labels (D,), whatever their order."""
    boxes, scores, labels = found
    same, difference = [], 0.0
    for box, score, label in zip(*expected, strict=True):
        if target.precision == "int8":
            distances = 1 - np.asarray(overlaps(jnp.asarray(box[None]), jnp.asarray(boxes)))[0]
            limit = 1 - _SAME_OVERLAP
        else:
            distances = np.abs(boxes - box).max(axis=1, initial=0) * max(target.size)
            limit = _SAME_SIDE
        distances = np.where(labels == label, distances, np.inf)
        nearest = int(np.argmin(distances)) if distances.size else -1
        is_same = nearest >= 0 and distances[nearest] <= limit
        same.append(is_same)
        if is_same:
            difference = max(difference, abs(float(scores[nearest] - score)))
    # What the file alone finds.
    same += [False] * max(0, len(boxes) - sum(same))
    return _Compared(np.array(same, bool), difference)
