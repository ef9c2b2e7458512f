"""transformers' MobileNetV2, both ways, and fetching from the Hugging Face hub."""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from deeplab_mnv2.config import IGNORE_LABEL, ModelConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import optional_module, reason
from deeplab_mnv2.models.classifier import CLASSIFIER_CHANNELS
from deeplab_mnv2.models.mobilenet_v2 import (
    STAGES,
    STEM_CHANNELS,
    make_divisible,
)
from deeplab_mnv2.weights.model_weights import Weights, check, number_classes
from deeplab_mnv2.weights.naming import BLOCKS, CONFIGS, read_kind, read_width, rename
from deeplab_mnv2.weights.pytorch import from_torch_layout, layer_rows, without_counters

# Settings with which transformers builds another network than ours.
_FIXED = {"expand_ratio": 6.0, "first_layer_is_expansion": True, "hidden_act": "relu6"}


def from_hugging_face(
    arrays: Mapping[str, np.ndarray],
    settings: Mapping[str, Any],
    processor: Mapping[str, Any],
    provenance: dict[str, str],
) -> Weights:
    """Return the weights of `MobileNetV2For...` or of the bare `MobileNetV2Model`.

    `settings` is its config.json, `processor` its preprocessor_config.json; where either is
    empty, the values are transformers' defaults.

    Raises:
        UserError: a setting or a tensor is not one of this family.
    """
    source = provenance["source"]
    for name, value in _FIXED.items():
        if settings.get(name, value) != value:
            raise UserError(
                f"{source} has {name}={settings[name]!r} in its config.json; only {value!r} "
                "is MobileNetV2 as published."
            )
    arrays = {name.removeprefix("mobilenet_v2."): a for name, a in without_counters(arrays).items()}
    tensors = rename(arrays, _TABLE, from_torch_layout, source)
    kind = read_kind(tensors)
    if kind != "classification":
        # transformers stores the classifier's 1280 channels also where nothing reads them.
        tensors = {name: a for name, a in tensors.items() if not name.startswith("head.")}
    width_multiplier, divisible_by = read_width(tensors, source)
    in_channels = tensors["backbone.stem.conv.kernel"].shape[2]
    try:
        config: Any = CONFIGS[kind](
            in_channels=in_channels,
            output_stride=int(settings.get("output_stride", 32)),
            width_multiplier=width_multiplier,
            divisible_by=divisible_by,
            padding="same" if settings.get("tf_padding", True) else "symmetric",
            backbone_epsilon=float(settings.get("layer_norm_eps", 1e-3)),
            image_mean=_grey_levels(processor, "image_mean", in_channels),
            image_std=_grey_levels(processor, "image_std", in_channels),
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(
            f"A number in config.json or preprocessor_config.json of {source} is none "
            f"({reason(error)}); fetch them again."
        ) from error
    if kind != "backbone":
        config.num_classes = tensors["classifier.kernel"].shape[-1]
    return Weights(
        tensors,
        config,
        {**provenance, "importer": "hugging_face"},
        class_names=()
        if kind == "backbone"
        else _class_names(settings, config.num_classes, source),
        scaling=_scaling(processor) if kind == "classification" else {},
    )


def to_hugging_face(weights: Weights, folder: str | os.PathLike[str]) -> None:
    """Write a folder that transformers' `MobileNetV2ForSemanticSegmentation` loads.

    Raises:
        UserError: transformers has no such network, or the folder cannot be written.
    """
    check(weights)
    config: Any = weights.config
    _check_expressible(weights)
    # The width-1280 layer after the features, which segmentation computes but never reads.
    channels = make_divisible(CLASSIFIER_CHANNELS * max(1.0, config.width_multiplier), 8)
    features = weights.tensors["backbone.stages.6.0.project.conv.kernel"].shape[-1]
    unused = {
        "head.conv.kernel": np.zeros((1, 1, features, channels), np.float32),
        **{f"head.norm.{name}": np.ones(channels, np.float32) for name in ("scale", "var")},
        **{f"head.norm.{name}": np.zeros(channels, np.float32) for name in ("bias", "mean")},
    }
    ours = {**unused, **weights.tensors}
    arrays = {}
    for theirs, name in _TABLE.items():
        if name not in ours or theirs in ("classifier.weight", "classifier.bias"):
            continue
        array = ours[name]
        if name.endswith("kernel"):
            array = array.transpose(3, 2, 0, 1)  # (k, k, I, O) -> (O, I, k, k)
        prefix = "" if theirs.startswith("segmentation_head.") else "mobilenet_v2."
        arrays[prefix + theirs] = np.ascontiguousarray(array)
        if theirs.endswith("running_mean"):
            counter = f"{prefix}{theirs.removesuffix('running_mean')}num_batches_tracked"
            arrays[counter] = np.zeros((), np.int64)
    files = {
        "config.json": json.dumps(_settings(weights), indent=2).encode(),
        "preprocessor_config.json": json.dumps(_processor(config), indent=2).encode(),
        "model.safetensors": safetensors.numpy.save(arrays, {"format": "pt"}),
    }
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target) as temporary:
            for name, content in files.items():
                (Path(temporary) / name).write_bytes(content)
            for name in files:
                os.replace(Path(temporary) / name, target / name)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); choose another place."
        ) from error


def fetch(address: str) -> tuple[Path, str]:
    """Return the cached folder and the commit of `hf://owner/name[@revision]`.

    Raises:
        UserError: the address is malformed, unknown, or cannot be reached and is not cached.
    """
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address)
    if match is None:
        raise UserError(f"{address} is no hub address; write hf://owner/name or ...@revision.")
    hub = optional_module("huggingface_hub", extra="hf")
    repository, revision = match.groups()
    wanted = ["config.json", "preprocessor_config.json", "model.safetensors"]
    try:
        folder = Path(hub.snapshot_download(repository, revision=revision, allow_patterns=wanted))
        if not (folder / "model.safetensors").exists():
            wanted = ["pytorch_model.bin"]
            hub.snapshot_download(repository, revision=revision, allow_patterns=wanted)
    except Exception as error:
        # The hub's client raises its own, its HTTP library's and the system's errors.
        raise UserError(
            f"{address} cannot be fetched ({reason(error)}); check the name and the "
            "network, or give a local folder."
        ) from error
    return folder, folder.name


def _table() -> dict[str, str]:
    """Return our name of each of transformers' tensors, prefix `mobilenet_v2.` removed."""
    names = {
        "conv_stem.first_conv": "backbone.stem",
        "conv_stem.conv_3x3": "backbone.stages.0.0.depthwise",
        "conv_stem.reduce_1x1": "backbone.stages.0.0.project",
        "conv_1x1": "head",
        "segmentation_head.conv_pool": "aspp.image_pool",
        "segmentation_head.conv_aspp": "aspp.branches.0",
        "segmentation_head.conv_projection": "aspp.project",
    }
    for number, block in enumerate(BLOCKS[1:]):
        names |= {
            f"layer.{number}.expand_1x1": f"{block}.expand",
            f"layer.{number}.conv_3x3": f"{block}.depthwise",
            f"layer.{number}.reduce_1x1": f"{block}.project",
        }
    table = {
        "classifier.weight": "classifier.kernel",
        "classifier.bias": "classifier.bias",
        "segmentation_head.classifier.convolution.weight": "classifier.kernel",
        "segmentation_head.classifier.convolution.bias": "classifier.bias",
    }
    for theirs, ours in names.items():
        table |= layer_rows(f"{theirs}.convolution", f"{theirs}.normalization", ours)
    return table


_TABLE = _table()


def _class_names(settings: Mapping[str, Any], num_classes: int, source: str) -> tuple[str, ...]:
    """Return the labels of a config.json, () where they are missing or transformers' own."""
    labels = settings.get("id2label", {})
    if not isinstance(labels, dict):
        raise UserError(
            f"id2label in config.json of {source} names no classes; fetch the file again."
        )
    names = tuple(str(labels.get(str(index), "")) for index in range(num_classes))
    is_named = all(names) and not all(name.startswith("LABEL_") for name in names)
    return names if is_named else ()


def _scaling(processor: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a preprocessor_config.json scales and crops images, {} where it does not say so.

    It says so by the shorter side after scaling and the side of the square that is cut out.
    """
    size, crop = processor.get("size"), processor.get("crop_size")
    if isinstance(size, dict):
        size = size.get("shortest_edge")
    if isinstance(crop, dict) and crop.get("height") == crop.get("width"):
        crop = crop.get("height")
    if not (isinstance(size, int) and isinstance(crop, int) and 0 < crop <= size):
        return {}
    # Pillow's numbers.
    interpolation = {2: "bilinear", 3: "bicubic"}.get(processor.get("resample", 2))
    return {"resize": size, "crop_size": crop, "interpolation": interpolation}


def _grey_levels(processor: Mapping[str, Any], name: str, in_channels: int) -> tuple[float, ...]:
    """Return mean or std, which transformers applies after rescaling, in grey levels."""
    values = processor.get(name) or (0.5,) * in_channels
    if not processor.get("do_normalize", True):
        values = (0.0 if name == "image_mean" else 1.0,) * in_channels
    is_rescaled = processor.get("do_rescale", True)
    factor = processor.get("rescale_factor", 1 / 255) if is_rescaled else 1
    return tuple(float(value) / factor for value in values)


def _settings(weights: Weights) -> dict[str, Any]:
    config: Any = weights.config
    labels = weights.class_names or number_classes(config.num_classes)
    return {
        "architectures": ["MobileNetV2ForSemanticSegmentation"],
        "model_type": "mobilenet_v2",
        "num_channels": config.in_channels,
        "depth_multiplier": config.width_multiplier,
        "depth_divisible_by": config.divisible_by,
        "min_depth": config.divisible_by,
        "output_stride": config.output_stride,
        "tf_padding": config.padding == "same",
        "finegrained_output": True,
        "layer_norm_eps": config.backbone_epsilon,
        "classifier_dropout_prob": config.dropout,
        "semantic_loss_ignore_index": IGNORE_LABEL,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        **_FIXED,
    }


def _processor(config: ModelConfig) -> dict[str, Any]:
    return {
        "image_processor_type": "MobileNetV2ImageProcessor",
        # Pad to a multiple of the output stride plus one instead, as this package does.
        "do_resize": False,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in config.image_mean],
        "image_std": [value / 255 for value in config.image_std],
    }


def _check_expressible(weights: Weights) -> None:
    """Refuse a network that transformers cannot build."""
    config, source = weights.config, weights.provenance["source"]
    if weights.kind != "segmentation":
        raise UserError(f"{source} holds no segmentation network, which is what is converted.")
    for name, value in (
        ("version", 2),
        ("atrous_rates", ()),
        ("decoder", False),
        ("linear_bottleneck", True),
        ("shortcut", "bottleneck"),
        ("head_channels", 256),
        ("head_epsilon", 1e-5),
        ("image_pool_crop", 0),
    ):
        if getattr(config, name) != value:
            raise UserError(
                f"transformers has no network with model.{name}={getattr(config, name)!r}, "
                f"only with {value!r}; {source} cannot be converted."
            )
    # transformers rounds before it divides, and rounds the expanded width by the same divisor.
    multiplier, divisor = config.width_multiplier, config.divisible_by
    base = [STEM_CHANNELS] + [c for _, c, repeats, _ in STAGES for _ in range(repeats)]
    layers = ["backbone.stem", *(f"{block}.project" for block in BLOCKS)]
    wanted = {
        layer: make_divisible(round(channels * multiplier), divisor)
        for layer, channels in zip(layers, base, strict=True)
    }
    outputs = list(wanted.values())
    wanted |= {
        f"{block}.expand": make_divisible(6 * inputs, divisor)
        for block, inputs in zip(BLOCKS[1:], outputs[1:], strict=False)
    }
    for layer, channels in wanted.items():
        if weights.tensors[f"{layer}.conv.kernel"].shape[-1] != channels:
            raise UserError(
                f"transformers rounds {layer} to {channels} channels at width {multiplier} "
                f"with divisible_by {divisor}; {source} cannot be converted."
            )
