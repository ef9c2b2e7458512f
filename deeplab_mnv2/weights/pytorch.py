"""State dicts of torchvision, timm and transformers: told apart by their names."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import reason
from deeplab_mnv2.models.mobilenet_v2 import STAGES
from deeplab_mnv2.weights.model_weights import Weights
from deeplab_mnv2.weights.naming import BLOCKS, CONFIGS, read_kind, read_width, rename

# torchvision's and timm's, in grey levels.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def from_torchvision(arrays: Mapping[str, np.ndarray], provenance: dict[str, str]) -> Weights:
    """Return the weights of torchvision's `mobilenet_v2`, of any width.

    Its predecessor (tonylins/pytorch-mobilenet-v2 and what came from it) counts the layers of a
    block one by one, activations too: `conv.0` to `conv.7` for `conv.0.0` to `conv.3`.
    """
    counts_activations = "features.1.conv.0.weight" in arrays
    table = layer_rows("features.0.0", "features.0.1", "backbone.stem")
    for number, block in enumerate(BLOCKS, start=1):
        layers = ("expand", "depthwise", "project") if number > 1 else ("depthwise", "project")
        for index, layer in enumerate(layers):
            conv, norm = f"{index}.0", f"{index}.1"
            if counts_activations:
                conv, norm = f"{3 * index}", f"{3 * index + 1}"
            elif layer == "project":
                conv, norm = f"{index}", f"{index + 1}"
            prefix = f"features.{number}.conv"
            table |= layer_rows(f"{prefix}.{conv}", f"{prefix}.{norm}", f"{block}.{layer}")
    table |= layer_rows("features.18.0", "features.18.1", "head")
    table |= {"classifier.1.weight": "classifier.kernel", "classifier.1.bias": "classifier.bias"}
    importer = "pytorch" if counts_activations else "torchvision"
    return _from_torch(arrays, table, {}, {**provenance, "importer": importer})


def from_timm(
    arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any], provenance: dict[str, str]
) -> Weights:
    """Return the weights of timm's `mobilenetv2_*`; `settings` is its config.json or empty."""
    table = layer_rows("conv_stem", "bn1", "backbone.stem")
    for stage, (expansion, _, repeats, _) in enumerate(STAGES):
        # The layers of a block and what timm calls them where it expands and where not.
        names = (("conv_pw", "expand"), ("conv_dw", "depthwise"), ("conv_pwl", "project"))
        if expansion == 1:
            names = (("conv_dw", "depthwise"), ("conv_pw", "project"))
        for block in range(repeats):
            for number, (conv, layer) in enumerate(names, start=1):
                prefix = f"blocks.{stage}.{block}"
                table |= layer_rows(
                    f"{prefix}.{conv}",
                    f"{prefix}.bn{number}",
                    f"backbone.stages.{stage}.{block}.{layer}",
                )
    table |= layer_rows("conv_head", "bn2", "head")
    table |= {"classifier.weight": "classifier.kernel", "classifier.bias": "classifier.bias"}
    return _from_torch(arrays, table, settings, {**provenance, "importer": "timm"})


def layer_rows(conv: str, norm: str, layer: str) -> dict[str, str]:
    """Return the rows of a table that name one convolution with its norm."""
    return {
        f"{conv}.weight": f"{layer}.conv.kernel",
        f"{norm}.weight": f"{layer}.norm.scale",
        f"{norm}.bias": f"{layer}.norm.bias",
        f"{norm}.running_mean": f"{layer}.norm.mean",
        f"{norm}.running_var": f"{layer}.norm.var",
    }


def from_torch_layout(name: str, array: np.ndarray) -> np.ndarray:
    """Return a PyTorch array in Flax's layout."""
    if not name.endswith("kernel"):
        return array
    if array.ndim == 2:
        return array.T[None, None]  # (O, I) -> (1, 1, I, O)
    return array.transpose(2, 3, 1, 0)  # (O, I, k, k) -> (k, k, I, O)


def without_counters(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays without PyTorch's count of the batches that norm has seen."""
    return {k: array for k, array in arrays.items() if not k.endswith("num_batches_tracked")}


def _from_torch(
    arrays: Mapping[str, np.ndarray],
    table: Mapping[str, str],
    settings: Mapping[str, Any],
    provenance: dict[str, str],
) -> Weights:
    source = provenance["source"]
    tensors = rename(without_counters(arrays), table, from_torch_layout, source)
    kind = read_kind(tensors)
    if kind == "backbone":
        tensors = {name: a for name, a in tensors.items() if not name.startswith("head.")}
    width_multiplier, divisible_by = read_width(tensors, source)
    config: Any = CONFIGS[kind](
        in_channels=tensors["backbone.stem.conv.kernel"].shape[2],
        output_stride=32,
        width_multiplier=width_multiplier,
        divisible_by=divisible_by,
        padding="symmetric",
        backbone_epsilon=1e-5,
        backbone_momentum=0.9,
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
    )
    published, scaling = settings.get("pretrained_cfg", {}), {}
    try:
        if "mean" in published and "std" in published:
            config.image_mean = tuple(255.0 * value for value in published["mean"])
            config.image_std = tuple(255.0 * value for value in published["std"])
        if kind == "classification":
            scaling = _scaling(published)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(
            f"pretrained_cfg in config.json of {source} has no mean and std, or no size, of the "
            f"images ({reason(error)}); fetch the file again."
        ) from error
    if kind == "classification":
        config.num_classes = tensors["classifier.kernel"].shape[-1]
    return Weights(tensors, config, provenance, scaling=scaling)


def _scaling(published: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a pretrained_cfg scales and crops images, {} where it does not say so."""
    if not {"input_size", "crop_pct", "interpolation"} <= published.keys():
        return {}
    _, height, width = published["input_size"]
    interpolation = published["interpolation"]
    if height != width or interpolation not in ("bilinear", "bicubic"):
        return {}
    # Rounded as timm does it: the crop is a share of the shorter side.
    return {
        "resize": int(height / published["crop_pct"]),
        "crop_size": height,
        "interpolation": interpolation,
    }
