"""The flatbuffer of a TFLite file as operations and arrays."""

import dataclasses
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tflite

from deeplab_mnv2.errors import UserError

T = TypeVar("T")

# What a damaged file raises: its offsets point anywhere, and flatbuffers checks none.
DAMAGED = (
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
)
# A network of this family has some 70 operations and 200 tensors; a damaged count is huge.
_MOST = 10_000
_LONGEST_LABELS = 100_000
_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
    tflite.TensorType.INT64: np.int64,
    tflite.TensorType.INT8: np.int8,
    tflite.TensorType.UINT8: np.uint8,
}


@dataclasses.dataclass
class Operation:
    """One operation; `inputs` and `output` are numbers of tensors, -1 is an absent one."""

    name: str
    inputs: list[int]
    output: int
    _table: Any

    def options(self, kind: Callable[[], T]) -> T:
        """Return the settings of the operation, of the schema's class `kind`."""
        options: Any = kind()
        table = self._table.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        return options


class TfliteFile:
    """The first graph of a file; any access to a damaged one may raise a `DAMAGED` error."""

    def __init__(self, path: str):
        data = Path(path).read_bytes()
        if len(data) < 8 or not tflite.Model.ModelBufferHasIdentifier(data, 0):
            raise UserError(f"{path} is not a TFLite file; check the path.")
        # Any: the generated classes answer None or 0 for whatever is absent.
        self._model: Any = tflite.Model.GetRootAs(data, 0)
        self._graph: Any = self._model.Subgraphs(0)
        counts = self._graph.OperatorsLength(), self._graph.TensorsLength()
        if max(counts) > _MOST or self._graph.InputsLength() != 1:
            raise UserError(f"{path} holds another network than this family's.")
        self.input = int(self._graph.Inputs(0))
        self.operations = [self._operation(index) for index in range(counts[0])]

    def shape(self, tensor: int) -> list[int]:
        return [int(n) for n in self._graph.Tensors(tensor).ShapeAsNumpy()]

    def is_constant(self, tensor: int) -> bool:
        return self._model.Buffers(self._graph.Tensors(tensor).Buffer()).DataLength() > 0

    def constant(self, tensor: int) -> np.ndarray:
        """Return a stored tensor as float32, dequantised per tensor or per channel."""
        table = self._graph.Tensors(tensor)
        data = self._model.Buffers(table.Buffer()).DataAsNumpy()
        array = np.frombuffer(data.tobytes(), _TYPES[table.Type()]).reshape(self.shape(tensor))
        array = array.astype(np.float32)
        quantization = table.Quantization()
        if quantization is None or not quantization.ScaleLength():
            return array
        along = [1] * array.ndim
        if quantization.ScaleLength() > 1:
            along[quantization.QuantizedDimension()] = -1
        zero_point = quantization.ZeroPointAsNumpy().astype(np.float32).reshape(along)
        # A damaged scale overflows; `check` refuses what is not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            return (array - zero_point) * quantization.ScaleAsNumpy().reshape(along)

    def image_scale(self) -> tuple[float, int] | None:
        """Return scale and zero point of the image in grey levels, None where it holds floats."""
        table = self._graph.Tensors(self.input)
        quantization = table.Quantization()
        if quantization is None or not quantization.ScaleLength():
            return None
        # Grey level 0 is -128 in int8.
        offset = 128 if table.Type() == tflite.TensorType.INT8 else 0
        return float(quantization.Scale(0)), int(quantization.ZeroPoint(0)) + offset

    def _operation(self, index: int) -> Operation:
        table = self._graph.Operators(index)
        code = self._model.OperatorCodes(table.OpcodeIndex())
        # The first holds codes up to 127, for readers older than the second.
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        inputs = [int(n) for n in table.InputsAsNumpy()]
        return Operation(tflite.opcode2name(number), inputs, int(table.Outputs(0)), table)


def read_labels(path: str, num_classes: int) -> tuple[str, ...]:
    """Return the labels packed after a model, as its metadata prescribes; () without fitting ones.

    They are a text file, one label a line, in a ZIP archive that is appended to the flatbuffer.
    """
    if not zipfile.is_zipfile(path):
        return ()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".txt") and member.file_size < _LONGEST_LABELS:
                    names = tuple(archive.read(member).decode().splitlines())
                    if len(names) == num_classes:
                        return names
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise UserError(f"{path} is damaged: its labels cannot be read.") from error
    return ()
