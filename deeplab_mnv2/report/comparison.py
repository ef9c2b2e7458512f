"""Evaluations of the same images, compared image by image: single runs, or several of each kind."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.bootstrap import Interval
from deeplab_mnv2.evaluation.protocol import differing_fields
from deeplab_mnv2.evaluation.ratios import json_number
from deeplab_mnv2.tasks.stored_run import StoredRun, require_stored, unreadable_scores
from deeplab_mnv2.tasks.stored_run_of import stored_run

_IMAGES_AND_RUNS = "images and runs"
# Values longer than this are not quoted in error messages.
_QUOTED = 40


@dataclasses.dataclass
class Run:
    """An evaluation read from its folder; `stored` is what was found in the images."""

    folder: Path
    result: dict[str, Any]
    stored: StoredRun
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
        if run.stored.names != first.stored.names:
            raise UserError(
                f"{first.folder} and {run.folder} do not hold the same images in the same order; "
                "evaluate both on the same split."
            )
        if not run.stored.has_same_labels(first.stored):
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
    score = first.stored.score
    return {
        "score": score,
        "score_title": first.stored.title,
        "by_class": first.stored.by_class,
        "protocol_hash": first.result["protocol"]["protocol_hash"],
        "images": len(first.stored.names),
        "bootstrap_samples": samples,
        "runs": [
            {
                "run": run.title,
                "folder": str(run.folder),
                "weights": run.result["protocol"]["weights"],
                score: run.result[score],
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
    arms = [[run.stored for run in arm] for arm in (first, second)]
    covers = _IMAGES_AND_RUNS if min(map(len, arms)) > 1 else "images"
    kept = first[0].stored
    overall_interval, *intervals = kept.difference_intervals(*arms, samples=samples)
    # Mean over runs of the overall score and of each class's.
    means = [np.mean([run.scores() for run in arm], axis=0) for arm in arms]
    overall, *by_class = zip(*means, strict=True)
    return {
        "run": _title(second),
        "baseline": _title(first),
        **_entry(overall, overall_interval, covers),
        kept.by_class: {
            name: _entry(pair, interval, covers)
            for name, pair, interval in zip(kept.class_names, by_class, intervals, strict=True)
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
    path = require_stored(folder, "eval.json")
    try:
        result = json.loads(path.read_text())
        ends = result["ci95"]
        if not (
            isinstance(result["protocol"]["protocol_hash"], str)
            and (ends is None or [type(end) for end in ends] == [float, float])
        ):
            raise ValueError("a field is of another type")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise unreadable_scores(folder) from error
    return Run(folder, result, stored_run(folder, result))


def _difference(field: str, first: Run, second: Run) -> str:
    values = [str(run.result["protocol"].get(field, "unknown")) for run in (first, second)]
    if max(map(len, values)) > _QUOTED:
        return field
    return f"{field} ({values[0]} and {values[1]})"
