"""From codes and logits to boxes in a LiteRT file, as `tasks.detection.decoding` does.

The operator `TFLite_Detection_PostProcess` decodes and suppresses, and clients know its four
outputs. It does not clip boxes to the image, which changes overlaps at the border; so they are
decoded and clipped before it, and given to it as codes of an anchor that is the whole image.

Run by k > 1 threads, it never looks at class k (LiteRT 2.3: the counter of the next class begins
at k and is raised before it is used). So the first classes that it is given are empty, more of
them than threads that one may have.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from deeplab_mnv2.config import DetectionEvaluationConfig
from deeplab_mnv2.exporting.box_constants import BoxConstants, box_constants
from deeplab_mnv2.exporting.graph import CODES, LOGITS
from deeplab_mnv2.exporting.litert.writer import Writer

# The outputs, in the operator's order.
DETECTED = ("boxes", "classes", "scores", "count")
_OPERATOR = "TFLite_Detection_PostProcess"
# Of the tensors between the network and the outputs.
_PREFIX = "post/"
# More than the threads of any runtime.
_EMPTY_CLASSES = 65
# A side of nothing has no logarithm.
_LEAST_SIDE = 1e-12


def write_boxes(writer: Writer, size: tuple[int, int], rules: DetectionEvaluationConfig) -> None:
    """Write the operators from one image's codes and logits to the boxes found, best first."""
    box_writer = _BoxWriter(writer, box_constants(size))
    box_writer.decode()
    box_writer.score()
    box_writer.suppress(rules)


class _BoxWriter:
    def __init__(self, writer: Writer, constants: BoxConstants):
        self.writer = writer
        self.constants = constants
        self.number = len(constants.centres)
        self.classes = writer.graph.shapes[LOGITS][1] - 1

    def decode(self) -> None:
        """Write the corners `low` and `high` (1, A, 2), clipped, and `box_codes` (1, A, 4)."""
        centres, shift_units, half_sizes, stretch_units = (
            self.constant(name, array) for name, array in self.constants._asdict().items()
        )
        zero, one, half = (
            self.constant(name, np.array(value))
            for name, value in (("zero", 0), ("one", 1), ("half", 0.5))
        )
        moves = self.binary("MUL", self.columns(CODES, "shifts", 0, 2), shift_units, "moves")
        centre = self.binary("ADD", moves, centres, "centre")
        stretches = self.columns(CODES, "stretches", 2, 2)
        logs = self.binary("MUL", stretches, stretch_units, "log_ratios")
        ratios = self.unary("EXP", logs, "ratios", schema.ExpOptionsT())
        extent = self.binary("MUL", ratios, half_sizes, "extent")
        corners = []
        for kind, name in (("SUB", "low"), ("ADD", "high")):
            corner = self.binary(kind, centre, extent, f"{name}_corner")
            corner = self.binary("MAXIMUM", corner, zero, f"{name}_inside")
            corners.append(self.binary("MINIMUM", corner, one, name))
        low, high = corners
        sides = self.binary("SUB", high, low, "sides")
        total = self.binary("ADD", high, low, "total")
        middle = self.binary("MUL", total, half, "middle")
        least = self.constant("least_side", np.array(_LEAST_SIDE))
        some = self.binary("MAXIMUM", sides, least, "some_sides")
        logs = self.unary("LOG", some, "log_sides", None)
        options = schema.ConcatenationOptionsT(axis=2)
        shape = (1, self.number, 4)
        self.writer.node("CONCATENATION", [middle, logs], f"{_PREFIX}box_codes", shape, options)

    def score(self) -> None:
        """Write `class_scores` (1, A, empty classes + classes), 0 for boxes without area."""
        logits = self.columns(LOGITS, "object_logits", 1, self.classes)
        scores = self.unary("LOGISTIC", logits, "all_scores", None)
        sides = f"{_PREFIX}sides"
        height, width = (
            self.columns(sides, name, i, 1) for i, name in enumerate(("height", "width"))
        )
        areas = self.binary("MUL", height, width, "areas")
        shape = (1, self.number, 1)
        options = schema.GreaterOptionsT()
        inputs = [areas, f"{_PREFIX}zero"]
        self.writer.node("GREATER", inputs, f"{_PREFIX}has_area", shape, options, np.bool_)
        options = schema.CastOptionsT(schema.TensorType.BOOL, schema.TensorType.FLOAT32)
        factor = f"{_PREFIX}area_factor"
        self.writer.node("CAST", [f"{_PREFIX}has_area"], factor, shape, options)
        scores = self.binary("MUL", scores, factor, "object_scores")
        pads = self.constant("empty", np.array([(0, 0), (0, 0), (_EMPTY_CLASSES, 0)], np.int32))
        shape = (1, self.number, _EMPTY_CLASSES + self.classes)
        options = schema.PadOptionsT()
        self.writer.node("PAD", [scores, pads], f"{_PREFIX}class_scores", shape, options)

    def suppress(self, rules: DetectionEvaluationConfig) -> None:
        """Write the operator; each class is suppressed on its own, as `use_regular_nms` says."""
        kept = rules.max_detections
        whole = np.tile(np.array([0, 0, 1, 1], np.float32), (self.number, 1))
        options = {
            "max_detections": kept,
            "max_classes_per_detection": 1,
            "detections_per_class": kept,
            "use_regular_nms": True,
            "nms_score_threshold": rules.score_threshold,
            "nms_iou_threshold": rules.nms_iou,
            "num_classes": _EMPTY_CLASSES + self.classes,
            "y_scale": 1.0,
            "x_scale": 1.0,
            "h_scale": 1.0,
            "w_scale": 1.0,
        }
        inputs = [
            f"{_PREFIX}box_codes",
            f"{_PREFIX}class_scores",
            self.constant("whole_image", whole),
        ]
        boxes, classes, scores, count = DETECTED
        found, numbered = f"{_PREFIX}found_boxes", f"{_PREFIX}found_classes"
        outputs: dict[str, tuple[int, ...]] = {
            found: (1, kept, 4),
            numbered: (1, kept),
            scores: (1, kept),
            count: (1,),
        }
        self.writer.custom(_OPERATOR, inputs, outputs, bytes(flexbuffers.Dumps(options)))
        zero, one = f"{_PREFIX}zero", f"{_PREFIX}one"
        # The last digit of what was clipped is lost on the way through the logarithm.
        found = self.binary("MAXIMUM", found, zero, "found_inside")
        self.binary("MINIMUM", found, one, boxes, prefix="")
        empty = self.constant("empty_classes", np.array(_EMPTY_CLASSES))
        numbered = self.binary("SUB", numbered, empty, "found_labels")
        # Rows that fill up have class 0.
        self.binary("MAXIMUM", numbered, zero, classes, prefix="")

    def columns(self, x: str, name: str, begin: int, count: int) -> str:
        """Write a part of the columns of a tensor (1, A, columns)."""
        places = {"begin": [0, 0, begin], "size": [1, self.number, count]}
        ends = [
            self.constant(f"{name}.{end}", np.array(place, np.int32))
            for end, place in places.items()
        ]
        shape = (1, self.number, count)
        self.writer.node("SLICE", [x, *ends], _PREFIX + name, shape, schema.SliceOptionsT())
        return _PREFIX + name

    def binary(self, kind: str, x: str, y: str, name: str, prefix: str = _PREFIX) -> str:
        """Write an operator of two tensors, of the first one's shape."""
        options = {
            "ADD": schema.AddOptionsT,
            "SUB": schema.SubOptionsT,
            "MUL": schema.MulOptionsT,
            "MINIMUM": schema.MaximumMinimumOptionsT,
            "MAXIMUM": schema.MaximumMinimumOptionsT,
        }[kind]()
        self.writer.node(kind, [x, y], prefix + name, self.writer.shape(x), options)
        return prefix + name

    def unary(self, kind: str, x: str, name: str, options: object) -> str:
        self.writer.node(kind, [x], _PREFIX + name, self.writer.shape(x), options)
        return _PREFIX + name

    def constant(self, name: str, array: np.ndarray) -> str:
        is_place = array.dtype == np.int32
        return self.writer.constant(_PREFIX + name, array if is_place else array.astype(np.float32))
