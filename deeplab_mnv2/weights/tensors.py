"""Weights in memory, and the strict loader that every importer ends in."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx

from deeplab_mnv2.config import CONVENTION, PARTS, ModelConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.mobilenet_v2 import (
    STAGES,
    STEM_CHANNELS,
    Classifier,
    make_divisible,
)
from deeplab_mnv2.validation import validate_model

Kind = Literal["segmentation", "classification", "backbone"]

# The blocks of the backbone in order, as our tensors name them.
BLOCKS = tuple(
    f"backbone.stages.{stage}.{block}"
    for stage, (_, _, repeats, _) in enumerate(STAGES)
    for block in range(repeats)
)
# Convention fields that belong to the head; the rest belongs to the backbone.
_HEAD_FIELDS = ("separable_aspp", "head_channels", "decoder", "align_corners", "head_epsilon")


@dataclasses.dataclass
class Weights:
    """A trained network as arrays.

    `tensors` are float32, named as in `nnx.state(model)`: `backbone.stem.conv.kernel`.
    `provenance` tells where they come from: `source`, `sha256`, `importer`, where known
    `revision`, and `norm="folded"` where the source held no norm statistics: mean 0 and
    variance 1 then stand in, exact for inference; `calibrate` measures real ones.
    `class_names` are those of a segmentation network, () where nothing tells them.
    """

    tensors: dict[str, np.ndarray]
    config: ModelConfig
    kind: Kind
    provenance: dict[str, str]
    scores: dict[str, Any] | None = None
    class_names: tuple[str, ...] = ()


def number_classes(num_classes: int) -> tuple[str, ...]:
    """Return `class 0`, `class 1` and so on: what classes are called that nobody named."""
    return tuple(f"class {index}" for index in range(num_classes))


def from_model(
    model: DeepLab | Classifier, provenance: Mapping[str, str], class_names: Sequence[str] = ()
) -> Weights:
    """Return the weights of a model, copied to the host; its classes are numbered unless named."""
    tensors = {name: np.asarray(value[...]) for name, value in variables(model).items()}
    if isinstance(model, Classifier):
        return Weights(tensors, model.config, "classification", dict(provenance))
    names = tuple(class_names) or number_classes(model.config.num_classes)
    return Weights(tensors, model.config, "segmentation", dict(provenance), class_names=names)


def build(weights: Weights, *, output_stride: int = 0) -> DeepLab | Classifier:
    """Return the network of `weights`, ready for evaluation.

    `output_stride` 0 keeps the stride that the weights were published with.

    Raises:
        UserError: the weights are a bare backbone, or the stride is not 8, 16 or 32.
    """
    config = weights.config
    if output_stride:
        config = dataclasses.replace(config, output_stride=output_stride)
    if weights.kind == "backbone":
        raise UserError(
            f"{weights.provenance['source']} holds a backbone without a head; train from it "
            "with train.init_weights instead of evaluating it."
        )
    model = abstract_model(config, weights.kind)
    fill(model, weights)
    model.eval()
    return model


def build_deeplab(weights: Weights, *, output_stride: int = 0) -> DeepLab:
    """Return the segmentation network of `weights` (see `build`).

    Raises:
        UserError: they are a classifier's, or as `build`.
    """
    model = build(weights, output_stride=output_stride)
    if isinstance(model, Classifier):
        raise UserError(
            f"{weights.provenance['source']} holds an ImageNet classifier; open it with "
            "weights.load_classifier, or train a segmentation network from it with "
            "train.init_weights."
        )
    return model


def fill(model: DeepLab | Classifier, weights: Weights, parts: Sequence[str] = PARTS) -> list[str]:
    """Set the asked parts of `model` to `weights`, in place; return what to tell the user.

    Where only the number of classes differs, the logits keep the model's own values. Nothing
    is changed when an error is raised.

    Raises:
        UserError: a convention field differs, or a tensor within the parts is missing, left
            over or of another shape.
    """
    source = weights.provenance["source"]
    if unknown := [part for part in parts if part not in PARTS]:
        raise UserError(f"{unknown[0]!r} is no part of the network; choose from {PARTS}.")
    _compare_conventions(model, weights, parts)
    wanted = {name: v for name, v in variables(model).items() if _part(name) in parts}
    given = {name: a for name, a in weights.tensors.items() if _part(name) in parts}
    messages = []
    kernel, given_kernel = wanted.get("classifier.kernel"), given.get("classifier.kernel")
    if kernel is not None and given_kernel is not None:
        same_features = kernel.shape[:-1] == given_kernel.shape[:-1]
        if same_features and kernel.shape != given_kernel.shape:
            messages.append(
                f"The logits start afresh: {source} has {given_kernel.shape[-1]} classes, "
                f"the model {kernel.shape[-1]}."
            )
            for tensors in (wanted, given):
                for name in ("kernel", "bias"):
                    tensors.pop(f"classifier.{name}", None)
    _compare_shapes({name: v.shape for name, v in wanted.items()}, given, source)
    for name, variable in wanted.items():
        variable.set_value(jnp.asarray(given[name]))
    return messages


def check(weights: Weights) -> Weights:
    """Return `weights` after checking them against the network their config describes.

    Raises:
        UserError: a setting is out of range, a tensor is missing, left over, of another shape
            or not finite, or the names are not as many as the classes.
    """
    source = weights.provenance["source"]
    config = weights.config
    if weights.kind == "classification":
        # ImageNet has more classes than a label image can hold.
        config = dataclasses.replace(config, num_classes=2)
    validate_model(config)
    kind = "segmentation" if weights.kind == "backbone" else weights.kind
    shapes = {name: v.shape for name, v in variables(abstract_model(weights.config, kind)).items()}
    if weights.kind == "backbone":
        shapes = {name: shape for name, shape in shapes.items() if _part(name) == "backbone"}
    _compare_shapes(shapes, weights.tensors, source)
    for name, array in weights.tensors.items():
        if not np.isfinite(array).all():
            raise UserError(f"{source} is damaged: {name} holds values that are not finite.")
    names = weights.class_names
    if names and len(names) != config.num_classes:
        raise UserError(
            f"{source} names {_count(len(names), 'class', 'classes')}, but its network has "
            f"{config.num_classes}."
        )
    return weights


def abstract_model(config: ModelConfig, kind: str) -> DeepLab | Classifier:
    """Return the network with shapes for arrays, which costs no memory."""
    # Copies: a key must not change, and the variables are filled for one caller alone.
    return nnx.merge(*_abstract_state(dataclasses.replace(config), kind), copy=True)


@functools.lru_cache(maxsize=8)
def _abstract_state(config: ModelConfig, kind: str) -> tuple[nnx.GraphDef, nnx.State]:
    """Trace the network once a config: checking and building both need it."""
    network = Classifier if kind == "classification" else DeepLab
    return nnx.split(nnx.eval_shape(lambda: network(config, rngs=nnx.Rngs(0))))


def rename(
    arrays: Mapping[str, np.ndarray],
    table: Mapping[str, str],
    layout: Callable[[str, np.ndarray], np.ndarray],
    source: str,
) -> dict[str, np.ndarray]:
    """Return a file's arrays under our names, each passed through `layout(our name, array)`.

    Raises:
        UserError: an array is in no row of `table`.
    """
    if unknown := sorted(arrays.keys() - table.keys()):
        raise UserError(
            f"{source} holds {_count(len(unknown), 'tensor')} of another network: "
            f"{_first(unknown)}."
        )
    found = {}
    for name, array in arrays.items():
        try:
            found[table[name]] = np.ascontiguousarray(layout(table[name], array), np.float32)
        except ValueError as error:
            # A tensor of other axes than the layout turns round.
            raise UserError(
                f"{source} does not fit the network: {name} has the shape {array.shape}."
            ) from error
    return found


def read_width(tensors: Mapping[str, np.ndarray], source: str) -> tuple[float, int]:
    """Return `width_multiplier` and `divisible_by` of a backbone from its tensor shapes.

    Published widths are multiples of 0.05 rounded to 8 or, in TensorFlow DeepLab, to 1.

    Raises:
        UserError: no width gives these channels.
    """
    layers = ["backbone.stem", *(f"{block}.project" for block in BLOCKS)]
    try:
        found = [tensors[f"{layer}.conv.kernel"].shape[-1] for layer in layers]
    except KeyError as error:
        raise UserError(f"{source} is not a MobileNetV2: it has no {error.args[0]}.") from error
    # The hundredths come second: where several widths round to the same channels, the
    # published one is the rounder.
    for steps in (20, 100):
        for divisible_by in (8, 1, 2, 4, 16, 32):
            for step in range(1, 4 * steps + 1):
                if _channels(step / steps, divisible_by) == found:
                    return step / steps, divisible_by
    raise UserError(
        f"{source} is not a MobileNetV2 of any width: its stages have {found} channels."
    )


def read_kind(tensors: Mapping[str, np.ndarray]) -> Kind:
    """Return what the tensors make up, from the parts that are there."""
    parts = {_part(name) for name in tensors}
    if "aspp" in parts:
        return "segmentation"
    return "classification" if "classifier" in parts else "backbone"


def unfolded(epsilon: float, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Return the norm layer that adds `bias` and does nothing else."""
    ones = np.ones_like(bias, np.float32)
    return {
        "scale": ones * np.sqrt(np.float32(1 + epsilon)),
        "bias": bias.astype(np.float32),
        "mean": np.zeros_like(ones),
        "var": ones,
    }


def variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """Return parameters and norm statistics by dotted name."""
    found = (nnx.Param, nnx.BatchStat)
    return {
        ".".join(map(str, path)): variable
        for path, variable in nnx.iter_graph(model)
        if isinstance(variable, found)
    }


def _part(name: str) -> str:
    return name.partition(".")[0]


def _channels(width: float, divisible_by: int) -> list[int]:
    """Return the output channels of the stem and of every block."""
    base = [STEM_CHANNELS] + [c for _, c, repeats, _ in STAGES for _ in range(repeats)]
    return [make_divisible(channels * width, divisible_by) for channels in base]


def _compare_conventions(
    model: DeepLab | Classifier, weights: Weights, parts: Sequence[str]
) -> None:
    ours, theirs = model.config, weights.config
    fields = [name for name in CONVENTION if name not in _HEAD_FIELDS]
    # A width may be written in two ways: at width 1 rounding to 8 and to 1 are one network.
    if _channels(ours.width_multiplier, ours.divisible_by) == _channels(
        theirs.width_multiplier, theirs.divisible_by
    ):
        fields = [name for name in fields if name not in ("width_multiplier", "divisible_by")]
    if isinstance(model, DeepLab) and set(parts) - {"backbone"}:
        fields += [name for name in _HEAD_FIELDS if name != "separable_aspp" or ours.atrous_rates]
    for name in fields:
        if weights.kind != "segmentation" and name in _HEAD_FIELDS:
            continue
        if getattr(ours, name) != getattr(theirs, name):
            raise UserError(
                f"{weights.provenance['source']} was trained with model.{name}="
                f"{getattr(theirs, name)!r}, but the model has {getattr(ours, name)!r}; "
                "set it to the file's."
            )


def _compare_shapes(
    wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, np.ndarray], source: str
) -> None:
    missing = sorted(wanted.keys() - given.keys())
    left_over = sorted(given.keys() - wanted.keys())
    different = [
        f"{name} is {given[name].shape}, not {wanted[name]}"
        for name in sorted(wanted.keys() & given.keys())
        if given[name].shape != wanted[name]
    ]
    differences = [
        f"{_count(len(names), 'tensor')} {what} ({_first(names)})"
        for names, what in (
            (missing, "missing"),
            (left_over, "left over"),
            (different, "of another shape"),
        )
        if names
    ]
    if differences:
        raise UserError(f"{source} does not fit the network: {'; '.join(differences)}.")


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
