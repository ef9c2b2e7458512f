"""Random networks with non-trivial norm statistics, for parity and round-trip tests."""

import dataclasses
import zlib

import numpy as np

from deeplab_mnv2.weights.model_weights import Weights, abstract_model, variables
from deeplab_mnv2.weights.naming import CONFIGS, Kind


def fill_value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a tensor drawn from a generator seeded by its name; activations stay near 1."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("kernel"):
        fan_in = np.prod(shape[:-1])
        return random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
    low, high = {"scale": (0.5, 1.5), "var": (0.5, 2.0)}.get(name.rpartition(".")[2], (-0.5, 0.5))
    return random.uniform(low, high, shape).astype(np.float32)


def random_weights(kind: Kind = "segmentation", **settings) -> Weights:
    """Return a random network of a config's shapes."""
    fields = {field.name for field in dataclasses.fields(CONFIGS[kind])}
    config = CONFIGS[kind](**{name: settings[name] for name in fields & settings.keys()})
    tensors = {
        name: fill_value(name, variable.shape)
        for name, variable in variables(abstract_model(config)).items()
    }
    return Weights(tensors, config, {"source": "random", "sha256": "0" * 64})


def relative_error(found, wanted) -> float:
    """Return the largest difference relative to the largest value."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    # For the table of parity figures: pytest -rP shows it.
    print(f"relative error {error:.1e}")
    return error
