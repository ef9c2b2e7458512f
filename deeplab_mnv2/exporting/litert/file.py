"""A LiteRT file: written, given its metadata, and run."""

import os

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from deeplab_mnv2.exporting.graph import CODES, IMAGE, LOGITS, Convolution, Graph
from deeplab_mnv2.exporting.integers import with_scales
from deeplab_mnv2.exporting.litert.boxes import DETECTED, write_boxes
from deeplab_mnv2.exporting.litert.metadata import label_archive, metadata
from deeplab_mnv2.exporting.litert.quantization import quantize
from deeplab_mnv2.exporting.litert.writer import (
    Writer,
    buffers_of,
    pack,
    padded_name,
    to_buffer,
    unpack,
)
from deeplab_mnv2.exporting.target import Network, Run, Target, found_boxes
from deeplab_mnv2.exporting.tracing import trace

LABEL = "label"


def build(model: Network, target: Target) -> bytes:
    """Return a LiteRT file for images (1, H, W, channels) float32, normalised.

    The output is `logits` (1, H', W', classes) float32, or with `argmax` `label` (1, H', W')
    uint8; a classifier's are (1, classes) and (1,) int32. A detector's are the four of
    `TFLite_Detection_PostProcess`, all float32: `boxes` (1, D, 4), (ymin, xmin, ymax, xmax) in
    shares of height and width, `classes` (1, D) without background, `scores` (1, D) and `count`
    (1,); or `codes` (1, anchors, 4) and `logits` (1, anchors, classes + 1). Labels, normalisation
    and a classifier's scaling are in the file's metadata. With int8, kernels and activations are
    integers, in the ranges that the model has (`config.quantized`).
    """
    graph = trace(model, target.size, upsample=target.resize)
    if target.precision == "int8":
        graph = with_scales(graph)
        content = quantize(_write(graph, target), graph.ranges | _padded_ranges(graph))
    else:
        content = _write(graph, target)
    file = unpack(content)
    entries = file.metadata = list(file.metadata or [])
    buffers = file.buffers = list(buffers_of(file))
    for name, told in metadata(model.config, target).items():
        entries.append(schema.MetadataT(name, len(buffers)))
        buffers.append(to_buffer(told))
    return pack(file) + label_archive(target.class_names)


def load(content: bytes, model: Network) -> Run:
    """Return the file's content as a function, run by LiteRT on all cores."""
    interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    (image,), outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        interpreter.set_tensor(image["index"], np.asarray(model.normalize(pixels)))
        interpreter.invoke()
        found = tuple(interpreter.get_tensor(output["index"]) for output in outputs)
        if len(found) == len(DETECTED):
            boxes, classes, scores, count = found
            return found_boxes((boxes, scores, classes, count))
        return found

    return run


def _padded_ranges(graph: Graph) -> dict[str, tuple[float, float]]:
    """Return the ranges of padded inputs, which are those of the inputs."""
    return {
        padded_name(operation): graph.ranges[operation.input]
        for operation in graph.operations
        if isinstance(operation, Convolution)
    }


def _write(graph: Graph, target: Target) -> bytes:
    writer = Writer(graph, half=target.precision == "float16")
    writer.tensor(IMAGE, (1, *graph.shapes[IMAGE]))
    for operation in graph.operations:
        writer.write(operation)
    if target.box_rules is not None:
        write_boxes(writer, target.size, target.box_rules)
        return writer.finish(list(DETECTED))
    if CODES in graph.shapes:
        return writer.finish([CODES, LOGITS])
    if not target.argmax:
        return writer.finish([LOGITS])
    shape = (1, *graph.shapes[LOGITS][:-1])
    axis = writer.constant("axis", np.array(len(shape), np.int32))
    options = schema.ArgMaxOptionsT(schema.TensorType.INT32)
    found = "class" if len(shape) > 1 else LABEL
    writer.node("ARG_MAX", [LOGITS, axis], found, shape, options, np.int32)
    if found != LABEL:
        options = schema.CastOptionsT(schema.TensorType.INT32, schema.TensorType.UINT8)
        writer.node("CAST", [found], LABEL, shape, options, np.uint8)
    return writer.finish([LABEL])
