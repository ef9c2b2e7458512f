"""Our own weights file: safetensors, with everything needed to use it in the metadata."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from deeplab_mnv2.config import model_from_dict, to_dict
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import reason, replace_atomically
from deeplab_mnv2.weights.model_weights import Weights, check
from deeplab_mnv2.weights.naming import CONFIGS, is_early

FORMAT = "deeplab_mnv2"
VERSION = 1


def save(
    path: str | os.PathLike[str],
    weights: Weights,
    *,
    scores: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write `weights` as one safetensors file (see `to_bytes`), whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    content = to_bytes(weights, scores=scores, half=half)
    with replace_atomically(Path(path)) as temporary:
        temporary.write_bytes(content)


def to_bytes(
    weights: Weights, *, scores: Mapping[str, Any] | None = None, half: bool = False
) -> bytes:
    """Return `weights` as the content of a safetensors file.

    The metadata holds the config with its convention, the names of the classes, the
    provenance and the scores, those of `weights` unless given. `half` stores kernels as
    float16, which halves the file, but for the first ones (`naming.is_early`); norm stays float32,
    because variances leave float16's range.
    """
    check(weights)
    tensors = {
        name: array.astype(np.float16)
        if half and name.endswith("kernel") and not is_early(name)
        else array
        for name, array in weights.tensors.items()
    }
    provenance = dict(weights.provenance)
    provenance["source"] = public_source(provenance["source"])
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "kind": weights.kind,
        "config": json.dumps(to_dict(weights.config)),
        "class_names": json.dumps(weights.class_names),
        "scaling": json.dumps(weights.scaling),
        "provenance": json.dumps(provenance),
        "scores": json.dumps(weights.scores if scores is None else dict(scores)),
        "digest": _digest(tensors),
    }
    return safetensors.numpy.save(tensors, metadata)


def public_source(source: str) -> str:
    """Return where weights come from as others are told: an address whole, of a path the name."""
    # The folder is nobody else's concern.
    return source if "://" in source else Path(source).name


def from_bytes(content: bytes, provenance: Mapping[str, str]) -> Weights:
    """Return the weights in what `to_bytes` made; `provenance` as in `from_native`."""
    # The package reads metadata from files only; they stand in the header, after its length.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return from_native(safetensors.numpy.load(content), header["__metadata__"], provenance)


def from_native(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], provenance: Mapping[str, str]
) -> Weights:
    """Return the weights in a file that `save` wrote.

    `provenance` is the stored one, with this file as `source` and the one it was made from
    as `made_from`.

    Raises:
        UserError: the file is damaged, or of a newer version.
    """
    path = provenance["source"]
    if metadata.get("version") != str(VERSION):
        raise UserError(
            f"{path} has format version {metadata.get('version')}, but this deeplab_mnv2 reads "
            f"version {VERSION}; update the package."
        )
    if metadata.get("digest") != _digest(tensors):
        raise UserError(
            f"{path} is damaged: its tensors do not match the digest stored in it; fetch it again."
        )
    try:
        stored = {str(k): str(v) for k, v in json.loads(metadata["provenance"]).items()}
        scores = json.loads(metadata["scores"])
        # Files from before names were stored have none.
        class_names = json.loads(metadata.get("class_names", "[]"))
        if not isinstance(class_names, list) or not all(isinstance(n, str) for n in class_names):
            raise TypeError(f"class_names={class_names!r}")
        scaling = json.loads(metadata.get("scaling", "{}"))
        if not isinstance(scaling, dict):
            raise TypeError(f"scaling={scaling!r}")
        kind = metadata["kind"]
        if kind not in CONFIGS:
            raise ValueError(f"kind {kind!r}")
        config = model_from_dict(json.loads(metadata["config"]), CONFIGS[kind])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged: its metadata cannot be read ({reason(error)})."
        ) from error
    # A file made from a file made from one still names the first.
    first = {
        "made_from": stored.get("source", "unknown"),
        "made_from_sha256": stored.get("sha256", "unknown"),
    }
    provenance = {**first, **stored, **provenance}
    tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    return Weights(tensors, config, provenance, scores, tuple(class_names), scaling)


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
