"""TensorFlow checkpoints: TF-slim's MobileNetV2 and DeepLab, Model Garden's backbone."""

import re
from collections.abc import Mapping

import numpy as np

from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.files import open_checked, optional_module, reason
from deeplab_mnv2.weights.pytorch import IMAGENET_MEAN, IMAGENET_STD
from deeplab_mnv2.weights.tensors import BLOCKS, Weights, read_kind, read_width, rename

# What the trainer kept besides the network.
_TRAINING_STATE = re.compile(r"(/(RMSProp|RMSProp_1|Momentum|Adam|Adam_1)|global_step)$")
_AVERAGE = "/ExponentialMovingAverage"
# Model Garden's variables, optimizer slots excluded.
_MODEL_GARDEN = re.compile(
    r"(?:^|/)backbone/layer_with_weights-(\d+/_(?:conv|norm)\d/\w+)/\.ATTRIBUTES/VARIABLE_VALUE$"
)
# The paper's rates, at output stride 16; a checkpoint does not hold them.
_RATES = (6, 12, 18)


def read_checkpoint(prefix: str) -> Weights:
    """Return the weights of a checkpoint given by its prefix, such as `model.ckpt-30000`.

    Where the trainer kept moving averages of the weights, those are taken.

    Raises:
        UserError: the checkpoint is damaged or of another network.
    """
    tf = optional_module("tensorflow", extra="tensorflow")
    sha256 = open_checked(f"{prefix}.index")
    try:
        reader = tf.train.load_checkpoint(prefix)
        arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    # The reader passes on whatever its own reader of files raises.
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError) as error:
        raise UserError(
            f"{prefix} is damaged or no TensorFlow checkpoint ({reason(error)})."
        ) from error
    provenance = {"source": prefix, "sha256": sha256, "importer": "tensorflow"}
    if any(_MODEL_GARDEN.search(name) for name in arrays):
        return from_model_garden(arrays, provenance)
    return from_slim(arrays, provenance)


def from_slim(arrays: Mapping[str, np.ndarray], provenance: dict[str, str]) -> Weights:
    """Return the weights of TF-slim's variables."""
    source = provenance["source"]
    arrays = {name: a for name, a in arrays.items() if not _TRAINING_STATE.search(name)}
    averages = {k.removesuffix(_AVERAGE): a for k, a in arrays.items() if k.endswith(_AVERAGE)}
    arrays = {k: a for k, a in arrays.items() if not k.endswith(_AVERAGE)} | averages
    tensors = rename(arrays, _TABLE, _from_slim_layout, source)
    kind = read_kind(tensors)
    if kind != "classification":
        tensors = {name: a for name, a in tensors.items() if not name.startswith("head.")}
    width_multiplier, divisible_by = read_width(tensors, source)
    config = ModelConfig(
        in_channels=tensors["backbone.stem.conv.kernel"].shape[2],
        width_multiplier=width_multiplier,
        divisible_by=divisible_by,
        decoder="decoder.low_level.conv.kernel" in tensors,
        separable_aspp="aspp.branches.1.depthwise.conv.kernel" in tensors,
    )
    if kind != "segmentation":
        config.output_stride = 32
    if any(name.startswith("aspp.branches.1.") for name in tensors):
        config.atrous_rates = _RATES
    if kind != "backbone":
        config.num_classes = tensors["classifier.kernel"].shape[-1]
    return Weights(tensors, config, kind, provenance)


def from_model_garden(arrays: Mapping[str, np.ndarray], provenance: dict[str, str]) -> Weights:
    """Return the backbone in a checkpoint of Model Garden's `official/vision`.

    Its head cannot be taken along: there, the block that loses its stride is dilated at once,
    which is another network at output stride 16 and 8.
    """
    source = provenance["source"]
    found = {match[1]: a for name, a in arrays.items() if (match := _MODEL_GARDEN.search(name))}
    tensors = rename(found, _MODEL_GARDEN_TABLE, _from_slim_layout, source)
    tensors = {name: a for name, a in tensors.items() if not name.startswith("head.")}
    width_multiplier, divisible_by = read_width(tensors, source)
    config = ModelConfig(
        in_channels=tensors["backbone.stem.conv.kernel"].shape[2],
        output_stride=32,
        width_multiplier=width_multiplier,
        divisible_by=divisible_by,
        backbone_momentum=0.99,
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
    )
    return Weights(tensors, config, "backbone", provenance)


def _model_garden_table() -> dict[str, str]:
    """Return our name of each variable, given as number of the block, layer and variable."""
    names = {"0/_{}0": "backbone.stem", f"{1 + len(BLOCKS)}/_{{}}0": "head"}
    for number, block in enumerate(BLOCKS, start=1):
        for layer, part in enumerate(("expand", "depthwise", "project")):
            names[f"{number}/_{{}}{layer}"] = f"{block}.{part}"
    table = {}
    for layer, ours in names.items():
        kernel = "depthwise_kernel" if ours.endswith("depthwise") else "kernel"
        table |= {
            f"{layer.format('conv')}/{kernel}": f"{ours}.conv.kernel",
            f"{layer.format('norm')}/gamma": f"{ours}.norm.scale",
            f"{layer.format('norm')}/beta": f"{ours}.norm.bias",
            f"{layer.format('norm')}/moving_mean": f"{ours}.norm.mean",
            f"{layer.format('norm')}/moving_variance": f"{ours}.norm.var",
        }
    return table


def _table() -> dict[str, str]:
    names = {
        "MobilenetV2/Conv": "backbone.stem",
        "MobilenetV2/Conv_1": "head",
        "image_pooling": "aspp.image_pool",
        "aspp0": "aspp.branches.0",
        "concat_projection": "aspp.project",
        "decoder/feature_projection0": "decoder.low_level",
    }
    for number, block in enumerate(BLOCKS):
        scope = f"MobilenetV2/expanded_conv_{number}" if number else "MobilenetV2/expanded_conv"
        for part in ("expand", "depthwise", "project") if number else ("depthwise", "project"):
            names[f"{scope}/{part}"] = f"{block}.{part}"
    for number in range(1, 1 + len(_RATES)):
        names[f"aspp{number}"] = f"aspp.branches.{number}"
    separable = {f"aspp{number}": f"aspp.branches.{number}" for number in (1, 2, 3)}
    separable |= {f"decoder/decoder_conv{number}": f"decoder.refine.{number}" for number in (0, 1)}
    for scope, ours in separable.items():
        for part in ("depthwise", "pointwise"):
            names[f"{scope}_{part}"] = f"{ours}.{part}"
    table = {}
    for scope, ours in names.items():
        kernel = "depthwise_weights" if scope.endswith("depthwise") else "weights"
        table |= {
            f"{scope}/{kernel}": f"{ours}.conv.kernel",
            f"{scope}/BatchNorm/gamma": f"{ours}.norm.scale",
            f"{scope}/BatchNorm/beta": f"{ours}.norm.bias",
            f"{scope}/BatchNorm/moving_mean": f"{ours}.norm.mean",
            f"{scope}/BatchNorm/moving_variance": f"{ours}.norm.var",
        }
    for scope in ("logits/semantic", "MobilenetV2/Logits/Conv2d_1c_1x1"):
        table |= {
            f"{scope}/weights": "classifier.kernel",
            f"{scope}/biases": "classifier.bias",
        }
    return table


def _from_slim_layout(name: str, array: np.ndarray) -> np.ndarray:
    if name.endswith("depthwise.conv.kernel"):
        return array.transpose(0, 1, 3, 2)  # (k, k, C, 1) -> (k, k, 1, C)
    return array


_TABLE = _table()
_MODEL_GARDEN_TABLE = _model_garden_table()
