"""Weights in memory, and how they are set on a model: strictly, for every importer."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from deeplab_mnv2.config import CONVENTION, PARTS, BackboneConfig, ClassifierConfig, DeepLabConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.backbone import make_backbone
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.weights.naming import (
    CONFIGS,
    Kind,
    backbone_channels,
    counted,
    part_of,
    shortened,
)

# Convention fields that belong to the head; the rest belongs to the backbone.
_HEAD_FIELDS = ("separable_aspp", "head_channels", "decoder", "align_corners", "head_epsilon")


@dataclasses.dataclass
class Weights:
    """A trained network as arrays.

    `tensors` are float32, named as in `nnx.state(model)`: `backbone.stem.conv.kernel`.
    `provenance` tells where they come from: `source`, `sha256`, `importer`, where known
    `revision`, and `norm="folded"` where the source held no norm statistics: mean 0 and
    variance 1 then stand in, exact for inference; `calibrate` measures real ones. Of a run it
    tells the `checkpoint`, a step, in place of a digest.
    `class_names` are () where nothing tells them. `scaling` is how the images of a classifier are
    scaled and cropped, by the names of `ClassificationEvaluationConfig`; {} where nothing tells.
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


def from_model(
    model: DeepLab | Classifier, provenance: Mapping[str, str], class_names: Sequence[str] = ()
) -> Weights:
    """Return the weights of a model, copied to the host; its classes are numbered unless named."""
    tensors = {name: np.asarray(value[...]) for name, value in variables(model).items()}
    names = tuple(class_names) or number_classes(model.config.num_classes)
    return Weights(tensors, model.config, dict(provenance), class_names=names)


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
    model = abstract_model(config)
    fill(model, weights)
    model.eval()
    return model


def build_classifier(weights: Weights) -> Classifier:
    """Return the classifier of `weights` (see `build`).

    Raises:
        UserError: they are another network's, or as `build`.
    """
    model = build(weights)
    if not isinstance(model, Classifier):
        raise UserError(
            f"{weights.provenance['source']} holds a {weights.kind} network and no classifier; "
            "open it with weights.load."
        )
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
    wanted = {name: v for name, v in variables(model).items() if part_of(name) in parts}
    given = {name: a for name, a in weights.tensors.items() if part_of(name) in parts}
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
            case _:
                return Headless(config, rngs=nnx.Rngs(0))

    return nnx.split(nnx.eval_shape(build))


def variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """Return parameters and norm statistics by dotted name."""
    found = (nnx.Param, nnx.BatchStat)
    return {
        ".".join(map(str, path)): variable
        for path, variable in nnx.iter_graph(model)
        if isinstance(variable, found)
    }


def _compare_conventions(
    model: DeepLab | Classifier, weights: Weights, parts: Sequence[str]
) -> None:
    ours, theirs = model.config, weights.config
    fields = [name for name in CONVENTION if name not in _HEAD_FIELDS]
    # A width may be written in two ways: at width 1 rounding to 8 and to 1 are one network.
    widths = [
        backbone_channels(config.width_multiplier, config.divisible_by, config.version)
        for config in (ours, theirs)
    ]
    if widths[0] == widths[1]:
        fields = [name for name in fields if name not in ("width_multiplier", "divisible_by")]
    if isinstance(model, DeepLab) and set(parts) - {"backbone"}:
        head = [n for n in _HEAD_FIELDS if n != "separable_aspp" or model.config.atrous_rates]
        fields += head
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
