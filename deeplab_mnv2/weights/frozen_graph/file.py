"""The operations of a TensorFlow GraphDef, read from protobuf's wire format without TensorFlow.

Field numbers: tensorflow/core/framework/{graph,node_def,attr_value,tensor,tensor_shape}.proto.
"""

import dataclasses
import functools
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deeplab_mnv2.errors import UserError

# What reading a damaged file raises: its lengths, types and texts may be anything.
DAMAGED = (struct.error, ValueError, TypeError, LookupError, ArithmeticError)
# A network of this family has a thousand operations, and a message at most a dozen fields.
_MOST_OPERATIONS = 20_000
_MOST_FIELDS = 100_000
# TensorFlow writes a tensor of one repeated number as that number; such are vectors of norms.
_LONGEST_REPEAT = 1 << 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# DataType -> what `tensor_content` holds, and the field of values given one by one.
_TYPES = {1: ("<f4", 5), 2: ("<f8", 6), 3: ("<i4", 7), 9: ("<i8", 10)}

Value = int | memoryview


@dataclasses.dataclass
class Operation:
    """One operation; `inputs` are the names of tensors, those of mere order (`^name`) left out.

    Any access to an attribute of a damaged file may raise a `DAMAGED` error.
    """

    name: str
    op: str
    inputs: list[str]
    attributes: dict[str, memoryview]

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a float, an integer or a bool."""
        for field, value in self._fields(name):
            if field == 4 and isinstance(value, memoryview):
                return _shortest(struct.unpack("<f", value)[0])
            if field in (3, 5) and isinstance(value, int):
                return value
        return default

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a text."""
        return next((_text(value) for field, value in self._fields(name) if field == 2), default)

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return an attribute that is a list of integers."""
        lists = [value for field, value in self._fields(name) if field == 1]
        return tuple(_integers(lists[0], 3)) if lists else default

    @functools.cached_property
    def tensor(self) -> np.ndarray:
        """The tensor of a Const."""
        return _tensor([value for field, value in self._fields("value") if field == 8][-1])

    def _fields(self, name: str) -> list[tuple[int, Value]]:
        return list(_fields(self.attributes.get(name, memoryview(b""))))


def read_operations(path: str) -> dict[str, Operation]:
    """Return the operations of a file by name; a damaged one may raise a `DAMAGED` error.

    Raises:
        UserError: it is a SavedModel.
    """
    operations = {}
    for field, value in _fields(memoryview(Path(path).read_bytes())):
        if field == 1 and isinstance(value, int) and not operations:
            # Its version; the variables of a SavedModel are in files beside it.
            raise UserError(
                f"{path} is a SavedModel, not a frozen graph; freeze it, so that its variables "
                "are constants."
            )
        if field == 1:
            operation = _operation(value)
            operations[operation.name] = operation
            if len(operations) > _MOST_OPERATIONS:
                raise ValueError("too many operations")
    return operations


def _operation(data: Value) -> Operation:
    name, op, inputs, attributes = "", "", [], {}
    for field, value in _fields(data):
        if field == 1:
            name = _text(value)
        elif field == 2:
            op = _text(value)
        elif field == 3:
            inputs += [text] if not (text := _text(value)).startswith("^") else []
        elif field == 5:
            entry = dict(_fields(value))
            attributes[_text(entry[1])] = _bytes(entry.get(2, memoryview(b"")))
    return Operation(name, op, inputs, attributes)


def _tensor(data: Value) -> np.ndarray:
    dtype, shape, content = 0, [], None
    fields = list(_fields(data))
    for field, value in fields:
        if field == 1 and isinstance(value, int):
            dtype = value
        elif field == 2:
            # A dimension without a size has 0.
            shape = [next(iter(_integers(d, 1)), 0) for f, d in _fields(value) if f == 2]
        elif field == 4:
            content = _bytes(value)
    name, one_by_one = _TYPES[dtype]
    count = math.prod(shape)
    if min(shape, default=0) < 0:
        raise ValueError("a negative shape")
    if content is not None:
        return np.frombuffer(content, name).reshape(shape)
    if dtype in (1, 2):
        values = np.frombuffer(b"".join(_bytes(v) for f, v in fields if f == one_by_one), name)
    else:
        values = np.array(list(_integers(data, one_by_one)), name)
    if values.size < count:
        if count > _LONGEST_REPEAT or not values.size:
            raise ValueError("a tensor without its values")
        values = np.concatenate([values, np.full(count - values.size, values[-1])])
    return values.reshape(shape)


def _integers(data: Value, number: int) -> Iterator[int]:
    """Yield the integers of a field, which may be packed into one."""
    for field, value in _fields(data):
        if field != number:
            continue
        if isinstance(value, int):
            yield _signed(value)
            continue
        position = 0
        while position < len(value):
            found, position = _varint(value, position)
            yield _signed(found)


def _fields(data: Value) -> Iterator[tuple[int, Value]]:
    """Yield (number, value) of the fields of a message: varints as integers, the rest as bytes."""
    data, position = _bytes(data), 0
    for _ in range(_MOST_FIELDS):
        if position == len(data):
            return
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("a field of no known kind")
        if length > len(data) - position:
            raise ValueError("a field longer than the file")
        yield number, data[position : position + length]
        position += length
    raise ValueError("too many fields")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return the number at a position, seven bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than 64 bits")


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a number in place of a message")
    return value


def _text(value: Value) -> str:
    return str(_bytes(value), "utf-8")


def _shortest(value: float) -> float:
    """Return the number that was written as float32: 0.001, not 0.0010000000474974513."""
    return float(str(np.float32(value)))
