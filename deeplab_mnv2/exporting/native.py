"""Our own weights file, by way of the importer's package."""

import dataclasses
import tempfile
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jax import Array

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.target import Run, Target

_NAME = "weights.safetensors"


def build(source: weights.Weights, target: Target) -> bytes:
    """Return a safetensors file with the config, provenance and scores of `source`.

    Raises:
        UserError: the target asks for int8, or for an output of its own.
    """
    if target.precision == "int8":
        raise UserError("Weights files are float32 or float16; set --format litert for int8.")
    if target.argmax or not target.resize:
        raise UserError("A weights file holds no output; leave --argmax and --noresize out.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, _NAME)
        named = dataclasses.replace(source, class_names=target.class_names)
        weights.save(path, named, half=target.precision == "float16")
        return path.read_bytes()


def load(content: bytes) -> Run:
    """Return the network in a file's content as a function."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, _NAME)
        path.write_bytes(content)
        graphdef, state = nnx.split(weights.load(str(path)))

    @jax.jit
    def run(state: nnx.State, image: Array) -> Array:
        model = nnx.merge(graphdef, state)
        return model(model.normalize(image))

    return lambda image: np.asarray(run(state, image))
