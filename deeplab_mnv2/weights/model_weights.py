"""Weights in memory, and how they are set on a model: strictly, for every importer."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from deeplab_mnv2.config import (
    CONVENTION,
    PARTS,
    BackboneConfig,
    ClassifierConfig,
    DeepLabConfig,
    SsdLiteConfig,
)
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.backbone import make_backbone
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.weights.naming import (
    CONFIGS,
    Kind,
    backbone_channels,
    counted,
    is_logits,
    is_range,
    part_of,
    shortened,
)

Network = DeepLab | Classifier | SSDLite
N = TypeVar("N", DeepLab, Classifier, SSDLite)
T = TypeVar("T")
# Convention fields that belong to a head; the rest belongs to the backbone.
_OF_THE_BACKBONE = {field.name for field in dataclasses.fields(BackboneConfig)}
_HEAD_FIELDS = tuple(name for name in CONVENTION if name not in _OF_THE_BACKBONE)


@dataclasses.dataclass
class Weights:
    """A trained network as arrays.

    `tensors` are float32, named as in `nnx.state(model)`: `backbone.stem.conv.kernel`.
    `provenance` tells where they come from: `source`, `sha256`, `importer`, where known
    `revision`, and `norm="folded"` where the source held no norm statistics: mean 0 and
    variance 1 then stand in, exact for inference; `calibrate` measures real ones. Of a run it
    tells the `checkpoint`, a step, in place of a digest.
    `class_names` are those of the network's classes, a detector's without background; () where
    nothing tells them. `scaling` is how the images of a classifier are scaled and cropped, by the
    names of `ClassificationEvaluationConfig`; {} where nothing tells.
    """

    tensors: dict[str, np.ndarray]
    config: BackboneConfig
    provenance: dict[str, str]
    scores: dict[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    scaling: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What the network is for, by the type of its config."""
        return next(kind for kind, config in CONFIGS.items() if type(self.config) is config)


def weights_digest(params: nnx.State, batch_stats: nnx.State) -> str:
    """Return 16 hex digits over every tensor, in the order of their names."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((params, batch_stats)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def number_classes(num_classes: int) -> tuple[str, ...]:
    """Return `class 0`, `class 1` and so on: what classes are called that nobody named."""
    return tuple(f"class {index}" for index in range(num_classes))


def named_classes(class_names: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Return the names of a network's classes, which are numbered unless named.

    Raises:
        UserError: they are not as many as the classes.
    """
    names = tuple(class_names) or number_classes(num_classes)
    if len(names) != num_classes:
        raise UserError(
            f"{len(names)} class names are given, but the network has {num_classes} classes; name "
            "each of them, a segmentation network's background first."
        )
    return names


def from_model(
    model: Network, provenance: Mapping[str, str], class_names: Sequence[str] = ()
) -> Weights:
    """Return the weights of a model, copied to the host; its classes are numbered unless named."""
    tensors = {name: np.asarray(value[...]) for name, value in variables(model).items()}
    names = tuple(class_names) or number_classes(model.config.num_classes)
    return Weights(tensors, model.config, dict(provenance), class_names=names)


def build(weights: Weights, *, output_stride: int = 0) -> Network:
    """Return the network of `weights`, ready for evaluation.

    `output_stride` 0 keeps the stride that the weights were published with.

    Raises:
        UserError: the weights are a bare backbone, or the stride is none of the network's.
    """
    config = weights.config
    if output_stride:
        config = dataclasses.replace(config, output_stride=output_stride)
    if weights.kind == "backbone":
        raise UserError(
            f"{weights.provenance['source']} holds a backbone without a head; train from it "
            "with train.init_weights instead of evaluating it."
        )
    model = abstract_model(config)
    fill(model, weights)
    model.eval()
    return model


def build_deeplab(weights: Weights, *, output_stride: int = 0) -> DeepLab:
    """Return the segmentation network of `weights` (see `build`).

    Raises:
        UserError: they are of another network, or as `build`.
    """
    return _build_as(DeepLab, "segmentation", weights, output_stride)


def build_classifier(weights: Weights) -> Classifier:
    """Return the classifier of `weights` (see `build`).

    Raises:
        UserError: they are of another network, or as `build`.
    """
    return _build_as(Classifier, "classification", weights)


def build_detector(weights: Weights) -> SSDLite:
    """Return the detector of `weights` (see `build`).

    Raises:
        UserError: they are of another network, or as `build`.
    """
    return _build_as(SSDLite, "detection", weights)


def _build_as(network: type[N], kind: Kind, weights: Weights, output_stride: int = 0) -> N:
    _require_kind(weights, kind)
    model = build(weights, output_stride=output_stride)
    assert isinstance(model, network)
    return model


def _require_kind(weights: Weights, wanted: Kind) -> None:
    network = {
        "segmentation": ("a segmentation network", "load"),
        "classification": ("an ImageNet classifier", "load_classifier"),
        "detection": ("a detector", "load_detector"),
    }
    # What a backbone lacks is told by `build`.
    if weights.kind in network and weights.kind != wanted:
        holds, load = network[weights.kind]
        raise UserError(
            f"{weights.provenance['source']} holds {holds} and no network of {wanted}; train from "
            f"it with train.init_weights, or open it with weights.{load}."
        )


def fill(model: Network, weights: Weights, parts: Sequence[str] = PARTS) -> list[str]:
    """Set the asked parts of `model` to `weights`, in place; return what to tell the user.

    Where only the number of classes differs, the logits keep the model's own values, of a
    detector those of the classes; ranges of activations are left out where one of the two has
    none. Nothing is changed when an error is raised.

    Raises:
        UserError: a convention field differs, or a tensor within the parts is missing, left
            over or of another shape.
    """
    source = weights.provenance["source"]
    if unknown := [part for part in parts if part not in PARTS]:
        raise UserError(f"{unknown[0]!r} is no part of the network; choose from {PARTS}.")
    _compare_conventions(model, weights, parts)
    both_have_ranges = model.config.quantized == weights.config.quantized

    def is_asked(name: str) -> bool:
        return part_of(name) in parts and (both_have_ranges or not is_range(name))

    wanted = {name: v for name, v in variables(model).items() if is_asked(name)}
    given = {name: a for name, a in weights.tensors.items() if is_asked(name)}
    messages = []
    ours, theirs = model.config.num_classes, weights.config.num_classes
    logits = _class_logits(wanted, given)
    if ours != theirs and logits:
        messages.append(
            f"The logits start afresh: {source} has {counted(theirs, 'class', 'classes')}, the "
            f"model {ours}."
        )
        for tensors in (wanted, given):
            for layer in logits:
                tensors.pop(f"{layer}.kernel", None)
                tensors.pop(f"{layer}.bias", None)
    _compare_shapes({name: v.shape for name, v in wanted.items()}, given, source)
    for name, variable in wanted.items():
        variable.set_value(jnp.asarray(given[name]))
    return messages


def _class_logits(wanted: Mapping[str, nnx.Variable], given: Mapping[str, np.ndarray]) -> list[str]:
    """Return the layers of class logits that two networks share, but for the classes."""
    layers = [name.removesuffix(".kernel") for name in wanted if name.endswith(".kernel")]
    return [
        layer
        for layer in layers
        if is_logits(layer)
        and part_of(layer) in ("classifier", "class_heads")
        and f"{layer}.kernel" in given
        and wanted[f"{layer}.kernel"].shape[:-1] == given[f"{layer}.kernel"].shape[:-1]
    ]


def check(weights: Weights) -> Weights:
    """Return `weights` after checking them against the network their config describes.

    Raises:
        UserError: a setting is out of range, a tensor is missing, left over, of another shape
            or not finite, or the names are not as many as the classes.
    """
    source = weights.provenance["source"]
    config = weights.config
    config.check()
    shapes = {name: v.shape for name, v in variables(abstract_model(config)).items()}
    _compare_shapes(shapes, weights.tensors, source)
    for name, array in weights.tensors.items():
        if not np.isfinite(array).all():
            raise UserError(f"{source} is damaged: {name} holds values that are not finite.")
    names, classes = weights.class_names, config.num_classes
    if names and len(names) != classes:
        raise UserError(
            f"{source} names {counted(len(names), 'class', 'classes')}, but its network has "
            f"{classes}."
        )
    return weights


class Headless(nnx.Module):
    """A bare backbone, whose tensors are named as in a network with a head."""

    def __init__(self, config: BackboneConfig, *, rngs: nnx.Rngs):
        self.backbone = make_backbone(config, rngs=rngs)


def abstract_model(config: BackboneConfig) -> Any:
    """Return the network of a config with shapes for arrays, which costs no memory."""
    # Copies: a key must not change, and the variables are filled for one caller alone.
    return nnx.merge(*_abstract_state(dataclasses.replace(config)), copy=True)


@functools.lru_cache(maxsize=8)
def _abstract_state(config: BackboneConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """Trace the network once a config: checking and building both need it."""

    def build() -> nnx.Module:
        match config:
            case DeepLabConfig():
                return DeepLab(config, rngs=nnx.Rngs(0))
            case ClassifierConfig():
                return Classifier(config, rngs=nnx.Rngs(0))
            case SsdLiteConfig():
                return SSDLite(config, rngs=nnx.Rngs(0))
            case _:
                return Headless(config, rngs=nnx.Rngs(0))

    return nnx.split(nnx.eval_shape(build))


def variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """Return parameters and norm statistics by dotted name."""
    return nodes(model, (nnx.Param, nnx.BatchStat))


def nodes(model: nnx.Module, kind: type[T] | tuple[type[T], ...]) -> dict[str, T]:
    """Return the modules, or the variables, of a kind by dotted name."""
    return {
        ".".join(map(str, path)): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, kind)
    }


def _compare_conventions(model: Network, weights: Weights, parts: Sequence[str]) -> None:
    ours, theirs = model.config, weights.config
    fields = [name for name in CONVENTION if name not in _HEAD_FIELDS]
    # A width may be written in two ways: at width 1 rounding to 8 and to 1 are one network.
    widths = [
        backbone_channels(config.width_multiplier, config.divisible_by, config.version)
        for config in (ours, theirs)
    ]
    if widths[0] == widths[1]:
        fields = [name for name in fields if name not in ("width_multiplier", "divisible_by")]
    # Heads of one kind; without rates there is nothing that could be separable.
    if type(ours) is type(theirs) and set(parts) - {"backbone", "head"}:
        fields += [
            name
            for name in _HEAD_FIELDS
            if hasattr(ours, name)
            and (name != "separable_aspp" or getattr(ours, "atrous_rates", ()))
        ]
    for name in fields:
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
        f"{counted(len(names), 'tensor')} {what} ({shortened(names)})"
        for names, what in (
            (missing, "missing"),
            (left_over, "left over"),
            (different, "of another shape"),
        )
        if names
    ]
    if differences:
        raise UserError(f"{source} does not fit the network: {'; '.join(differences)}.")
