"""From a source of examples to batches: Grain for training, buckets of one shape for scoring."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import numpy as np
from absl import flags

from deeplab_mnv2.config import InputConfig, Source
from deeplab_mnv2.data.sampling import classes_present, repeat_rare
from deeplab_mnv2.errors import UserError

Batch = dict[str, Any]
Augment = Callable[[Mapping[str, Any], np.random.Generator], dict[str, Any]]
Prepare = Callable[[Mapping[str, Any]], dict[str, Any]]


def training_batches(
    source: Source,
    config: InputConfig,
    augment: Augment,
    *,
    num_classes: int,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Return an endless iterator of this process's share of the global batches.

    Batches hold what `augment` returns of each example, stacked (b, ...), `name` (b,) and
    `damage` (b,): the error messages of examples that were replaced. A share `config.mixed` of
    the examples comes with another one of the source, `other`. Order and augmentation are a
    function of (seed, position) alone, whatever the number of threads, worker processes or
    hosts, so a resumed run starts at `first_step`.

    Raises:
        UserError: the source is empty.
    """
    if not len(source):
        raise UserError("The training split holds no examples; check data.train.")
    if config.damaged == "skip":
        source = _Tolerant(source)
    if config.train_examples:
        source = Chosen(source, np.arange(min(config.train_examples, len(source))))
    if config.repeat_threshold:
        present = classes_present(source, num_classes, config.threads)
        repeated = repeat_rare(present, config.repeat_threshold, config.repeat_power, seed)
        source = Chosen(source, repeated)
    dataset = grain.MapDataset.source(source).seed(seed).shuffle()
    if config.repeated_augmentation > 1:
        dataset = _InARow(dataset, config.repeated_augmentation)
    dataset = dataset.repeat().random_map(_Augment(augment, source, config.mixed))
    # Process i reads the i-th contiguous part of every global batch, so that the parts together
    # equal the batch of a single process, dropout masks included.
    dataset = dataset.batch(batch_size // process_count, drop_remainder=True)
    dataset = dataset[process_index::process_count][first_step:]
    # Threads and workers compute whole batches, so the result does not depend on how many there
    # are.
    iterator = dataset.to_iter_dataset(
        grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.threads + 1)
    )
    if config.workers:
        if not flags.FLAGS.is_parsed():
            # Grain passes its flags on to the workers; outside a command nobody parsed any.
            flags.FLAGS.mark_as_parsed()
        iterator = iterator.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=2)
        )
    return iter(iterator)


def evaluation_batches(
    source: Source,
    prepare: Prepare,
    *,
    threads: int,
    batch_size: int,
    fill: Mapping[str, int],
) -> Iterator[Batch]:
    """Yield batches that cover the source once, each of examples of one shape.

    `prepare` returns what is to be scored, `image` among its arrays; it runs on the reader
    threads. Arrays are stacked (b, ...), all else is a list, as are `index` and `name`. A short
    last batch is filled up with arrays of `fill` (0 where it names none), which have no entry in
    the lists.
    """
    dataset = grain.MapDataset.source(_Indexed(source)).map(_Prepare(prepare))
    examples = dataset.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * threads, batch_size))
    )
    waiting: dict[tuple[int, ...], list[dict[str, Any]]] = {}
    for example in examples:
        bucket = waiting.setdefault(example["image"].shape, [])
        bucket.append(example)
        if len(bucket) == batch_size:
            yield _collate(bucket, batch_size, fill)
            bucket.clear()
    for bucket in waiting.values():
        if bucket:
            yield _collate(bucket, batch_size, fill)


def _collate(examples: list[dict[str, Any]], batch_size: int, fill: Mapping[str, int]) -> Batch:
    batch: Batch = {}
    missing = batch_size - len(examples)
    for key, first in examples[0].items():
        values = [example[key] for example in examples]
        if not isinstance(first, np.ndarray):
            batch[key] = values
            continue
        stacked = np.stack(values)
        if missing:
            filler = np.full((missing, *first.shape), fill.get(key, 0), first.dtype)
            stacked = np.concatenate([stacked, filler])
        batch[key] = stacked
    return batch


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The examples of a source that `indices` names, in that order."""

    source: Source
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.source[int(self.indices[index])]


@dataclasses.dataclass(frozen=True)
class _Tolerant:
    """A source that replaces an unreadable example by the next readable one.

    Always the same one, so that a resumed run sees the same data.
    """

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        first = range(len(self))[index]  # an IndexError beyond the end
        damage = []
        for offset in range(len(self)):
            try:
                example = self.source[(first + offset) % len(self)]
            except UserError as error:
                damage.append(str(error))
            else:
                return {**example, "damage": " ".join(damage)}
        raise UserError(f"No example of the training split can be read; the first: {damage[0]}")


@dataclasses.dataclass(frozen=True)
class _Indexed:
    """A source whose examples know their index."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = range(len(self))[index]  # an IndexError beyond the end
        return {**self.source[place], "index": place}


class _InARow(grain.MapDataset):
    """A data set each of whose examples comes several times in a row."""

    def __init__(self, parent: grain.MapDataset, times: int):
        super().__init__(parent)
        self._times = times

    def __len__(self) -> int:
        return len(self._parent) * self._times

    def __getitem__(self, index: int | slice) -> Any:
        # Beyond the end, which is the next epoch, the parent counts on.
        return self.slice(index) if isinstance(index, slice) else self._parent[index // self._times]


@dataclasses.dataclass(frozen=True)
class _Augment(grain.transforms.RandomMap):
    augment: Augment
    # Of these comes `other`, with a share of the examples.
    source: Source
    mixed: float

    def random_map(  # pyright: ignore[reportIncompatibleMethodOverride] - declared as None
        self, element: Any, rng: np.random.Generator
    ) -> dict[str, Any]:
        damage = [element.get("damage", "")]
        if self.mixed and rng.random() < self.mixed:
            other = self.source[int(rng.integers(len(self.source)))]
            damage.append(other.get("damage", ""))
            element = {**element, "other": other}
        augmented = self.augment(element, rng)
        return {**augmented, "name": element["name"], "damage": " ".join(filter(None, damage))}


@dataclasses.dataclass(frozen=True)
class _Prepare(grain.transforms.Map):
    prepare: Prepare

    def map(  # pyright: ignore[reportIncompatibleMethodOverride] - declared as None
        self, element: Any
    ) -> dict[str, Any]:
        return {
            **self.prepare(element),
            "index": element["index"],
            "name": element["name"],
        }
