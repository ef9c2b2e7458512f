"""Keras files of `keras.applications.MobileNetV2`, of Keras 2 and 3."""

import io
import zipfile
import zlib
from typing import Any

import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import LARGEST_BYTES, optional_module, reason
from deeplab_mnv2.weights.model_weights import Weights
from deeplab_mnv2.weights.naming import BLOCKS, CONFIGS, read_kind, read_width, rename

# The variables of a layer in the order in which Keras 3 numbers them.
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_CONV = ("kernel", "bias")
# What damage raises besides, in h5py and in the archive around it.
_OTHER_DAMAGE = (OverflowError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def read_keras(path: str, provenance: dict[str, str]) -> Weights:
    """Return the weights of a .h5, .weights.h5 or .keras file, with or without the top.

    Raises:
        UserError: the file is damaged or of another network.
    """
    h5py = optional_module("h5py", extra="keras")
    try:
        with h5py.File(_open(path), "r") as file:
            arrays = _arrays(h5py, file, path)
    # h5py reports damage as any of these, depending on where it is.
    except (OSError, LookupError, ValueError, RuntimeError, *_OTHER_DAMAGE) as error:
        raise UserError(
            f"{path} is damaged or not a Keras file ({reason(error)}); save it again."
        ) from error
    tensors = rename(arrays, _TABLE, _from_keras_layout, path)
    kind = read_kind(tensors)
    if kind == "backbone":
        tensors = {name: a for name, a in tensors.items() if not name.startswith("head.")}
    width_multiplier, divisible_by = read_width(tensors, path)
    config: Any = CONFIGS[kind](
        in_channels=tensors["backbone.stem.conv.kernel"].shape[2],
        output_stride=32,
        width_multiplier=width_multiplier,
        divisible_by=divisible_by,
        backbone_momentum=0.999,
    )
    if kind == "classification":
        config.num_classes = tensors["classifier.kernel"].shape[-1]
    return Weights(tensors, config, {**provenance, "importer": "keras"})


def _open(path: str) -> Any:
    """Return what h5py opens: the path, or the weights inside a .keras archive."""
    if not path.lower().endswith(".keras"):
        return path
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("model.weights.h5")
        if member.file_size > LARGEST_BYTES:
            raise UserError(f"{path} unpacks to more than any network of this family has.")
        return io.BytesIO(archive.read(member))


def _arrays(h5py: Any, file: Any, path: str) -> dict[str, np.ndarray]:
    """Return the variables as `layer/variable`, whichever Keras wrote them."""
    arrays = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or not np.issubdtype(item.dtype, np.floating):
            return
        if name.startswith(("optimizer", "_optimizer")):
            return
        if item.size * 4 > LARGEST_BYTES:
            raise UserError(f"{path} holds {name} of shape {item.shape}, too large to be real.")
        *folders, variable = name.split("/")
        if folders[-1] == "vars":
            # Keras 3: layers/conv2d_7/vars/0. The layer's own name is an attribute of the
            # folder, except in older files, where only the order of creation is left.
            kind = folders[-2]
            layer = item.parent.attrs.get("name") or _ORDER.get(kind, kind)
            norm = kind.startswith("batch_normalization")
            variable = (_NORM if norm else _CONV)[int(variable)]
        else:
            layer = folders[-1]
        arrays[f"{layer}/{variable.removesuffix(':0')}"] = item[()]

    file.get("model_weights", file).visititems(visit)
    return arrays


def _layers() -> list[tuple[str, str, str]]:
    """Return (Keras's convolution, Keras's norm, our layer) in order of creation."""
    layers = [("Conv1", "bn_Conv1", "backbone.stem")]
    for number, block in enumerate(BLOCKS):
        prefix = f"block_{number}" if number else "expanded_conv"
        for part in ("expand", "depthwise", "project") if number else ("depthwise", "project"):
            layers.append((f"{prefix}_{part}", f"{prefix}_{part}_BN", f"{block}.{part}"))
    return [*layers, ("Conv_1", "Conv_1_bn", "head")]


def _table() -> dict[str, str]:
    table = {
        "predictions/kernel": "classifier.kernel",
        "predictions/bias": "classifier.bias",
    }
    for conv, norm, ours in _layers():
        table |= {
            f"{conv}/kernel": f"{ours}.conv.kernel",
            # Keras 2's name for it.
            f"{conv}/depthwise_kernel": f"{ours}.conv.kernel",
            f"{norm}/gamma": f"{ours}.norm.scale",
            f"{norm}/beta": f"{ours}.norm.bias",
            f"{norm}/moving_mean": f"{ours}.norm.mean",
            f"{norm}/moving_variance": f"{ours}.norm.var",
        }
    return table


def _order() -> dict[str, str]:
    """Return Keras 3's numbered name of each layer, such as `conv2d_7`."""
    names: dict[str, list[str]] = {"dense": ["predictions"]}
    for conv, norm, _ in _layers():
        kind = "depthwise_conv2d" if conv.endswith("depthwise") else "conv2d"
        names.setdefault(kind, []).append(conv)
        names.setdefault("batch_normalization", []).append(norm)
    return {
        f"{kind}_{number}" if number else kind: name
        for kind, layers in names.items()
        for number, name in enumerate(layers)
    }


def _from_keras_layout(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        return array[None, None]  # (I, O) -> (1, 1, I, O)
    if name.endswith("depthwise.conv.kernel"):
        return array.transpose(0, 1, 3, 2)  # (k, k, C, 1) -> (k, k, 1, C)
    return array


_TABLE = _table()
_ORDER = _order()
