"""A writer of PyTorch's two file formats, for machines without PyTorch."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

STORAGES = {
    "f4": "FloatStorage",
    "f8": "DoubleStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "u1": "ByteStorage",
    "bfloat16": "BFloat16Storage",
}


def _torch() -> dict[str, types.ModuleType]:
    """Return modules with the names that a pickle of tensors mentions."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    return {"torch": torch, "torch._utils": utils}


class _Storage:
    def __init__(self, key: str, array: np.ndarray):
        self.key, self.array = key, array


class _Pickler(pickle.Pickler):
    """Pickles arrays as `torch.save` does tensors, one storage each."""

    def __init__(self, file: io.BytesIO, modules: dict[str, Any], protocol: int, legacy: bool):
        super().__init__(file, protocol)
        self.modules, self.legacy = modules, legacy
        self.storages: dict[str, np.ndarray] = {}

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _Storage):
            return None
        array = obj.array
        name = array.dtype.name if array.dtype.name in STORAGES else array.dtype.str[1:]
        kind = getattr(self.modules["torch"], STORAGES[name])
        return ("storage", kind, obj.key, "cpu", array.size, *((None,) if self.legacy else ()))

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, np.ndarray):
            return NotImplemented
        key = str(len(self.storages))
        # A transposed array keeps its strides; one that is cut out starts later in its storage.
        whole = obj.base if isinstance(obj.base, np.ndarray) else obj
        start = obj.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        self.storages[key] = whole
        size = obj.itemsize
        strides = tuple(step // size for step in obj.strides)
        arguments = (_Storage(key, whole), start // size, obj.shape, strides, False)
        rebuild = self.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (*arguments, collections.OrderedDict())


def save(content: Any, path: Path, *, legacy: bool = False, protocol: int = 2) -> None:
    """Write `content`, whose arrays stand for tensors."""
    with mock.patch.dict(sys.modules, modules := _torch()):
        file = io.BytesIO()
        pickler = _Pickler(file, modules, protocol, legacy)
        pickler.dump(content)
    numbers = {key: array.tobytes("K") for key, array in pickler.storages.items()}
    if not legacy:
        write_zip(path, file.getvalue(), numbers)
        return
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    found = b"".join(pickle.dumps(part, 2) for part in head) + file.getvalue()
    found += pickle.dumps(sorted(numbers), 2)
    for key in sorted(numbers):
        found += struct.pack("<q", pickler.storages[key].size) + numbers[key]
    path.write_bytes(found)


def write_zip(path: Path, program: bytes, numbers: dict[str, bytes], order: str = "little") -> None:
    """Write the archive around a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", program)
        archive.writestr(f"{path.stem}/byteorder", order)
        for key, content in numbers.items():
            archive.writestr(f"{path.stem}/data/{key}", content)
        archive.writestr(f"{path.stem}/version", "3\n")
