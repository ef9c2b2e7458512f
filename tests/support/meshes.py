"""Meshes over the fake devices."""

import jax
import numpy as np
from jax.sharding import AxisType

AXES = ("data", "fsdp", "space")


def mesh_of(data: int = 1, fsdp: int = 1, space: int = 1) -> jax.sharding.Mesh:
    """Return a mesh of the first devices."""
    devices = np.array(jax.devices()[: data * fsdp * space]).reshape(data, fsdp, space)
    return jax.sharding.Mesh(devices, AXES, axis_types=(AxisType.Auto,) * 3)
