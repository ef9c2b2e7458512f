"""A kept row of results, run again: does it come back within what the row claims?"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.protocol import differing_fields
from deeplab_mnv2.files import read_json
from deeplab_mnv2.tasks.segmentation.metrics import miou
from deeplab_mnv2.weights.naming import SCORE_TITLES
from experiments.tools.steadiness import prediction

# Fractions by which rounding moves the score of the same weights.
_ROUNDING = 5e-4
# What of its protocol segmentation can be scored by otherwise than its page says.
_CHOSEN = {"output_stride", "scales", "flip"}


def claimed(row: dict[str, Any], results: list[dict[str, Any]]) -> tuple[float, float, str]:
    """Return the least and greatest score that a row claims of another run, and why.

    `results` are the scores of the row, those of its other seeds after it.
    """
    scores = [_score(result) for result in results]
    if not row["steps"]:
        low, high = scores[0] - _ROUNDING, scores[0] + _ROUNDING
        return low, high, "the same weights, up to rounding"
    if len(scores) > 1:
        low, high = prediction(scores)
        return low, high, f"95 % of other runs, by {len(scores)} seeds"
    low, high = results[0]["ci95"]
    return low, high, "one run: its interval over images, which does not cover other runs"


def command(row: dict[str, Any], result: dict[str, Any], data: str, start: str) -> list[str]:
    """Return the arguments that make a row again, but for its folder.

    Raises:
        UserError: `start` is not the file of weights that the row starts from.
    """
    if row["start"] != "random" and Path(start).name != row["start"]:
        raise UserError(f"The row starts from {row['start']}; give that file as --weights.")
    weights = ["--weights", start] if start else []
    if row["steps"]:
        page = f"{row['experiment']}:{data}" if data else row["experiment"]
        seed = f"--config.train.seed={row['seed']}"
        settings = [f"--config.{setting}" for setting in row.get("settings", [])]
        return ["deeplab_mnv2.train", "--config", page, seed, *settings, *weights, "--workdir"]
    if "ap" in result:
        page, how = "ssdlite_coco", ["--class_names", ",".join(result["protocol"]["classes"])]
    else:
        page, how = "voc_os16", _protocol(result)
    return ["deeplab_mnv2.evaluate", "--config", f"{page}:{data}", *weights, *how, "--output"]


def _protocol(result: dict[str, Any]) -> list[str]:
    """Return the flags of `evaluate` for how a segmentation was scored."""
    protocol = result["protocol"]
    stride, scales = str(protocol["output_stride"]), ",".join(map(str, protocol["scales"]))
    flip = ["--flip"] if protocol["flip"] else []
    return ["--output_stride", stride, "--scales", scales, *flip]


def _score(result: dict[str, Any]) -> float:
    """Return the score of a result, by which its task is judged."""
    return next(result[name] for name in SCORE_TITLES if name in result)


def compare(
    row: dict[str, Any], results: list[dict[str, Any]], again: dict[str, Any]
) -> tuple[bool, str]:
    """Return whether a score made again is within what the row claims, and a sentence on it.

    Raises:
        UserError: the kept score does not follow from its counts, or `again` was scored otherwise.
    """
    kept, score = results[0], _score(again)
    if "miou" in kept and abs(float(miou(np.array(kept["confusion"]))) - kept["miou"]) > 1e-9:
        raise UserError(
            "The kept mIoU is not that of the kept confusion matrix: the row was changed by hand; "
            "run it again and keep that."
        )
    if fields := differing_fields(kept["protocol"], again["protocol"]):
        raise UserError(f"The row was scored otherwise, in {', '.join(fields)}; check --data.")
    low, high, why = claimed(row, results)
    within = low <= score <= high
    return within, (
        f"{100 * score:.2f} % here, {100 * _score(kept):.2f} % kept; the row claims "
        f"{100 * low:.2f} to {100 * high:.2f} ({why}): {'within' if within else 'NOT within'}."
    )


def reproduce(
    row: dict[str, Any], results: list[dict[str, Any]], folder: Path, data: str, start: str
) -> tuple[bool, str]:
    """Make a row again in `folder`, and return what `compare` does.

    Raises:
        UserError: the run failed, or see `command` and `compare`.
    """
    arguments = [*command(row, results[0], data, start), str(folder)]
    _run(arguments)
    again = read_json(folder / "eval.json")
    fields = differing_fields(results[0]["protocol"], again["protocol"])
    if row["steps"] and fields and _CHOSEN.issuperset(fields):
        # A row of a run that was scored otherwise than its page says.
        scores = folder / "scores"
        evaluate = ["deeplab_mnv2.evaluate", *arguments[1:3], "--weights", str(folder)]
        _run([*evaluate, *_protocol(results[0]), "--output", str(scores)])
        again = read_json(scores / "eval.json")
    return compare(row, results, again)


def _run(arguments: list[str]) -> None:
    if subprocess.run([sys.executable, "-m", *arguments], check=False).returncode:
        raise UserError(f"python -m {' '.join(arguments)} failed; correct what it says.")
