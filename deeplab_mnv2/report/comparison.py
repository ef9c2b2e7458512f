"""Two or more evaluations of the same images, compared image by image."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.data.decode import read_arrays
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.bootstrap import Interval
from deeplab_mnv2.evaluation.protocol import differing_fields
from deeplab_mnv2.tasks.segmentation.intervals import difference_intervals
from deeplab_mnv2.tasks.segmentation.metrics import iou_per_class, miou
from deeplab_mnv2.tasks.segmentation.pictures import Picture, load

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


def compare(runs: list[Run], *, samples: int) -> dict[str, Any]:
    """Return the differences of every run from the first, the content of `compare.json`.

    Differences are fractions. `excludes_zero` is whether the 95 % interval of the paired bootstrap
    over images excludes zero; None where there are too few images for an interval.
    """
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
        "differences": [_differences(first, run, samples) for run in runs[1:]],
    }


def verdict(difference: dict[str, Any]) -> str:
    """Return in a few words what a difference and its interval show."""
    if difference["excludes_zero"] is None:
        return "too few images"
    if not difference["excludes_zero"]:
        return "includes zero"
    return "better" if difference["difference"] > 0 else "worse"


def _differences(first: Run, second: Run, samples: int) -> dict[str, Any]:
    overall_interval, *intervals = difference_intervals(
        first.confusions, second.confusions, samples=samples
    )
    totals = [run.confusions.sum(axis=0) for run in (first, second)]
    overall = float(miou(totals[1]) - miou(totals[0]))
    iou = iou_per_class(totals[1]) - iou_per_class(totals[0])
    names = first.result["iou"]
    return {
        "run": second.title,
        "baseline": first.title,
        **_entry(overall, overall_interval),
        "iou": {
            name: _entry(float(value), interval)
            for name, value, interval in zip(names, iou, intervals, strict=True)
        },
    }


def _entry(value: float, interval: Interval | None) -> dict[str, Any]:
    return {
        "difference": None if np.isnan(value) else value,
        "ci95": interval and list(interval),
        "excludes_zero": interval and bool(interval[0] > 0 or interval[1] < 0),
    }


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
