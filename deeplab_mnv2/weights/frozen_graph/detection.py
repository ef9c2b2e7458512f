"""SSDLite in a graph that TensorFlow's object detection library wrote."""

from typing import Any

from deeplab_mnv2.config import BackboneConfig
from deeplab_mnv2.models.mobilenet_v2 import DETECTED_STAGE
from deeplab_mnv2.models.ssdlite import BOXES_PER_CELL, EXTRA_CHANNELS
from deeplab_mnv2.weights.graph import Conv, Graph
from deeplab_mnv2.weights.naming import Kind
from deeplab_mnv2.weights.walk import Walk

# Our parts, and how TensorFlow names the two heads of a level: the one thing that a graph does
# not tell by its form, since box and class heads differ in width alone.
_HEADS = {"box_heads": "/BoxEncodingPredictor", "class_heads": "/ClassPredictor"}


class DetectionWalk(Walk):
    """A walk from image to the predictions of every level."""

    def __init__(self, graph: Graph, path: str, image_size: int | None):
        super().__init__(graph, path)
        self.image_size = image_size
        # The heads whose layers are in sight; "" sees the rest of the network.
        self.part = ""

    def network(self) -> Kind:
        x = self.take("head", self.backbone(), "relu6").output
        levels = [self.layers[f"backbone.stages.{DETECTED_STAGE}.0.expand"].output, x]
        for index in range(len(EXTRA_CHANNELS)):
            name = f"extras.{index}"
            half = self.take(f"{name}.reduce", x, "relu6").output
            half = self.take(f"{name}.depthwise", half, "relu6", kernel_size=3, depthwise=True)
            x = self.take(f"{name}.expand", half.output, "relu6").output
            levels.append(x)
        for part in _HEADS:
            self.part = part
            for index, level in enumerate(levels):
                name = f"{part}.{index}"
                filtered = self.take(
                    f"{name}.depthwise", level, "relu6", kernel_size=3, depthwise=True
                )
                self.take(f"{name}.predict", filtered.output, "none")
        if left_over := len(super().nodes(Conv)) - len(self.layers):
            raise self.other(f"{left_over} of its convolutions are left over")
        return "detection"

    def config(self, kind: Kind, width_multiplier: float, divisible_by: int) -> BackboneConfig:
        config: Any = super().config(kind, width_multiplier, divisible_by)
        # One slot is background's.
        slots = self.layers["class_heads.0.predict"].kernel.shape[-1] // BOXES_PER_CELL[0]
        if slots < 2:
            raise self.other("it tells no classes apart")
        config.num_classes = slots - 1
        if self.image_size is not None:
            config.image_size = self.image_size
        return config

    def nodes(self, kind: type) -> list:
        return [node for node in super().nodes(kind) if _part_of(node.output) == self.part]


def _part_of(tensor: int | str) -> str:
    """Return which heads a tensor belongs to, "" for the network before them."""
    return next((part for part, name in _HEADS.items() if name in str(tensor)), "")
