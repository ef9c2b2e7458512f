"""What a run starts from: which parts of a weights file fit, and what the user reads."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from deeplab_mnv2 import weights
from deeplab_mnv2.config import CONVENTION, PARTS, BackboneConfig, Config, Source
from deeplab_mnv2.data.pipeline import training_batches
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.task import Task
from deeplab_mnv2.weights.activation_ranges import measure_ranges
from deeplab_mnv2.weights.channels import adapt_to_channels
from deeplab_mnv2.weights.model_weights import Weights, number_classes, variables
from deeplab_mnv2.weights.naming import part_of

_CALIBRATION_BATCHES, _CALIBRATION_IMAGES = 8, 4
_OF_THE_BACKBONE = {field.name for field in dataclasses.fields(BackboneConfig)}
# What the head must have in common with the file's, besides the names of the classes.
_OF_THE_HEAD = (
    "num_classes",
    "atrous_rates",
    *(name for name in CONVENTION if name not in _OF_THE_BACKBONE),
)


def load_initial_weights(model: Any, config: Config, task: Task, source: Source) -> list[str]:
    """Load `train.init_weights` into `model`, in place; return what to tell the user.

    The parts are those of `train.init_parts`; where that is empty, all of them if the file is of
    this task and its head fits, and otherwise the backbone.

    Raises:
        UserError: the file cannot be read, or a part that is asked for does not fit.
    """
    found, said = weights.read(config.train.init_weights), []
    if found.config.in_channels == 3 != model.config.in_channels:
        found = adapt_to_channels(found, model.config)
        said.append(
            f"the stem's kernels for red, green and blue serve {model.config.in_channels} channels"
        )
    parts, reason = config.train.init_parts, "not named in train.init_parts"
    if not parts:
        reason = _why_other_head(model.config, found, config.data.train.class_names)
        parts = ("backbone",) if reason else PARTS
    fresh = weights.fill(model, found, parts)
    messages = [_describe(model, found, parts, reason, bool(fresh)), *said, *fresh]
    if found.provenance.get("norm") == "folded":
        # The file's norm is folded into its kernels. Training normalises by the batch, so it
        # needs statistics that belong to the network: measured here, the function unchanged.
        # A head that starts at random learns from the batches' own.
        weights.calibrate(model, _images(model, config, task, source), parts=parts)
        messages.append("norm statistics measured on training images: the weights hold none")
    if config.model.quantized and not found.config.quantized:
        measure_ranges(model, _images(model, config, task, source))
        messages.append("ranges of activations measured on training images: the weights hold none")
    return messages


def _images(model: Any, config: Config, task: Task, source: Source) -> Iterator[jax.Array]:
    """Yield some batches of training images, normalised."""
    batches = training_batches(
        source,
        config.data,
        task.augment,
        num_classes=config.model.num_classes,
        batch_size=_CALIBRATION_IMAGES,
        seed=config.train.seed,
    )
    for _ in range(_CALIBRATION_BATCHES):
        yield model.normalize(next(batches)["image"])


def _describe(
    model: Any, found: Weights, parts: Sequence[str], reason: str, own_logits: bool
) -> str:
    """Return which parts of a network were taken from a file, and which were not and why."""
    source = found.provenance["source"]
    present = {part_of(name) for name in variables(model)}
    own = [part for part in PARTS if part in present]
    taken = [part for part in own if part in parts and not (own_logits and part == "classifier")]
    if not taken:
        raise UserError(
            f"train.init_parts={tuple(parts)} takes nothing of {source}; name some of "
            f"{', '.join(own)}."
        )
    left = [part for part in own if part not in parts]
    if not left:
        return f"took the {_listed(taken)} of {source}"
    verb = "start" if len(left) > 1 else "starts"
    return f"took the {_listed(taken)} of {source}; {_listed(left)} {verb} at random: {reason}"


def _why_other_head(ours: BackboneConfig, found: Weights, class_names: Sequence[str]) -> str:
    """Return why the head of a file does not fit a network, "" where it does."""
    theirs = found.config
    if type(theirs) is not type(ours):
        return f"the file holds a {found.kind} network"
    for name in _OF_THE_HEAD:
        wanted, given = getattr(ours, name, None), getattr(theirs, name, None)
        # Without rates there is nothing that could be separable.
        unused = name == "separable_aspp" and not getattr(ours, "atrous_rates", ())
        if wanted == given or unused:
            continue
        if name == "num_classes":
            return f"the file has {given} classes, this run {wanted}"
        return f"the file has model.{name}={given!r}, this run {wanted!r}"
    names = found.class_names
    if tuple(names) in ((), number_classes(ours.num_classes)):
        return ""
    for index, (given, wanted) in enumerate(zip(names, class_names, strict=True)):
        if _plain(given) != _plain(wanted):
            return (
                f"class {index} is {given!r} in the file and {wanted!r} in this run (parts that "
                "train.init_parts names are taken all the same)"
            )
    return ""


def _plain(name: str) -> str:
    """Return the name of a class without what differs between spellings of it."""
    return re.sub(r"[\s_-]", "", name.casefold())


def _listed(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
