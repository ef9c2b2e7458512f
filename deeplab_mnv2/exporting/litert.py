"""LiteRT (TFLite): the flatbuffer built directly, one operation of ours an operation of theirs."""

import os
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from deeplab_mnv2.exporting.graph import (
    IMAGE,
    LOGITS,
    Add,
    Concat,
    Convolution,
    Flatten,
    Graph,
    Operation,
    Pool,
    trace,
)
from deeplab_mnv2.exporting.litert_metadata import label_archive, metadata
from deeplab_mnv2.exporting.quantization import correct_biases, quantize
from deeplab_mnv2.exporting.target import Network, Run, Target
from deeplab_mnv2.models.ops.taps import Window

LABEL = "label"
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
}
# The version in which an operation learnt what is used of it: dilation, float16, half pixels.
_VERSIONS = {"DEPTHWISE_CONV_2D": 2, "DEQUANTIZE": 3, "RESIZE_BILINEAR": 3}
# XNNPACK and GPU delegates read constants in place and in vectors.
_ALIGNMENT = 16


def build(model: Network, target: Target, calibration: list[np.ndarray]) -> bytes:
    """Return a LiteRT file for images (1, H, W, channels) float32, normalised.

    The output is `logits` (1, H', W', classes) float32, or with `argmax` `label` (1, H', W')
    uint8; a classifier's are (1, classes) and (1,) int32. Labels, normalisation and a
    classifier's scaling are in the file's metadata. With int8, kernels and activations are
    integers, in ranges measured on the `calibration` images.
    """
    graph = trace(model, target.size, upsample=target.resize)
    if target.precision == "int8":
        images = [np.asarray(model.normalize(image)) for image in calibration]
        graph = correct_biases(graph, images)
        content = quantize(_write(graph, target), images)
    else:
        content = _write(graph, target)
    file = _unpack(content)
    entries = file.metadata = list(file.metadata or [])
    buffers = file.buffers = list(_buffers(file))
    for name, told in metadata(model.config, target).items():
        entries.append(schema.MetadataT(name, len(buffers)))
        buffers.append(_buffer(told))
    return _pack(file) + label_archive(target.class_names)


def load(content: bytes, model: Network) -> Run:
    """Return the file's content as a function, run by LiteRT on all cores."""
    interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(image["index"], np.asarray(model.normalize(pixels)))
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return run


def _write(graph: Graph, target: Target) -> bytes:
    writer = _Writer(graph, half=target.precision == "float16")
    writer.tensor(IMAGE, (1, *graph.shapes[IMAGE]))
    for operation in graph.operations:
        writer.write(operation)
    if not target.argmax:
        return writer.finish(LOGITS)
    shape = (1, *graph.shapes[LOGITS][:-1])
    axis = writer.constant("axis", np.array(len(shape), np.int32))
    options = schema.ArgMaxOptionsT(schema.TensorType.INT32)
    found = "class" if len(shape) > 1 else LABEL
    writer.node("ARG_MAX", [LOGITS, axis], found, shape, options, np.int32)
    if found == LABEL:
        return writer.finish(LABEL)
    options = schema.CastOptionsT(schema.TensorType.INT32, schema.TensorType.UINT8)
    writer.node("CAST", ["class"], LABEL, shape, options, np.uint8)
    return writer.finish(LABEL)


def _unpack(content: bytes) -> schema.ModelT:
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    for buffer in _buffers(model):
        # The quantizer keeps some constants after the flatbuffer.
        if buffer.size:
            end = buffer.offset + buffer.size
            buffer.data = _buffer(content[buffer.offset : end]).data
    return model


def _buffers(model: schema.ModelT) -> list[schema.BufferT]:
    return model.buffers or []


def _buffer(content: bytes) -> schema.BufferT:
    # The generated types say a list of numbers; the generated code takes an array as well.
    return schema.BufferT(np.frombuffer(content, np.uint8))  # pyright: ignore[reportArgumentType]


def _pack(model: schema.ModelT) -> bytes:
    """Return a model as the bytes of a file, with constants aligned as delegates expect."""
    model.buffers = [_AlignedBuffer(buffer.data) for buffer in _buffers(model)]
    builder = flatbuffers.Builder(2**20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _AlignedBuffer(schema.BufferT):
    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.data is not None:
            # The generated code knows nothing of the schema's force_align.
            builder.Prep(_ALIGNMENT, len(self.data))
        return super().Pack(builder)


class _Writer:
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
            options = schema.ConcatenationOptionsT(axis=3)
            self.node("CONCATENATION", list(operation.inputs), output, shape, options)
        elif isinstance(operation, Pool):
            height, width = operation.window
            options = schema.Pool2DOptionsT(
                padding=schema.Padding.VALID,
                strideH=1,
                strideW=1,
                filterHeight=height,
                filterWidth=width,
            )
            self.node("AVERAGE_POOL_2D", [operation.input], output, shape, options)
        elif isinstance(operation, Flatten):
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
        padded = f"{conv.output}.padded"
        pads = self.constant(f"{padded}.pads", np.array([(0, 0), *conv.pads, (0, 0)], np.int32))
        size = [n + sum(pad) for n, pad in zip(before, conv.pads, strict=False)]
        self.node("PAD", [conv.input, pads], padded, (1, *size, before[2]), schema.PadOptionsT())
        return padded, schema.Padding.VALID

    def weight(self, name: str, array: np.ndarray) -> str:
        if not self.half:
            return self.constant(name, array)
        stored = self.constant(f"{name}.half", array.astype(np.float16))
        self.node("DEQUANTIZE", [stored], name, array.shape, schema.DequantizeOptionsT())
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        self.buffers.append(_buffer(np.ascontiguousarray(array).tobytes()))
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

    def node(
        self,
        kind: str,
        inputs: list[str],
        output: str,
        shape: tuple[int, ...],
        options: Any,
        dtype: Any = np.float32,
    ) -> None:
        if kind not in self.codes:
            self.codes.append(kind)
        table = type(options).__name__.removesuffix("T")
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=self.codes.index(kind),
                inputs=[self.index[name] for name in inputs],
                outputs=[self.tensor(output, shape, dtype)],
                builtinOptionsType=getattr(schema.BuiltinOptions, table),
                builtinOptions=options,
            )
        )

    def finish(self, output: str) -> bytes:
        codes = [
            schema.OperatorCodeT(
                builtinCode=getattr(schema.BuiltinOperator, kind),
                # Readers from before 2020 know this field only.
                deprecatedBuiltinCode=getattr(schema.BuiltinOperator, kind),
                version=_VERSIONS.get(kind, 1),
            )
            for kind in self.codes
        ]
        ends = [self.index[IMAGE]], [self.index[output]]
        graph = schema.SubGraphT(self.tensors, *ends, self.operators, name="main")
        signature = schema.SignatureDefT(
            inputs=[schema.TensorMapT(IMAGE, ends[0][0])],
            outputs=[schema.TensorMapT(output, ends[1][0])],
            signatureKey="serving_default",
        )
        return _pack(
            schema.ModelT(
                version=3,
                operatorCodes=codes,
                subgraphs=[graph],
                description="deeplab_mnv2",
                buffers=self.buffers,
                signatureDefs=[signature],
            )
        )
