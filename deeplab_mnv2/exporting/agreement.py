"""An exported file against the network it came from, on the same images."""

import dataclasses
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from deeplab_mnv2.exporting.target import Network, Run, Target, logits_of

# Least share of pixels, for a classifier of images, with the network's own class.
LEAST_AGREEMENT = {"float32": 0.999, "float16": 0.99, "int8": 0.9}


@dataclasses.dataclass(frozen=True)
class Agreement:
    """`share` is that of pixels, for a classifier of images, with the same class, of `number`.

    `logits` is the largest difference, None where the file returns class ids; `seconds` is the
    median of a run.
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


def compare(model: Network, run: Run, images: list[np.ndarray], target: Target) -> Agreement:
    """Run a file and its network on images (1, H, W, 3) uint8."""
    graphdef, state = nnx.split(model)

    @jax.jit
    def reference(state: nnx.State, image: Array) -> Array:
        network = nnx.merge(graphdef, state)
        return logits_of(network, network.normalize(image), target).astype(jnp.float32)

    run(images[0])  # whatever a runtime does the first time
    same, logits, seconds = [], [], []
    for image in images:
        begin = time.perf_counter()
        found = run(image)
        seconds.append(time.perf_counter() - begin)
        expected = np.asarray(reference(state, image))
        label = found if target.argmax else found.argmax(axis=-1)
        same.append(label == expected.argmax(axis=-1))
        if not target.argmax:
            logits.append(np.abs(found - expected).max())
    return Agreement(
        share=float(np.mean(same)),
        number=np.size(same),
        logits=float(max(logits)) if logits else None,
        seconds=float(np.median(seconds)),
    )
