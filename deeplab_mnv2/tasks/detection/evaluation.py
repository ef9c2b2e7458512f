"""A data set searched: what `eval.json` and the pictures say of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.data.boxes import Objects
from deeplab_mnv2.files import replace_together
from deeplab_mnv2.tasks.detection.drawing import draw_boxes
from deeplab_mnv2.tasks.detection.matches import Detections

# Boxes of a lower score are not drawn where no better operating point is known.
_SHOWN_SCORE = 0.3


@dataclasses.dataclass
class DetectedPicture:
    """An image that was scored, (H, W, 3) uint8, its objects, what was found and its own AP50."""

    name: str
    image: np.ndarray
    objects: Objects
    detections: Detections
    ap50: float
    groups: tuple[str, ...]


@dataclasses.dataclass
class DetectionEvaluation:
    """What an evaluation found; `result` is the content of `eval.json`."""

    result: dict[str, Any]
    names: list[str]
    objects: list[Objects]
    detections: list[Detections]
    pictures: list[DetectedPicture]

    @property
    def score(self) -> str:
        """The key of the main score, "ap" or "ap50"."""
        return "ap" if "ap" in self.result else "ap50"

    @property
    def shown_score(self) -> float:
        """The score from which boxes are drawn."""
        point = self.result["operating_point"]
        return point["score"] if point else _SHOWN_SCORE

    def warnings(self) -> list[str]:
        """Return what makes the scores worth less than they seem, a sentence each."""
        if self.result["operating_point"] is None:
            return [
                "No box finds an object. That passes in a run's first steps; if it lasts, check "
                "the boxes (python -m deeplab_mnv2.doctor) and the learning rate."
            ]
        return []

    def shown(self) -> dict[str, np.ndarray]:
        """Return one of each kind of picture with its boxes, for TensorBoard."""
        names = list(self.result["ap_per_class"])
        return {
            group: draw_boxes(picture.image, picture.detections, names, self.shown_score)
            for picture in self.pictures
            for group in picture.groups
        }

    def summary(self) -> str:
        result = self.result
        low, high = result["ci95"] or (float("nan"),) * 2
        title = {"ap": "AP", "ap50": "AP50"}[self.score]
        other = f", AP50 {100 * (result['ap50'] or 0):.2f} %" if self.score == "ap" else ""
        return (
            f"{title} {100 * (result[self.score] or 0):.2f} % (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}){other} on {result['images']} images"
        )

    def conditions(self) -> str:
        stamp = self.result["protocol"]
        return (
            f"{stamp['image_size']} x {stamp['image_size']}, {stamp['resize']}, {stamp['metric']}, "
            f"non-maximum suppression {stamp['nms_iou']}, scores above "
            f"{stamp['score_threshold']:g}, {stamp['max_detections']} boxes an image"
        )

    def table(self) -> str:
        """Return AP by class and its 95 % interval in percent, of the classes with objects."""
        found = {n: v for n, v in self.result["ap_per_class"].items() if v is not None}
        width = max(map(len, ["class", *found]))
        lines = [f"{'class':{width}}  {'AP':>6}  {'objects':>7}  95 % interval"]
        for name, value in found.items():
            interval = self.result["ap_per_class_ci95"][name] or ()
            between = " to ".join(f"{100 * bound:.2f}" for bound in interval) or "-"
            number = self.result["objects_per_class"][name]
            lines.append(f"{name:{width}}  {100 * value:>6.2f}  {number:>7}  {between}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `eval.json`, and `detections.npz` with all boxes, which comparisons need.

        The latter has `names` (N,), and of objects and of detections `boxes` (M, 4) in pixels,
        `label` (M,), `image` (M,), and `ignore` and `area`, or `scores`.

        Raises:
            UserError: they cannot be written.
        """
        names = "eval.json", "detections.npz"
        with replace_together(*(folder / name for name in names)) as (result, found):
            with found.open("wb") as file:
                arrays = {
                    "names": np.array(self.names),
                    **_flat("object", self.objects),
                    **_flat("detection", self.detections),
                }
                np.savez_compressed(file, allow_pickle=False, **arrays)
            result.write_text(json.dumps(self.result, indent=1) + "\n")


def _flat(prefix: str, parts: list[Any]) -> dict[str, np.ndarray]:
    """Return the arrays of all images one after the other, and the image of each row."""
    counts = [len(part.label) for part in parts]
    fields = [field.name for field in dataclasses.fields(parts[0])] if parts else []
    flat = {
        f"{prefix}_{name}": np.concatenate([getattr(p, name) for p in parts]) for name in fields
    }
    return {**flat, f"{prefix}_image": np.repeat(np.arange(len(parts)), counts)}
