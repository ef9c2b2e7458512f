"""ONNX: the graph built directly, channels first, norm folded, batch left free."""

import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from deeplab_mnv2.config import DeepLabConfig, SsdLiteConfig
from deeplab_mnv2.exporting.graph import CODES, IMAGE, LOGITS
from deeplab_mnv2.exporting.integers import with_scales
from deeplab_mnv2.exporting.onnx.boxes import BOXES, LABELS, SCORES, write_boxes
from deeplab_mnv2.exporting.onnx.writer import Writer
from deeplab_mnv2.exporting.target import Network, Run, Target, check_any_size
from deeplab_mnv2.exporting.tracing import trace

# Old enough for OpenCV, whose Resize knows no axes (opset 18).
_OPSET, _IR_VERSION = 13, 7
LABEL = "label"


def build(model: Network, target: Target) -> bytes:
    """Return an ONNX file for images (batch, channels, H, W) float32, normalised.

    H and W are the target's, or with `any_size` any multiples of 32 plus one.
    The output is `logits` (batch, classes, H', W') float32, or with `argmax` `label`
    (batch, H', W') uint8; a classifier's are (batch, classes) and (batch,) int32. A detector takes
    one image and returns the D boxes found, surest first: `boxes` (D, 4) float32, (ymin, xmin,
    ymax, xmax) in shares of height and width, `scores` (D,) float32, `labels` (D,) int32 without
    background; or `codes` (batch, anchors, 4) and `logits` (batch, anchors, classes + 1). Labels,
    normalisation and scaling are in the model's metadata, as JSON. With int8, kernels are integers
    and activations pass through integers (QuantizeLinear, DequantizeLinear), which runtimes merge
    with the operations between, in the ranges that the model has (`config.quantized`).

    Raises:
        UserError: any size is asked for, and the network or the target does not allow it.
    """
    if target.any_size:
        check_any_size(model, target, "onnx")
    graph = trace(model, target.size, upsample=target.resize)
    if target.precision == "int8":
        graph = with_scales(graph)
    writer = Writer(graph, target.precision, any_size=target.any_size)
    writer.write_all()
    outputs = _outputs(writer, target)
    height, width, channels = graph.shapes[IMAGE]
    batch = 1 if target.box_rules else "batch"
    size = ["height", "width"] if target.any_size else [height, width]
    image = _tensor(IMAGE, TensorProto.FLOAT, [batch, channels, *size])
    proto = helper.make_model(
        helper.make_graph(writer.nodes, "deeplab_mnv2", [image], outputs, writer.constants),
        producer_name="deeplab_mnv2",
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    helper.set_model_props(proto, _metadata(model, target))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def load(content: bytes, model: Network) -> Run:
    """Return the file's content as a function, run by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    # On x86 processors without VNNI sums of int8 products are cut off at 16 bits otherwise.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> tuple[np.ndarray, ...]:
        pixels = np.asarray(model.normalize(image)).transpose(0, 3, 1, 2)
        outputs = session.run(None, {IMAGE: np.ascontiguousarray(pixels)})
        arrays = (np.asarray(output) for output in outputs)
        return tuple(a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for a in arrays)

    return run


def _outputs(writer: Writer, target: Target) -> list[onnx.ValueInfoProto]:
    """Write what follows the network's last operation; return the file's outputs."""
    shapes = writer.graph.shapes
    if target.box_rules is not None:
        write_boxes(writer, target.size, target.box_rules)
        return [
            _tensor(BOXES, TensorProto.FLOAT, ["found", 4]),
            _tensor(SCORES, TensorProto.FLOAT, ["found"]),
            _tensor(LABELS, TensorProto.INT32, ["found"]),
        ]
    if CODES in shapes:
        return [_tensor(n, TensorProto.FLOAT, ["batch", *shapes[n]]) for n in (CODES, LOGITS)]
    *rows_and_columns, classes = shapes[LOGITS]
    if target.any_size:
        rows_and_columns = ["height", "width"] if target.resize else ["rows", "columns"]
    if not target.argmax:
        return [_tensor(LOGITS, TensorProto.FLOAT, ["batch", classes, *rows_and_columns])]
    kind = TensorProto.UINT8 if rows_and_columns else TensorProto.INT32
    writer.node("ArgMax", [LOGITS], "class", axis=1, keepdims=0)
    writer.node("Cast", ["class"], LABEL, to=kind)
    return [_tensor(LABEL, kind, ["batch", *rows_and_columns])]


def _tensor(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _metadata(model: Network, target: Target) -> dict[str, str]:
    values = {
        "class_names": target.class_names,
        "image_mean": model.config.image_mean,
        "image_std": model.config.image_std,
        "colour_order": "RGB",
        "normalization": "(grey level 0-255 - image_mean) / image_std",
        **target.scaling,
    }
    if isinstance(model.config, DeepLabConfig):
        values["padding"] = "at the bottom and right, with image_mean"
        values["output_stride"] = model.config.output_stride
    if isinstance(model.config, SsdLiteConfig):
        values["scaling"] = "bilinear to height x width, whatever the aspect"
        values["boxes"] = "ymin, xmin, ymax, xmax in shares of height and width"
    return {name: json.dumps(value) for name, value in values.items()}
