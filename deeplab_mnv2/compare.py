"""Compare evaluations of the same images: is the difference more than chance?

  python -m deeplab_mnv2.compare runs/first runs/second [MORE RUNS] [--output DIR]
  python -m deeplab_mnv2.compare runs/new_* --against runs/old_* [--output DIR]

A run is a folder that train or evaluate has finished; the others are compared with the first.
Single runs show which weights score higher on such images. Which recipe is better takes several
runs of each, with other seeds: the second form. Leaves compare.json, compare.html and figures/ in
the output folder.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from deeplab_mnv2.cli import command
from deeplab_mnv2.config import ScoringConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.report.comparison import compare, conclusion, load_runs, verdict
from deeplab_mnv2.report.comparison_page import write_comparison
from deeplab_mnv2.training.log import read_metrics

_NUMBER = partial(Column, justify="right")


def main(arguments: list[str]) -> None:
    """Run the command."""
    folders = [Path(argument) for argument in arguments]
    against = [Path(folder) for folder in flags.FLAGS.against]
    if len(folders) < 2 - bool(against):
        raise UserError("Name two runs or more, folders that train or evaluate has finished.")
    output = Path(flags.FLAGS.output or "runs/compare")
    runs = load_runs([*against, *folders])
    command.require_writable(output, "--output")
    # The first arm is what the others are compared with.
    size = len(against)
    arms = [runs[:size], runs[size:]] if against else [[run] for run in runs]
    found = compare(arms, samples=ScoringConfig().bootstrap_samples)
    histories = {run.title: read_metrics(run.folder / "metrics.jsonl") for run in runs}
    write_comparison(runs, found, output / "compare.html", histories)
    with replace_atomically(output / "compare.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
    _print(found, Console(highlight=False))
    print(f"see {output / 'compare.html'}")


def _print(found: dict[str, Any], console: Console) -> None:
    title = found["score_title"]
    table = Table("run", _NUMBER(title), _NUMBER("95 % interval"), box=box.SIMPLE)
    for run in found["runs"]:
        score = _percent(run[found["score"]])
        table.add_row(Text(run["run"]), score, _ends(run["ci95"], _percent))
    console.print(table)
    for difference in found["differences"]:
        names = difference["run"], difference["baseline"]
        numbers = _NUMBER("difference"), _NUMBER("95 % interval")
        table = Table("class", *numbers, "verdict", box=box.SIMPLE)
        for name, entry in difference[found["by_class"]].items():
            points = _signed(entry["difference"])
            table.add_row(Text(name), points, _ends(entry["ci95"], _signed), verdict(entry))
        console.print(Text(f"{names[0]} against {names[1]}, in points"))
        console.print(table)
    for difference in found["differences"]:
        console.print(Text(_sentence(difference, title)), soft_wrap=True)
    for warning in found["warnings"]:
        console.print(Text(f"warning: {warning}"), soft_wrap=True)


def _sentence(difference: dict[str, Any], title: str) -> str:
    ends = f" ({_ends(difference['ci95'], _signed)})" if difference["ci95"] else ""
    return (
        f"{difference['run']} against {difference['baseline']}: "
        f"{_signed(difference['difference'])}{ends} points of {title}; {conclusion(difference)}."
    )


def _ends(ends: list[float] | None, write: Any) -> str:
    return "–" if ends is None else f"{write(ends[0])} to {write(ends[1])}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.2f}"


def _each_with_its_flag(arguments: list[str]) -> list[str]:
    """Return `--against A B`, as a shell expands `--against runs/*`, as two flags."""
    found, after = [], False
    for argument in arguments:
        if argument.startswith("-"):
            found.append(argument)
            after = argument.lstrip("-").partition("=")[0] == "against"
        elif after and found[-1].lstrip("-") == "against":
            # The value of the flag itself. Without one the flag stays, and is refused.
            found[-1] += f"={argument}"
        else:
            found.append(f"--against={argument}" if after else argument)
    return found


if __name__ == "__main__":
    flags.DEFINE_multi_string("against", [], "Runs that the others, as one, are compared with.")
    flags.DEFINE_string("output", "", "Folder for the results; default runs/compare.")
    sys.argv[1:] = _each_with_its_flag(sys.argv[1:])
    command.run(main, takes_arguments=True)
