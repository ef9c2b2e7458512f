"""The exact conditions of a score, and a hash: where it is equal, scores may be compared."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

# These say how it was run, not what was measured. They are not hashed, so scores of other weights,
# on another machine or with a new library version can still be compared.
_OUTSIDE_HASH = ("weights", "versions", "machine")
# Vector instructions that affect how XLA rounds, widest last.
_VECTORS = ("avx", "avx2", "avx512f", "amx_bf16")


def stamped(stamp: dict[str, Any], weights_digest: str) -> dict[str, Any]:
    """Return a stamp with its `protocol_hash`, and with facts that are not hashed.

    Scores may be compared where the hashes agree. Not hashed are the digest of the `weights`, the
    library `versions` and the `machine`.
    """
    text = json.dumps(stamp, sort_keys=True)
    return {
        **stamp,
        "weights": weights_digest,
        "versions": {
            name: version(name) for name in ("deeplab_mnv2", "jax", "flax", "numpy", "pillow")
        },
        "machine": machine(),
        "protocol_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
    }


def machine() -> dict[str, Any]:
    """Return the processor, its vector instructions, and kind and number of the devices."""
    processor, vectors = platform.machine(), []
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []  # only Linux has it
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            processor = value.strip()
        if name.strip() == "flags":
            vectors = [vector for vector in _VECTORS if vector in value.split()]
    devices = jax.devices()
    return {
        "processor": processor,
        "vectors": vectors,
        "device": devices[0].device_kind,
        "devices": len(devices),
    }


def differing_fields(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return the protocol fields that differ, because of which two scores may not be compared."""
    names = (first.keys() | second.keys()) - {*_OUTSIDE_HASH, "protocol_hash"}
    return sorted(name for name in names if first.get(name) != second.get(name))
