"""Tensors in PyTorch's own files, read without PyTorch and without unpickling.

A file holds a pickle, which is a program, and the numbers of the tensors beside it. Here the
program is not run: its instructions are read one by one, and those that build dictionaries, lists,
numbers, texts and tensors are followed. Whatever else it asks for is refused.

Formats: torch/serialization.py. Since version 1.6 a ZIP archive, before that pickles in a row.
"""

import dataclasses
import io
import math
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import LARGEST_BYTES, reason

# What reading a damaged file raises: its instructions and lengths may be anything.
_DAMAGED = (
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
)
# Instructions of a pickle; a network of this family takes some ten thousand.
_MOST_INSTRUCTIONS = 1_000_000
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


@dataclasses.dataclass
class _Name:
    """Something of a Python module, which is never imported."""

    name: str


@dataclasses.dataclass
class _Storage:
    """A row of numbers beside the pickle."""

    key: str
    dtype: np.dtype
    size: int


@dataclasses.dataclass
class _Tensor:
    """A view of a storage; sizes and strides in elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, numbers: bytes | memoryview) -> np.ndarray:
        """Return a copy of the tensor as float32."""
        count = math.prod(self.size)
        axes = list(zip(self.size, self.stride, strict=True))
        last = self.offset + sum((size - 1) * stride for size, stride in axes)
        if min((self.offset, *self.size, *self.stride)) < 0 or count > self.storage.size:
            raise ValueError("a tensor larger than its storage")
        if count == 0:
            return np.zeros(self.size, np.float32)
        if last >= self.storage.size:
            raise ValueError("a tensor beyond its storage")
        row = np.frombuffer(numbers, self.storage.dtype, self.storage.size)[self.offset :]
        steps = [stride * row.itemsize for stride in self.stride]
        # A damaged double overflows; `check` refuses what is not finite.
        with np.errstate(over="ignore"):
            return np.lib.stride_tricks.as_strided(row, self.size, steps).astype(np.float32)


def read_state_dict(path: str) -> dict[str, np.ndarray]:
    """Return the tensors of a PyTorch checkpoint as float32; nothing in it is run.

    Raises:
        UserError: the file is damaged, holds code, or holds no state dict.
    """
    data = Path(path).read_bytes()
    try:
        content, numbers_of = (_open_zip if data[:2] == b"PK" else _open_legacy)(data)
        for wrapper in ("state_dict", "model"):
            if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
                content = content[wrapper]
        if not (isinstance(content, dict) and content) or not all(
            isinstance(value, _Tensor) for value in content.values()
        ):
            raise UserError(f"{path} holds no state dict; save model.state_dict() from PyTorch.")
        # Views of one storage may promise more than the file holds.
        if sum(math.prod(tensor.size) for tensor in content.values()) > LARGEST_BYTES // 4:
            raise ValueError("tensors of more than a gibibyte")
        return {
            str(name).removeprefix("module."): tensor.array(numbers_of(tensor.storage))
            for name, tensor in content.items()
        }
    except _DAMAGED as error:
        raise UserError(
            f"{path} is damaged, or holds Python code besides tensors, which is never run; "
            f"save its state dict alone ({reason(error)})."
        ) from error


def _open_zip(data: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    """Return what a file holds, and what gives the numbers of a storage."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    if sum(member.file_size for member in archive.infolist()) > LARGEST_BYTES:
        raise ValueError("it unpacks to more than a gibibyte")
    (pickle,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    root = pickle.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist():
        _require_little_endian(archive.read(f"{root}byteorder") == b"little")
    storages: dict[str, bytes] = {}

    def numbers_of(storage: _Storage) -> bytes:
        if storage.key not in storages:
            storages[storage.key] = archive.read(f"{root}data/{storage.key}")
        return storages[storage.key]

    return _follow(io.BytesIO(archive.read(pickle)), {}), numbers_of


def _open_legacy(data: bytes) -> tuple[Any, Callable[[_Storage], memoryview]]:
    """Return what a file of before version 1.6 holds, and what gives a storage's numbers."""
    file = io.BytesIO(data)
    if _follow(file, {}) != _MAGIC or _follow(file, {}) != _PROTOCOL:
        raise ValueError("it does not begin as PyTorch's files do")
    _require_little_endian(_follow(file, {})["little_endian"])
    storages: dict[str, _Storage] = {}
    content = _follow(file, storages)
    numbers, position = {}, 0
    keys = _follow(file, {})
    position = file.tell()
    for key in keys:
        (size,) = struct.unpack_from("<q", data, position)
        end = position + 8 + size * storages[key].dtype.itemsize
        if size != storages[key].size or end > len(data):
            raise ValueError("a storage of another length")
        numbers[key] = memoryview(data)[position + 8 : end]
        position = end
    return content, lambda storage: numbers[storage.key]


def _require_little_endian(is_little: bool) -> None:
    if not is_little:
        raise ValueError("its numbers begin with the highest byte")


def _follow(file: BinaryIO, storages: dict[str, _Storage]) -> Any:
    """Return what the pickle at the position of `file` builds; note its storages by key.

    Raises:
        ValueError: it asks for anything but data and tensors.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def items() -> list[Any]:
        """Take what was put on the stack since the last mark."""
        start = marks.pop()
        found = stack[start:]
        del stack[start:]
        return found

    argument: Any
    for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if count > _MOST_INSTRUCTIONS:
            raise ValueError("a pickle of too many instructions")
        name: str = instruction.name
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(items()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            stack[-size:] = [tuple(stack[-size:])]
        elif name in ("APPEND", "APPENDS"):
            more = items() if name == "APPENDS" else [stack.pop()]
            _of_type(stack[-1], list).extend(more)
        elif name in ("SETITEM", "SETITEMS"):
            if name == "SETITEM":
                marks.append(len(stack) - 2)
            pairs = items()
            _of_type(stack[-1], dict).update(_entries(pairs[::2], pairs[1::2]))
        elif name == "GLOBAL":
            stack.append(_Name(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [_Name(f"{stack[-2]}.{stack[-1]}")]
        elif name == "REDUCE":
            stack[-2:] = [_call(*stack[-2:])]
        elif name == "BUILD":
            # What an OrderedDict carries besides its entries: the versions of modules.
            stack.pop()
            _of_type(stack[-1], dict)
        elif name == "BINPERSID":
            storage = _storage(*stack.pop())
            storages[storage.key] = storage
            stack.append(storage)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the instruction {name}")
    raise ValueError("a pickle without an end")


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = (
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    # The texts of Python 2.
    "BINSTRING",
    "SHORT_BINSTRING",
)


def _call(function: Any, arguments: Any) -> Any:
    """Return what one of the few known functions gives."""
    name, arguments = _of_type(function, _Name).name, _of_type(arguments, tuple)
    if name == "collections.OrderedDict":
        pairs = arguments[0] if arguments else []
        return _entries([key for key, _ in pairs], [value for _, value in pairs])
    if name == "torch._utils._rebuild_tensor_v2":
        storage, offset, size, stride = arguments[:4]
        return _Tensor(_of_type(storage, _Storage), offset, size, stride)
    if name == "torch._utils._rebuild_parameter":
        return _of_type(arguments[0], _Tensor)
    raise ValueError(f"a call of {name}")


def _storage(kind: Any, dtype: Any, key: Any, _: Any, size: Any, view: Any = None) -> _Storage:
    """Return the storage of a persistent id; its fourth entry is the device."""
    module, _, name = _of_type(dtype, _Name).name.rpartition(".")
    if kind != "storage" or module != "torch" or view is not None:
        raise ValueError(f"a storage of {module}.{name}")
    return _Storage(_of_type(key, str), np.dtype(_STORAGES[name]), _of_type(size, int))


def _entries(keys: list[Any], values: list[Any]) -> dict[str | int, Any]:
    if not all(isinstance(key, str | int) for key in keys):
        raise ValueError("a key that is neither a text nor a number")
    return dict(zip(keys, values, strict=True))


def _of_type(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} is needed")
    return value
