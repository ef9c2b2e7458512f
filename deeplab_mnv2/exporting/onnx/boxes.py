"""From codes and logits to boxes in ONNX's own operations, as `tasks.detection.decoding` does."""

import numpy as np
from onnx import TensorProto

from deeplab_mnv2.config import DetectionEvaluationConfig
from deeplab_mnv2.exporting.box_constants import box_constants
from deeplab_mnv2.exporting.graph import CODES, LOGITS
from deeplab_mnv2.exporting.onnx.writer import Writer

# The outputs.
BOXES, SCORES, LABELS = "boxes", "scores", "labels"
_INT64_MAX = np.iinfo(np.int64).max


def write_boxes(writer: Writer, size: tuple[int, int], rules: DetectionEvaluationConfig) -> None:
    """Write the nodes from one image's codes and logits to the boxes found, best first."""
    _decode(writer, size)
    _score(writer)
    limits = [
        writer.constant("max_detections", np.array([rules.max_detections], np.int64)),
        writer.constant("nms_iou", np.array([rules.nms_iou], np.float32)),
        writer.constant("score_threshold", np.array([rules.score_threshold], np.float32)),
    ]
    # Rows of (image, class, anchor), by class.
    writer.node("NonMaxSuppression", ["anchor_boxes", "class_scores", *limits], "kept")
    writer.node("GatherND", ["class_scores", "kept"], "kept_scores")
    writer.node("Shape", ["kept_scores"], "kept_count")
    writer.node("Min", ["kept_count", "max_detections"], "count")
    writer.node("TopK", ["kept_scores", "count"], SCORES, "order")
    writer.node("Gather", ["kept", "order"], "best", axis=0)
    for column, name in ((1, "best_class"), (2, "best_anchor")):
        index = writer.constant(f"{name}.column", np.array(column, np.int64))
        writer.node("Gather", ["best", index], name, axis=1)
    writer.node("Cast", ["best_class"], LABELS, to=TensorProto.INT32)
    first = writer.constant("batch_axis", np.array([0], np.int64))
    writer.node("Squeeze", ["anchor_boxes", first], "image_boxes")
    writer.node("Gather", ["image_boxes", "best_anchor"], BOXES, axis=0)


def _decode(writer: Writer, size: tuple[int, int]) -> None:
    """Write `anchor_boxes` (1, A, 4), clipped to the image."""
    for name, array in box_constants(size)._asdict().items():
        writer.constant(name, array)
    halves = writer.constant("halves", np.array([2, 2], np.int64))
    writer.node("Split", [CODES, halves], "shifts", "stretches", axis=2)
    writer.node("Mul", ["shifts", "shift_units"], "moves")
    writer.node("Add", ["moves", "centres"], "moved_centres")
    writer.node("Mul", ["stretches", "stretch_units"], "log_ratios")
    writer.node("Exp", ["log_ratios"], "ratios")
    writer.node("Mul", ["ratios", "half_sizes"], "halved_boxes")
    bounds = [writer.scalar("zero", 0.0), writer.scalar("one", 1.0)]
    for kind, name in (("Sub", "low"), ("Add", "high")):
        writer.node(kind, ["moved_centres", "halved_boxes"], f"{name}_corners")
        writer.node("Clip", [f"{name}_corners", *bounds], name)
    writer.node("Concat", ["low", "high"], "anchor_boxes", axis=2)


def _score(writer: Writer) -> None:
    """Write `class_scores` (1, classes, A), without background; 0 for boxes without area."""
    slices = {"start": 1, "end": _INT64_MAX, "class_axis": 2}
    for name, value in slices.items():
        writer.constant(name, np.array([value], np.int64))
    writer.node("Slice", [LOGITS, *slices], "object_logits")
    writer.node("Sigmoid", ["object_logits"], "object_scores")
    writer.node("Sub", ["high", "low"], "sides")
    writer.node("ReduceProd", ["sides"], "areas", axes=[2], keepdims=1)
    writer.node("Greater", ["areas", "zero"], "has_area")
    writer.node("Cast", ["has_area"], "area_factor", to=TensorProto.FLOAT)
    writer.node("Mul", ["object_scores", "area_factor"], "kept_object_scores")
    writer.node("Transpose", ["kept_object_scores"], "class_scores", perm=[0, 2, 1])
