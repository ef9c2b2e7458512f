"""From a source of examples to batches: Grain for training, padded buckets for evaluation."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from deeplab_mnv2.config import IGNORE_LABEL, DataConfig, EvaluationConfig, ModelConfig, Source
from deeplab_mnv2.data.sampling import classes_present, repeat_rare
from deeplab_mnv2.data.transforms import augment, boundary_band, pad
from deeplab_mnv2.errors import UserError

Batch = dict[str, Any]


def mean_pixel(model: ModelConfig) -> tuple[int, ...]:
    """Return the grey levels that padding is filled with, the convention's mean rounded."""
    return tuple(int(value + 0.5) for value in model.image_mean)


def training_batches(
    source: Source,
    config: DataConfig,
    model: ModelConfig,
    *,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """Return an endless iterator of this process's share of the global batches.

    Batches hold `image` (b, crop, crop, 3) uint8, `label` (b, crop, crop) uint8, `name` (b,) and
    `damage` (b,), which says what was wrong with examples that another took the place of. Order and
    augmentation are a function of (seed, position) alone, whatever the number of threads,
    worker processes or hosts, so a run that goes on starts at `first_step`.

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
        present = classes_present(source, model.num_classes, config.threads)
        source = Chosen(source, repeat_rare(present, config.repeat_threshold, seed))
    dataset = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(_Augment(config, mean_pixel(model)))
    )
    # Each process takes its own run of the global batch: in the order of the devices it is the
    # batch of a single process, dropout and all.
    dataset = dataset.batch(batch_size // process_count, drop_remainder=True)
    dataset = dataset[process_index::process_count][first_step:]
    # Whole batches are what threads and workers compute, so their number cannot change them.
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
    config: EvaluationConfig,
    model: ModelConfig,
    *,
    threads: int,
    batch_size: int,
) -> Iterator[Batch]:
    """Yield batches that cover the source once, in few static shapes.

    `image` (b, S, S, 3) uint8 padded with the mean pixel, `label` (b, S, S) uint8 padded with
    255, `band` (b, S, S) uint8 (`boundary_band`), and lists `index`, `name` and `size` (h, w)
    of the examples; a short last batch is filled with unlabelled images that have no entry
    in the lists.
    """
    dataset = grain.MapDataset.source(_Indexed(source)).map(_PadToBucket(config, model))
    examples = dataset.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * threads, batch_size))
    )
    waiting: dict[int, list[dict[str, Any]]] = {}
    for example in examples:
        bucket = waiting.setdefault(example["image"].shape[0], [])
        bucket.append(example)
        if len(bucket) == batch_size:
            yield _collate(bucket, batch_size)
            bucket.clear()
    for bucket in waiting.values():
        if bucket:
            yield _collate(bucket, batch_size)


def bucket_side(height: int, width: int, config: EvaluationConfig, output_stride: int) -> int:
    """Return the smallest padding side that holds the image.

    Beyond the largest of `pad_sizes`, sides grow in steps of 512 pixels.
    """
    side = max(height, width)
    fitting = [size for size in config.pad_sizes if size >= side]
    if fitting:
        return min(fitting)
    step = 512 // output_stride * output_stride
    return -(-(side - 1) // step) * step + 1


def _collate(examples: list[dict[str, Any]], batch_size: int) -> Batch:
    batch: Batch = {key: [e[key] for e in examples] for key in ("index", "name", "size")}
    missing = batch_size - len(examples)
    for key in ("image", "label", "band"):
        stacked = np.stack([e[key] for e in examples])
        if missing:
            fill = IGNORE_LABEL if key == "label" else 0
            filler = np.full((missing, *stacked.shape[1:]), fill, stacked.dtype)
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
    """A source in which the next example that can be read takes the place of one that cannot.

    The same one each time, so that a run that goes on sees what it would have seen.
    """

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        damage = []
        for offset in range(len(self)):
            try:
                example = self.source[(int(index) + offset) % len(self)]
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
        return {**self.source[index], "index": int(index)}


@dataclasses.dataclass(frozen=True)
class _Augment(grain.transforms.RandomMap):
    config: DataConfig
    mean_pixel: tuple[int, ...]

    def random_map(  # pyright: ignore[reportIncompatibleMethodOverride] - declared as None
        self, element: Any, rng: np.random.Generator
    ) -> dict[str, Any]:
        image, label = augment(
            element["image"], element["label"], rng, self.config, self.mean_pixel
        )
        return {
            "image": image,
            "label": label,
            "name": element["name"],
            "damage": element.get("damage", ""),
        }


@dataclasses.dataclass(frozen=True)
class _PadToBucket(grain.transforms.Map):
    config: EvaluationConfig
    model: ModelConfig

    def map(  # pyright: ignore[reportIncompatibleMethodOverride] - declared as None
        self, element: Any
    ) -> dict[str, Any]:
        image, label = element["image"], element["label"]
        # Bands before padding: the frame's edge is not an object's boundary.
        band = boundary_band(label, self.config.boundary_widths)
        stride = self.config.output_stride or self.model.output_stride
        height, width = label.shape
        side = bucket_side(height, width, self.config, stride)
        padded_band = np.zeros((side, side), np.uint8)
        padded_band[:height, :width] = band
        image, label = pad(image, label, side, mean_pixel(self.model))
        return {
            "image": image,
            "label": label,
            "band": padded_band,
            "size": (height, width),
            "index": element["index"],
            "name": element["name"],
        }
