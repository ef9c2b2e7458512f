"""Train several seeds, or several values of settings, one run after the other, and compare them.

  python -m deeplab_mnv2.sweep --seeds 0,1,2 [--config FILE] [--workdir DIR]
  python -m deeplab_mnv2.sweep --grid optimizer.learning_rate=0.001,0.003 --grid data.flip=1,0

Every combination of the grid is trained with every seed, in a folder of its own below the workdir.
The last table has a line for each combination: the mean score and its spread over the seeds. Leaves
it in sweep.json and sweep.csv too. The same command resumes; runs that have finished are only
scored again. Choose settings on a part of the training set, and score the chosen ones once.
"""

import csv
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import config_flags
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from deeplab_mnv2.cli import command
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import read_json, replace_atomically
from deeplab_mnv2.tasks.task_of import task_of

# The flags that the runs are given as they are, beside the config's fields.
_PASSED_ON = ("config", "weights")
# What begins a flag, and no negative number.
_FLAG = re.compile(r"--|-[a-z]")
# Between the values of a field, but not within the brackets of one.
_COMMA = re.compile(r",(?![^(\[]*[)\]])")

Combination = dict[str, str]


def combinations(grid: list[str]) -> list[Combination]:
    """Return every combination of the values of fields, each given as "FIELD=VALUE,VALUE".

    Raises:
        UserError: a field has no values, or is there twice.
    """
    values: dict[str, list[str]] = {}
    for line in grid:
        field, equals, text = line.partition("=")
        found = [value.strip() for value in _COMMA.split(text)]
        if field == "train.seed":
            raise UserError("--grid train.seed is no setting to compare; give --seeds 0,1,2.")
        if not equals or not field or not all(found) or field in values:
            raise UserError(
                f"--grid {line} is no field with values, or names a field again; give such as "
                "--grid optimizer.learning_rate=0.001,0.003."
            )
        values[field] = found
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def train(arguments: list[str], workdir: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Train in a process of its own, or resume it; a finished run is only scored again.

    Raises:
        UserError: the training failed, and has said why.
    """
    program = [sys.executable, "-m", "deeplab_mnv2.train", *arguments, f"--workdir={workdir}"]
    if subprocess.run(program, env=environment, check=False).returncode:
        raise UserError(f"The training of {workdir} ended with an error; correct what it says.")


def experiment_arguments(arguments: list[str]) -> list[str]:
    """Return those of a command's arguments that choose the experiment, its fields and weights."""
    found, may_have_value = [], False
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        is_flag = _FLAG.match(argument) is not None
        # Fields that are true or false have no value of their own, and a false one begins with no.
        is_passed_on = is_flag and (
            name in _PASSED_ON or name.removeprefix("no").startswith("config.")
        )
        if is_passed_on or (may_have_value and not is_flag):
            found.append(argument)
        may_have_value = is_passed_on and "=" not in argument
    return found


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    seeds = _seeds(given.seeds)
    chosen = combinations(given.grid)
    output = Path(given.workdir or Path("runs", f"{command.experiment_name()}_sweep"))
    shared = experiment_arguments(sys.argv[1:])
    if "train.seed" in config_flags.get_override_values(flags.FLAGS["config"]):
        raise UserError("--config.train.seed is overridden by --seeds; give --seeds 0,1,2.")
    for combination in chosen:
        # Mistakes in the last one come up before the first is trained.
        command.overridden_copy(given.config, _overrides(combination)).check()
    command.require_writable(output, "--workdir")
    task = task_of(given.config)
    found: list[dict[str, Any]] = []
    for combination in chosen:
        scores = []
        for seed in seeds:
            workdir = output / _name(combination, seed)
            train([*shared, *_overrides(combination), f"--config.train.seed={seed}"], workdir)
            scores.append(float(read_json(workdir / "eval.json")[task.score]))
        found.append(
            {
                "settings": combination,
                "seeds": seeds,
                "scores": scores,
                "mean": float(np.mean(scores)),
                "standard_deviation": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            }
        )
    _write(found, task.score, output)
    _print(found, task.score)
    print(f"see {output}")


def _seeds(texts: list[str]) -> list[int]:
    seeds = [int(text) for text in texts if text.isdecimal()]
    if not texts or len({*seeds}) < len(texts):
        raise UserError(f"--seeds {','.join(texts)} are no different whole numbers, such as 0,1,2.")
    return seeds


def _overrides(combination: Combination) -> list[str]:
    return [f"--config.{field}={value}" for field, value in combination.items()]


def _name(combination: Combination, seed: int) -> str:
    """Return a folder's name, in which only what every system takes is left of the values."""
    parts = [f"{field.rpartition('.')[2]}={value}" for field, value in combination.items()]
    whole = "-".join([*parts, f"seed{seed}"])
    name = re.sub(r"[^\w.=+-]+", "_", whole)
    # Values that differ in what is left out keep folders of their own.
    return name if name == whole else f"{name}-{hashlib.sha256(whole.encode()).hexdigest()[:6]}"


def _write(found: list[dict[str, Any]], score: str, output: Path) -> None:
    with replace_atomically(output / "sweep.json") as temporary:
        temporary.write_text(json.dumps({"score": score, "runs": found}, indent=1) + "\n")
    fields = list(found[0]["settings"])
    with (
        replace_atomically(output / "sweep.csv") as temporary,
        temporary.open("w", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([*fields, "seed", score])
        for each in found:
            for seed, value in zip(each["seeds"], each["scores"], strict=True):
                writer.writerow([*each["settings"].values(), seed, value])


def _print(found: list[dict[str, Any]], score: str) -> None:
    """Print a line for each combination, the best first."""
    fields = list(found[0]["settings"])
    numbers = [Column(name, justify="right") for name in ("runs", score, "±", "lowest", "highest")]
    table = Table(*fields, *numbers, box=box.SIMPLE)
    for each in sorted(found, key=lambda each: -each["mean"]):
        spread = each["standard_deviation"]
        scores = each["scores"]
        table.add_row(
            *map(Text, each["settings"].values()),
            str(len(scores)),
            f"{100 * each['mean']:.2f}",
            "–" if spread is None else f"{100 * spread:.2f}",
            f"{100 * min(scores):.2f}",
            f"{100 * max(scores):.2f}",
        )
    Console(highlight=False).print(table)


if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_list("seeds", ["0"], "Seeds that each combination is trained with.")
    flags.DEFINE_multi_string("grid", [], "FIELD=VALUE,VALUE; again for another field.")
    flags.DEFINE_string("workdir", None, "Folder of the runs; default runs/EXPERIMENT_sweep.")
    flags.DEFINE_string("weights", None, "Initial weights, instead of the config's.")
    command.run(main, default_config=command.QUICKSTART)
