"""Operations as operators of a LiteRT flatbuffer, one of ours one of theirs."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from deeplab_mnv2.exporting.graph import (
    IMAGE,
    Add,
    Concat,
    Convolution,
    Graph,
    Operation,
    Pool,
    Reshape,
)
from deeplab_mnv2.models.ops.taps import Window
from deeplab_mnv2.weights.naming import is_early

_ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
# The version in which an operation learnt what is used of it: dilation, float16, half pixels.
_VERSIONS = {"DEPTHWISE_CONV_2D": 2, "DEQUANTIZE": 3, "RESIZE_BILINEAR": 3}
# XNNPACK and GPU delegates read constants in place and in vectors.
_ALIGNMENT = 16


class Writer:
    """The tensors and operators of a graph; with `half`, kernels are stored as float16."""

    def __init__(self, graph: Graph, half: bool):
        self.graph = graph
        self.half = half
        # The first buffer is the empty one, by convention.
        self.buffers = [schema.BufferT()]
        self.tensors: list[schema.TensorT] = []
        self.index: dict[str, int] = {}
        self.codes: list[str] = []
        self.operators: list[schema.OperatorT] = []

    def write(self, operation: Operation) -> None:
        output = operation.output
        shape = (1, *self.graph.shapes[output])
        if isinstance(operation, Convolution):
            self.convolution(operation, shape)
        elif isinstance(operation, Add):
            self.node("ADD", list(operation.inputs), output, shape, schema.AddOptionsT())
        elif isinstance(operation, Concat):
            options = schema.ConcatenationOptionsT(axis=3 if len(shape) == 4 else 1)
            self.node("CONCATENATION", list(operation.inputs), output, shape, options)
        elif isinstance(operation, Pool):
            if operation.window == self.graph.shapes[operation.input][:2]:
                # Unlike a pool, a mean may have another range than what it is of.
                axes = self.constant(f"{output}.axes", np.array([1, 2], np.int32))
                options = schema.ReducerOptionsT(keepDims=True)
                self.node("MEAN", [operation.input, axes], output, shape, options)
                return
            height, width = operation.window
            options = schema.Pool2DOptionsT(
                padding=schema.Padding.VALID,
                strideH=1,
                strideW=1,
                filterHeight=height,
                filterWidth=width,
            )
            self.node("AVERAGE_POOL_2D", [operation.input], output, shape, options)
        elif isinstance(operation, Reshape):
            size = self.constant(f"{output}.shape", np.array(shape, np.int32))
            options = schema.ReshapeOptionsT(newShape=list(shape))
            self.node("RESHAPE", [operation.input, size], output, shape, options)
        else:
            size = self.constant(f"{output}.size", np.array(shape[1:3], np.int32))
            options = schema.ResizeBilinearOptionsT(
                alignCorners=operation.align_corners,
                halfPixelCenters=not operation.align_corners,
            )
            self.node("RESIZE_BILINEAR", [operation.input, size], output, shape, options)

    def convolution(self, conv: Convolution, shape: tuple[int, ...]) -> None:
        # (k, k, I, O) to (O, k, k, I); depthwise (k, k, 1, C) to (1, k, k, C).
        order = (2, 0, 1, 3) if conv.depthwise else (3, 0, 1, 2)
        kernel = self.weight(f"{conv.output}.weight", conv.kernel.transpose(order))
        bias = self.constant(f"{conv.output}.bias", conv.bias)
        image, padding = self.pad(conv, shape)
        common = {
            "padding": padding,
            "strideH": conv.stride,
            "strideW": conv.stride,
            "dilationHFactor": conv.dilation,
            "dilationWFactor": conv.dilation,
            "fusedActivationFunction": _ACTIVATIONS[conv.activation],
        }
        if conv.depthwise:
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **common)
        else:
            options = schema.Conv2DOptionsT(**common)
        kind = "DEPTHWISE_CONV_2D" if conv.depthwise else "CONV_2D"
        self.node(kind, [image, kernel, bias], conv.output, shape, options)

    def pad(self, conv: Convolution, shape: tuple[int, ...]) -> tuple[str, int]:
        """Return the convolution's input and padding rule, padded by an operation if need be."""
        before = self.graph.shapes[conv.input]
        same = Window(conv.stride, conv.dilation, "same")
        if conv.pads == tuple(same.axis_edges(n, conv.kernel.shape[0]) for n in before[:2]):
            return conv.input, schema.Padding.SAME
        padded = padded_name(conv)
        pads = self.constant(f"{padded}.pads", np.array([(0, 0), *conv.pads, (0, 0)], np.int32))
        size = [n + sum(pad) for n, pad in zip(before, conv.pads, strict=False)]
        self.node("PAD", [conv.input, pads], padded, (1, *size, before[2]), schema.PadOptionsT())
        return padded, schema.Padding.VALID

    def weight(self, name: str, array: np.ndarray) -> str:
        if not self.half or is_early(name):
            return self.constant(name, array)
        stored = self.constant(f"{name}.half", array.astype(np.float16))
        self.node("DEQUANTIZE", [stored], name, array.shape, schema.DequantizeOptionsT())
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        self.buffers.append(to_buffer(np.ascontiguousarray(array).tobytes()))
        self.tensor(name, array.shape, array.dtype, len(self.buffers) - 1)
        return name

    def tensor(
        self, name: str, shape: tuple[int, ...], dtype: Any = np.float32, buffer: int = 0
    ) -> int:
        self.index[name] = len(self.tensors)
        self.tensors.append(
            schema.TensorT(
                shape=list(shape),
                type=_TYPES[np.dtype(dtype)],
                buffer=buffer,
                name=name,
                hasRank=True,
            )
        )
        return self.index[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor that is written."""
        return tuple(self.tensors[self.index[name]].shape or ())

    def node(
        self,
        kind: str,
        inputs: list[str],
        output: str,
        shape: tuple[int, ...],
        options: Any = None,
        dtype: Any = np.float32,
    ) -> None:
        """Write one of LiteRT's own operators; few have no options."""
        operator = self.operator(kind, inputs, [self.tensor(output, shape, dtype)])
        if options is not None:
            table = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            operator.builtinOptions = options

    def custom(
        self, kind: str, inputs: list[str], outputs: dict[str, tuple[int, ...]], options: bytes
    ) -> None:
        """Write an operator that the schema does not know; `outputs` are names and shapes."""
        tensors = [self.tensor(name, shape) for name, shape in outputs.items()]
        operator = self.operator(kind, inputs, tensors)
        operator.customOptions = to_buffer(options).data

    def operator(self, kind: str, inputs: list[str], outputs: list[int]) -> schema.OperatorT:
        if kind not in self.codes:
            self.codes.append(kind)
        operator = schema.OperatorT(
            opcodeIndex=self.codes.index(kind),
            inputs=[self.index[name] for name in inputs],
            outputs=outputs,
        )
        self.operators.append(operator)
        return operator

    def finish(self, outputs: list[str]) -> bytes:
        """Return the file that gives these tensors."""
        ends = [self.index[IMAGE]], [self.index[name] for name in outputs]
        graph = schema.SubGraphT(self.tensors, *ends, self.operators, name="main")
        signature = schema.SignatureDefT(
            inputs=[schema.TensorMapT(IMAGE, ends[0][0])],
            outputs=[schema.TensorMapT(name, self.index[name]) for name in outputs],
            signatureKey="serving_default",
        )
        return pack(
            schema.ModelT(
                version=3,
                operatorCodes=[_operator_code(kind) for kind in self.codes],
                subgraphs=[graph],
                description="deeplab_mnv2",
                buffers=self.buffers,
                signatureDefs=[signature],
            )
        )


def padded_name(conv: Convolution) -> str:
    """Return what the input of a convolution is called once an operation has padded it."""
    return f"{conv.output}.padded"


def _operator_code(kind: str) -> schema.OperatorCodeT:
    is_known = hasattr(schema.BuiltinOperator, kind)
    code = getattr(schema.BuiltinOperator, kind if is_known else "CUSTOM")
    return schema.OperatorCodeT(
        builtinCode=code,
        # Readers from before 2020 know this field only.
        deprecatedBuiltinCode=code,
        customCode=None if is_known else kind,
        version=_VERSIONS.get(kind, 1),
    )


def unpack(content: bytes) -> schema.ModelT:
    """Return a file as the schema's tables, with its constants inside."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    for buffer in buffers_of(model):
        # The quantizer keeps some constants after the flatbuffer.
        if buffer.size:
            end = buffer.offset + buffer.size
            buffer.data = to_buffer(content[buffer.offset : end]).data
    return model


def buffers_of(model: schema.ModelT) -> list[schema.BufferT]:
    """Return the constants of a model."""
    return model.buffers or []


def to_buffer(content: bytes) -> schema.BufferT:
    """Return bytes as a constant."""
    # The generated types say a list of numbers; the generated code takes an array as well.
    return schema.BufferT(np.frombuffer(content, np.uint8))  # pyright: ignore[reportArgumentType]


def pack(model: schema.ModelT) -> bytes:
    """Return a model as the bytes of a file, with constants aligned as delegates expect."""
    model.buffers = [_AlignedBuffer(buffer.data) for buffer in buffers_of(model)]
    builder = flatbuffers.Builder(2**20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _AlignedBuffer(schema.BufferT):
    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.data is not None:
            # The generated code knows nothing of the schema's force_align.
            builder.Prep(_ALIGNMENT, len(self.data))
        return super().Pack(builder)
