"""The mesh, and where batches and parameters are on it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deeplab_mnv2.config import TrainConfig
from deeplab_mnv2.errors import UserError

T = TypeVar("T")

# Parameters smaller than this gain nothing from being split.
_SMALLEST_SPLIT = 4096


def first_process_first(work: Callable[[], T]) -> T:
    """Run `work` in the first process, then in all others; return its result in each.

    For work that prepares files on a disk that the processes share, such as a download.
    """
    if jax.process_index() == 0:
        done = work()
        multihost_utils.sync_global_devices("first process")
        return done
    multihost_utils.sync_global_devices("first process")
    return work()


def make_mesh(config: TrainConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Return the mesh of all devices with axes `data`, `fsdp` and `space`.

    `devices` are those of a topology that is only compiled for. Auto axes: XLA inserts the halo
    exchange of `space` and the gathers of `fsdp`.

    Raises:
        UserError: `fsdp` times `space` does not divide the number of devices, or images would be
            split over processes.
    """
    count = jax.device_count() if devices is None else len(devices)
    split = config.fsdp * config.space
    if count % split:
        raise UserError(
            f"train.fsdp={config.fsdp} times train.space={config.space} does not divide the "
            f"{count} devices; choose factors of {count}."
        )
    mesh = jax.make_mesh(
        (count // split, config.fsdp, config.space),
        ("data", "fsdp", "space"),
        axis_types=(AxisType.Auto,) * 3,
        devices=devices,
    )
    processes = len({device.process_index for device in mesh.devices.flat})
    for image in mesh.devices.reshape(-1, config.space):
        # Each process reads examples of its own, so two of them cannot share an image.
        if len({device.process_index for device in image}) > 1:
            raise UserError(
                f"train.space={config.space} would split an image over processes; choose a divisor "
                f"of the {count // processes} devices of each."
            )
    return mesh


def require_divisible(config: TrainConfig, mesh: Mesh) -> None:
    """Check that training batches divide over the devices.

    Raises:
        UserError: they do not.
    """
    parts = mesh.size // mesh.shape["space"]
    if config.batch_size % (parts * config.accumulate):
        raise UserError(
            f"train.batch_size={config.batch_size} does not divide over {parts} devices and "
            f"train.accumulate={config.accumulate}; make it a multiple of "
            f"{parts * config.accumulate}."
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays (B, ...) by example; each host passes its own examples."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def split_rows(x: Array, mesh: Mesh) -> Array:
    """Place the rows of (B, H, ...) over `space`, inside a jitted function.

    Not as the function's `in_shardings`: sides are odd (a multiple of the stride plus one), and an
    odd number of rows can only be split inside a compiled program.
    """
    if mesh.shape["space"] == 1:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P(("data", "fsdp"), "space")))


def gather(params: T, mesh: Mesh) -> T:
    """Gather parameters that are split over `fsdp`, inside a jitted function, for their use.

    Left to itself, XLA splits channels of activations as their kernel is split, and exchanges
    those between layers: many times what all parameters hold.
    """
    if mesh.shape["fsdp"] == 1:
        return params
    return jax.lax.with_sharding_constraint(params, replicated(mesh))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of values that every device holds whole."""
    return NamedSharding(mesh, P())


def state_sharding(state: Any, mesh: Mesh) -> Any:
    """Return a sharding for each leaf of a (possibly abstract) state.

    Replicated where `fsdp` is 1. Otherwise the largest dimension that is a multiple of `fsdp` is
    split.
    """
    parts = mesh.shape["fsdp"]

    def place(leaf: Any) -> NamedSharding:
        if parts > 1 and leaf.size >= _SMALLEST_SPLIT:
            for axis in np.argsort(leaf.shape)[::-1]:
                if leaf.shape[axis] % parts == 0:
                    spec = [None] * leaf.ndim
                    spec[axis] = "fsdp"
                    return NamedSharding(mesh, P(*spec))
        return NamedSharding(mesh, P())

    return jax.tree.map(place, state)


def to_devices(array: np.ndarray, sharding: NamedSharding) -> Array:
    """Return the global array to which every process contributes its own examples."""
    return jax.make_array_from_process_local_data(sharding, array)
