"""A data set segmented: what `eval.json` and the pictures say of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.files import replace_together
from deeplab_mnv2.tasks.segmentation.counting import Counts
from deeplab_mnv2.tasks.segmentation.drawing import strip
from deeplab_mnv2.tasks.segmentation.pictures import Picture, save

# Twice as high and wide: VOC's photographs in squares of 513 are padded to 1.4 times their pixels.
_MUCH_PADDING = 4


@dataclasses.dataclass
class SegmentationEvaluation:
    """What an evaluation found; `result`, the content of `eval.json`, is that of `results`."""

    result: dict[str, Any]
    counts: Counts
    pictures: list[Picture]

    def warnings(self) -> list[str]:
        """Return what makes the scores worth less than they seem, a sentence each."""
        return [*self._warning_of_one_class(), *self._warning_of_padding()]

    def _warning_of_padding(self) -> list[str]:
        images, padded = self.counts.extents.prod(axis=2).sum(axis=0)
        if padded <= _MUCH_PADDING * images:
            return []
        return [
            f"The images are padded to {padded / images:.0f} times their pixels. The padding takes "
            "part in image pooling and can lower the score by points; leave "
            "evaluation.pad_sizes out, or give it sides that fit the images more closely."
        ]

    def _warning_of_one_class(self) -> list[str]:
        confusion = np.asarray(self.result["confusion"])
        predicted = np.flatnonzero(confusion.sum(axis=0))
        present = np.flatnonzero(confusion.sum(axis=1))
        if len(predicted) != 1 or len(present) < 2:
            return []
        name = list(self.result["iou"])[predicted[0]]
        return [
            f"Every pixel is predicted as {name!r}. That passes in a run's first steps; if it "
            "lasts, check the labels (python -m deeplab_mnv2.doctor) and the learning rate."
        ]

    def shown(self) -> dict[str, np.ndarray]:
        """Return one of the worst, of the best and of the random pictures, as strips."""
        groups = {group: picture for picture in self.pictures for group in picture.groups}
        return {
            group: strip(picture.image, picture.label, picture.prediction)
            for group, picture in groups.items()
        }

    def summary(self) -> str:
        result = self.result
        low, high = result["ci95"] or (float("nan"),) * 2
        return (
            f"mIoU {100 * (result['miou'] or 0):.2f} % (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}), pixel accuracy {100 * (result['pixel_accuracy'] or 0):.2f} % on "
            f"{result['images']} images"
        )

    def conditions(self) -> str:
        stamp = self.result["protocol"]
        return (
            f"stride {stamp['output_stride']}, scales {stamp['scales']}, flip {stamp['flip']}, "
            f"padded to {stamp['pad_sizes']}, void excluded"
        )

    def table(self) -> str:
        """Return the scores by class in percent, IoU with its 95 % interval, "-" for none."""
        width = max(map(len, self.result["iou"]))
        rows = [("class", "IoU", "95 % interval", "precision", "recall", "Dice")]
        for name in self.result["iou"]:
            interval = self.result["iou_ci95"][name] or ()
            iou, precision, recall, dice = (
                _percent(self.result[key][name]) for key in ("iou", "precision", "recall", "dice")
            )
            between = " to ".join(map(_percent, interval)) or "-"
            rows.append((name, iou, between, precision, recall, dice))
        return "\n".join(
            f"{name:{width}}  {iou:>6}  {interval:16}  {precision:>9}  {recall:>6}  {dice:>6}"
            for name, iou, interval, precision, recall, dice in rows
        )

    def write(self, folder: Path) -> None:
        """Write `eval.json`, `pictures.zip` (`pictures.save`) and `confusions.npz`.

        The last holds `names` and per-image `confusions` (N, C, C), which comparisons resample.

        Raises:
            UserError: they cannot be written.
        """
        names = "eval.json", "confusions.npz", "pictures.zip"
        with replace_together(*(folder / name for name in names)) as (result, counts, pictures):
            save(self.pictures, pictures)
            with counts.open("wb") as file:
                np.savez_compressed(
                    file, names=self.counts.names, confusions=self.counts.confusions
                )
            result.write_text(json.dumps(self.result, indent=1) + "\n")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
