"""StableHLO: the JAX program itself, for any batch, on CPU, CUDA and TPU."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, export

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.target import (
    Network,
    Run,
    Target,
    check_any_size,
    found_boxes,
    outputs_of,
)
from deeplab_mnv2.models.deeplab import DeepLab

PLATFORMS = ("cpu", "cuda", "tpu")


def build(model: Network, target: Target) -> bytes:
    """Return a serialised `jax.export` program of images (B, H, W, 3) uint8 RGB.

    For segmentation H and W are any multiples of 32 plus one, for other tasks the target's.
    It returns float32 logits, or with `argmax` class ids: uint8, a classifier's int32. A detector
    returns `Detected`, as a tuple (see `tasks.detection.decoding`), or codes and logits.
    Normalisation is inside, as the format has no place to write it down. Read it with
    `jax.export.deserialize(content).call(images)`.

    Raises:
        UserError: the target asks for another precision than float32, or for a size that the
            program does not take, or the network pools over a window of a fixed size.
    """
    if target.precision != "float32":
        raise UserError("StableHLO files are float32; set --precision float32.")
    shape = "b, {}, {}".format(*target.size)
    if isinstance(model, DeepLab) or target.any_size:
        check_any_size(model, target, "stablehlo")
        shape = "b, 32*h + 1, 32*w + 1"
    graphdef, state = nnx.split(model)

    def forward(images: Array) -> tuple[Array, ...] | Array:
        first, *others = outputs_of(nnx.merge(graphdef, state), images, target)
        return (first, *others) if others else first

    images = export.symbolic_shape(f"{shape}, {model.config.in_channels}")
    program = export.export(jax.jit(forward), platforms=PLATFORMS)
    return bytes(program(jax.ShapeDtypeStruct(images, jnp.uint8)).serialize())


def load(content: bytes, model: Network) -> Run:
    """Return the file's content as a function."""
    program = jax.jit(export.deserialize(bytearray(content)).call)

    def run(image: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = tuple(np.asarray(output) for output in jax.tree.leaves(program(image)))
        # Boxes come with their number.
        return found_boxes(outputs) if len(outputs) == 4 else outputs

    return run
