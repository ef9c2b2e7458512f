"""Photographs read on threads, a group at a time."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from deeplab_mnv2.data.decode import Photo
from deeplab_mnv2.errors import UserError

T = TypeVar("T")


def read_groups(
    photos: Iterable[Photo],
    read: Callable[[Photo], T],
    size: int,
    on_error: Callable[[Photo, UserError], None] | None,
) -> Iterator[list[tuple[Photo, T]]]:
    """Yield up to `size` photographs at a time with what `read` makes of each, in order.

    A photograph that cannot be read is left out where `on_error` is given, which is called with it.

    Raises:
        UserError: a photograph cannot be read, where `on_error` is not given.
    """
    photos = iter(photos)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        while group := list(islice(photos, size)):
            jobs = [(photo, threads.submit(read, photo)) for photo in group]
            readable = []
            for photo, job in jobs:
                try:
                    readable.append((photo, job.result()))
                except UserError as error:
                    if on_error is None:
                        raise
                    on_error(photo, error)
            if readable:
                yield readable


def filled(images: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Return images (H, W, C) as a batch, a short one filled up to `size` with black ones.

    One size is compiled then, besides that of a single photograph, which stays alone.
    """
    missing = size - len(images) if len(images) > 1 else 0
    return np.pad(np.stack(images), [(0, missing), (0, 0), (0, 0), (0, 0)])
