"""Detection: the augmentation of training images, and how images are scored."""

import dataclasses

from deeplab_mnv2.config.data import InputConfig
from deeplab_mnv2.config.evaluation import ScoringConfig


@dataclasses.dataclass
class DetectionDataConfig(InputConfig):
    """Data sets of boxes, and the augmentation of training images.

    Images are scaled to a square of `crop_size`, the network's `image_size`, whatever their
    aspect.
    """

    crop_size: int = 300
    # Probability that the image shrinks into a larger one of the mean colour (arXiv:1512.02325).
    zoom_out: float = 0.0
    # Take a random part that covers some object well enough (arXiv:1512.02325, Section 2.2).
    crop: bool = True
    # Boxes of an image that are trained on, the first so many; COCO's fullest image has 93.
    max_boxes: int = 100

    def check(self) -> None:
        super().check()
        self.require(0 <= self.zoom_out <= 1, "zoom_out", "in [0, 1]")
        self.require_at_least(1, "max_boxes")


@dataclasses.dataclass
class DetectionEvaluationConfig(ScoringConfig):
    """The protocol under which detection is scored; defaults are TensorFlow's and COCO's."""

    batch_size: int = 16
    # Boxes that score no more are dropped. Nearly all are kept: what is found late still adds to
    # the average precision.
    score_threshold: float = 1e-8
    # A box that overlaps a better one of its class by more is dropped.
    nms_iou: float = 0.6
    # Boxes kept of an image, over all classes.
    max_detections: int = 100
    # "bilinear" has pixel centres at half integers; "legacy" is TensorFlow 1's rule, under which
    # the published networks were trained: corners at integers, the last row repeated.
    resize: str = "bilinear"
    # "coco" averages over IoU 0.5 to 0.95 (arXiv:1405.0312); "voc" takes IoU 0.5.
    metric: str = "coco"

    def check(self, output_stride: int) -> None:
        super().check(output_stride)
        self.require(0 <= self.score_threshold < 1, "score_threshold", "in [0, 1)")
        self.require(0 < self.nms_iou <= 1, "nms_iou", "in (0, 1]")
        self.require_at_least(1, "max_detections")
        self.require_one_of(("bilinear", "legacy"), "resize")
        self.require_one_of(("coco", "voc"), "metric")
