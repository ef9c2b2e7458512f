"""Evaluations of the same images, compared image by image: single runs, or several of each kind."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.data.decode import read_arrays
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.bootstrap import Interval
from deeplab_mnv2.evaluation.protocol import differing_fields
from deeplab_mnv2.evaluation.ratios import json_number
from deeplab_mnv2.tasks.segmentation.intervals import difference_intervals
from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class, miou
from deeplab_mnv2.tasks.segmentation.pictures import Picture, load

_IMAGES_AND_RUNS = "images and runs"
# Values longer than this are not quoted in error messages.
_QUOTED = 40


@dataclasses.dataclass
class Run:
    """An evaluation read from its folder; `confusions` (N, C, C) is in the order of `names`."""

    folder: Path
    result: dict[str, Any]
    names: list[str]
    confusions: np.ndarray
    pictures: dict[str, Picture]
    # Its name in tables and pages that show several runs.
    title: str = ""


def load_runs(folders: list[Path]) -> list[Run]:
    """Read evaluations that may be compared.

    Raises:
        UserError: a folder is named twice or holds no complete evaluation, or two evaluations
            differ in protocol, images or labels.
    """
    places = [folder.resolve() for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise UserError(f"{place} is named twice; compare different runs.")
    runs = [_load_run(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        if fields := differing_fields(first.result["protocol"], run.result["protocol"]):
            described = ", ".join(_difference(field, first, run) for field in fields)
            raise UserError(
                f"{first.folder} and {run.folder} were scored differently, in {described}; "
                "evaluate both under the same protocol."
            )
        if run.names != first.names:
            raise UserError(
                f"{first.folder} and {run.folder} do not hold the same images in the same order; "
                "evaluate both on the same split."
            )
        # A row's sum is the number of pixels labelled with a class, whatever was predicted.
        if not np.array_equal(run.confusions.sum(axis=-1), first.confusions.sum(axis=-1)):
            raise UserError(
                f"{first.folder} and {run.folder} were scored against different labels of the same "
                "images; evaluate both on the same labels."
            )
    short = [place.name for place in places]
    for run, name in zip(runs, short, strict=True):
        run.title = name if short.count(name) == 1 else str(run.folder)
    return runs


def compare(arms: list[list[Run]], *, samples: int) -> dict[str, Any]:
    """Return the differences of every arm from the first, the content of `compare.json`.

    An arm is one run, or several of the same recipe, whose mean is compared. Differences are
    fractions. `ci95` is the paired bootstrap's interval over images, and over runs too where both
    arms have several (`covers`). `excludes_zero` is None where there are too few images for one.
    """
    runs = [run for arm in arms for run in arm]
    first = runs[0]
    return {
        "protocol_hash": first.result["protocol"]["protocol_hash"],
        "images": len(first.names),
        "bootstrap_samples": samples,
        "runs": [
            {
                "run": run.title,
                "folder": str(run.folder),
                "weights": run.result["protocol"]["weights"],
                "miou": run.result["miou"],
                "ci95": run.result["ci95"],
            }
            for run in runs
        ],
        "differences": [_differences(arms[0], arm, samples) for arm in arms[1:]],
        "warnings": _other_machines(runs),
    }


def verdict(difference: dict[str, Any]) -> str:
    """Return in a few words what a difference and its interval show.

    Only several runs a side can be better: of single runs, one scores higher.
    """
    if difference["excludes_zero"] is None:
        return "too few images"
    if not difference["excludes_zero"]:
        return "includes zero"
    words = ("better", "worse") if difference["covers"] == _IMAGES_AND_RUNS else ("higher", "lower")
    return words[0] if difference["difference"] > 0 else words[1]


def conclusion(difference: dict[str, Any]) -> str:
    """Return what the difference of two arms and its interval show, as half a sentence."""
    if difference["excludes_zero"] is None:
        return "there are too few images for an interval"
    if not difference["excludes_zero"]:
        return f"the interval over {difference['covers']} includes zero: no difference is shown"
    if difference["covers"] == _IMAGES_AND_RUNS:
        return f"the interval over {_IMAGES_AND_RUNS} excludes zero: {verdict(difference)}"
    return (
        "the interval over images excludes zero for these weights, but without several runs of "
        "each it says nothing about the recipes: another seed or machine gives other weights"
    )


def _differences(first: list[Run], second: list[Run], samples: int) -> dict[str, Any]:
    arms = first, second
    covers = _IMAGES_AND_RUNS if min(map(len, arms)) > 1 else "images"
    overall_interval, *intervals = difference_intervals(
        *([run.confusions for run in arm] for arm in arms), samples=samples
    )
    totals = [np.stack([run.confusions.sum(axis=0) for run in arm]) for arm in arms]
    overall = [np.mean(miou(total)) for total in totals]
    iou = [iou_per_class(total).mean(axis=0) for total in totals]
    pairs = zip(*iou, strict=True)
    return {
        "run": _title(second),
        "baseline": _title(first),
        **_entry(overall, overall_interval, covers),
        "iou": {
            name: _entry(pair, interval, covers)
            for name, pair, interval in zip(first[0].result["iou"], pairs, intervals, strict=True)
        },
    }


def _entry(scores: Sequence[Any], interval: Interval | None, covers: str) -> dict[str, Any]:
    baseline, value = scores
    return {
        "baseline_score": json_number(baseline),
        "score": json_number(value),
        "difference": json_number(value - baseline),
        "ci95": interval and list(interval),
        "excludes_zero": interval and bool(interval[0] > 0 or interval[1] < 0),
        "covers": covers,
    }


def _title(arm: list[Run]) -> str:
    return arm[0].title if len(arm) == 1 else f"{arm[0].title} and {len(arm) - 1} more"


def _other_machines(runs: list[Run]) -> list[str]:
    """Return a warning for every run that was made on another machine or with other libraries."""
    first, warnings = runs[0], []
    for run in runs[1:]:
        fields = [
            f"{part}.{name}"
            for part in ("machine", "versions")
            for name, value in run.result["protocol"].get(part, {}).items()
            if first.result["protocol"].get(part, {}).get(name, value) != value
        ]
        if fields:
            warnings.append(
                f"{first.title} and {run.title} differ in {', '.join(fields)}: they round "
                "differently, which a training may amplify as much as another seed would."
            )
    return warnings


def _load_run(folder: Path) -> Run:
    for name in ("eval.json", "confusions.npz"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} holds no {name}; give a folder that train or evaluate has finished."
            )
    stored = read_arrays(folder / "confusions.npz", ("names", "confusions"))
    names, confusions = stored["names"], stored["confusions"]
    try:
        result = json.loads((folder / "eval.json").read_text())
        total = np.array(result["confusion"], np.int64)
        if not _is_whole(result, names, confusions):
            raise ValueError("a field is missing or of another type")
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"The scores in {folder} cannot be read; evaluate it again.") from error
    if not np.array_equal(confusions.sum(axis=0), total):
        raise UserError(
            f"eval.json and confusions.npz in {folder} are of two evaluations; evaluate it again."
        )
    if missing := {"boundary_miou", "calibration", "object_size"} - result.keys():
        raise UserError(
            f"{folder / 'eval.json'} is of an older version, without {min(missing)}; evaluate "
            "it again."
        )
    by_name = dict(zip(names.tolist(), confusions, strict=True))
    return Run(folder, result, names.tolist(), confusions, load(folder / "pictures.zip", by_name))


def _is_whole(result: dict[str, Any], names: np.ndarray, confusions: np.ndarray) -> bool:
    """Return whether the fields that comparisons read have the types and shapes written."""
    images, classes = len(names), len(result["iou"])
    ends = result["ci95"]
    return (
        confusions.shape == (images, classes, classes)
        and np.issubdtype(confusions.dtype, np.integer)
        and isinstance(result["iou"], dict)
        and isinstance(result["miou"], float | None)
        and (ends is None or [type(end) for end in ends] == [float, float])
        and isinstance(result["protocol"]["protocol_hash"], str)
    )


def _difference(field: str, first: Run, second: Run) -> str:
    values = [str(run.result["protocol"].get(field, "unknown")) for run in (first, second)]
    if max(map(len, values)) > _QUOTED:
        return field
    return f"{field} ({values[0]} and {values[1]})"
