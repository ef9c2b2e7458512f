"""Batches on their way through the devices while a data set is scored, whatever the task."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from deeplab_mnv2.sharding import batch_sharding

T = TypeVar("T")


def fitting_batch_size(batch_size: int, mesh: Mesh) -> int:
    """Return the size, rounded up to a multiple of the parts that a batch is split into."""
    parts = mesh.size // mesh.shape["space"]
    return -(-batch_size // parts) * parts


def placing(mesh: Mesh) -> Callable[[np.ndarray], Array]:
    """Return what places an array (B, ...) on the devices.

    Every host reads every image and hands over its devices' share of the batch, so that each image
    counts once however many hosts there are.
    """
    sharding = batch_sharding(mesh)
    return lambda array: jax.make_array_from_callback(
        array.shape, sharding, lambda index: array[index]
    )


def one_batch_late(
    run: Callable[[dict[str, Any]], T], batches: Iterable[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], T]]:
    """Yield each batch and what `run` makes of it, after the next one has begun.

    So the device computes while the host reads.
    """
    previous = None
    for batch in batches:
        found = run(batch)
        if previous is not None:
            yield previous
        previous = batch, found
    if previous is not None:
        yield previous


def rows_in_order(
    run: Callable[[dict[str, Any]], Any],
    batches: Iterable[dict[str, Any]],
    row_of: Callable[[dict[str, Any], Any, int], T],
    progress: Callable[[int], None] | None,
) -> list[T]:
    """Return what `row_of(batch, found, row)` makes of every image, in the data set's order.

    `found` is what `run` makes of a batch, fetched from the devices; `progress` gets the images
    done at a time.
    """
    rows: dict[int, T] = {}
    for batch, on_device in one_batch_late(run, batches):
        found = jax.device_get(on_device)
        for row, index in enumerate(batch["index"]):
            rows[index] = row_of(batch, found, row)
        if progress is not None:
            progress(len(batch["index"]))
    return [rows[index] for index in sorted(rows)]
