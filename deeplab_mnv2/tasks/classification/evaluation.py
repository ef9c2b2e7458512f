"""A data set classified: what `eval.json` and the pictures say of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.files import replace_together

# A table of more classes than this shows the worst only.
_ROWS = 40


@dataclasses.dataclass
class ClassifiedPicture:
    """An image that was scored, (crop, crop, 3) uint8, with its classes and why it was chosen."""

    name: str
    image: np.ndarray
    label: str
    classes: list[str]
    probabilities: list[float]
    groups: tuple[str, ...]


@dataclasses.dataclass
class ClassificationEvaluation:
    """What an evaluation found; `result` is the content of `eval.json`.

    `predictions` (N, 5) are the likeliest classes of each image with their `probabilities`.
    """

    result: dict[str, Any]
    names: list[str]
    labels: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    pictures: list[ClassifiedPicture]

    def warnings(self) -> list[str]:
        """Return what makes the scores worth less than they seem, a sentence each."""
        predicted = np.unique(self.predictions[:, 0])
        if len(predicted) > 1 or len(np.unique(self.labels)) < 2:
            return []
        name = list(self.result["accuracy"])[predicted[0]]
        return [
            f"Every image is predicted as {name!r}. That passes in a run's first steps; if it "
            "lasts, check the class folders and the learning rate."
        ]

    def shown(self) -> dict[str, np.ndarray]:
        """Return one of each kind of picture, for TensorBoard."""
        return {group: picture.image for picture in self.pictures for group in picture.groups}

    def summary(self) -> str:
        result = self.result
        low, high = result["ci95"] or (float("nan"),) * 2
        return (
            f"top-1 {100 * result['top1']:.2f} % (95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f}), top-5 {100 * result['top5']:.2f} % on {result['images']} images"
        )

    def conditions(self) -> str:
        stamp = self.result["protocol"]
        return (
            f"shorter side {stamp['resize'] or 'as it is'}, the middle {stamp['crop_size']} x "
            f"{stamp['crop_size']}, {stamp['interpolation']}"
        )

    def table(self) -> str:
        """Return accuracy by class and its 95 % interval in percent; of many classes the worst."""
        accuracy = {n: value for n, value in self.result["accuracy"].items() if value is not None}
        names = list(accuracy)
        title = "class"
        if len(names) > _ROWS:
            names = sorted(names, key=lambda name: accuracy[name])[:_ROWS]
            title = f"the {_ROWS} worst of {len(accuracy)} classes"
        width = max(len(title), *map(len, names))
        lines = [f"{title:{width}}  {'top-1':>6}  95 % interval"]
        for name in names:
            interval = self.result["accuracy_ci95"][name] or ()
            between = " to ".join(f"{100 * bound:.2f}" for bound in interval) or "-"
            lines.append(f"{name:{width}}  {100 * accuracy[name]:>6.2f}  {between}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write `eval.json` and `predictions.npz`: `names`, `labels`, `classes`, `probabilities`.

        Raises:
            UserError: they cannot be written.
        """
        names = "eval.json", "predictions.npz"
        with replace_together(*(folder / name for name in names)) as (result, predictions):
            with predictions.open("wb") as file:
                np.savez_compressed(
                    file,
                    names=self.names,
                    labels=self.labels,
                    classes=self.predictions,
                    probabilities=self.probabilities,
                )
            result.write_text(json.dumps(self.result, indent=1) + "\n")
