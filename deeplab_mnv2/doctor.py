"""Say what is wrong with a data set, before a night of training.

  python -m deeplab_mnv2.doctor --config experiments/voc_os16.py:VOC2012 [--output DIR]
  python -m deeplab_mnv2.doctor --config folder:PATH --propose PAGE.py    (the data written out)
  python -m deeplab_mnv2.doctor --batch FILE.npz       (a batch whose loss was not finite)

Leaves doctor.json, with every finding, and the contact sheet doctor.png in the output folder.
Exits 1 when there are errors.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from deeplab_mnv2.cli import command
from deeplab_mnv2.config import IGNORE_LABEL, Config, DataSet, DeepLabConfig, SsdLiteConfig
from deeplab_mnv2.data.encode import encoded
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.inspection.batch import batch_tiles, print_batch, read_batch
from deeplab_mnv2.inspection.contact_sheet import Tile, contact_sheet
from deeplab_mnv2.inspection.diagnosis import Diagnosis, by_split, diagnose_boxes, diagnose_classes
from deeplab_mnv2.inspection.example import SEVERITY, Finding
from deeplab_mnv2.inspection.proposal import proposed_page
from deeplab_mnv2.inspection.split import (
    Entry,
    Survey,
    find_twins,
    find_unlisted,
    list_entries,
    survey,
)

# Pictures on the contact sheet, and findings of a kind that are printed.
_TILES, _TOLD = 24, 3
# Classes whose numbers are printed.
_ROWS = 100
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def diagnose(config: Config, data_sets: list[DataSet]) -> tuple[list[Survey], list[Finding]]:
    """Examine data sets, with progress; return a survey of each that is there, and all findings.

    Findings are in the order of `SEVERITY`, the worst first.
    """
    surveys, findings = [], []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        for data_set in data_sets:
            try:
                if (classes := len(data_set.class_names)) != config.model.num_classes:
                    message = (
                        f"{data_set.split} names {classes} classes, but model.num_classes="
                        f"{config.model.num_classes}; set it to that number."
                    )
                    findings.append(Finding("class list", data_set.split, message))
                entries = list_entries(data_set)
            except UserError as error:
                findings.append(Finding("split entry", data_set.split, str(error)))
                continue
            task = progress.add_task(f"examining {data_set.split}", total=len(entries))
            threads = max(config.data.threads, config.data.workers)
            surveys.append(
                survey(data_set, entries, threads=threads, seen=lambda t=task: progress.advance(t))
            )
    find_twins(surveys)
    findings += find_unlisted(surveys)
    for split in surveys:
        findings += split.findings
        findings += [finding for e in split.examinations for finding in e.findings]
    kinds = list(SEVERITY)
    return surveys, sorted(findings, key=lambda finding: kinds.index(finding.kind))


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    config, output = given.config, Path(given.output or "runs/doctor")
    if given.batch:
        batch = read_batch(Path(given.batch))
        command.require_writable(output, "--output")
        print_batch(batch, config.model.num_classes)
        _save_sheet(batch_tiles(batch), output)
        return
    if given.propose:
        _propose(config, Path(given.propose))
        return
    data_sets = [config.data.train, config.data.val]
    if given.split:
        config.data.val.split = given.split
        data_sets = [config.data.val]
    command.require_writable(output, "--output")
    if isinstance(config.model, DeepLabConfig):
        surveys, findings = diagnose(config, data_sets)
        _write_json(findings, by_split(surveys, _facts), output)
        _print(surveys)
        tiles = _tiles(surveys)
    else:
        found = _diagnose_other(config, data_sets)
        findings, tiles = found.findings, found.tiles
        _write_json(findings, found.splits, output)
        _print_diagnosis(found)
    _print_findings(findings)
    _save_sheet(tiles, output)
    if any(finding.severity == "error" for finding in findings):
        sys.exit(1)


def _propose(config: Config, path: Path) -> None:
    """Write the page of a folder's data, which was found out.

    Raises:
        UserError: the config is of another page, or the file is there or cannot be written.
    """
    if command.experiment_name() != "folder":
        raise UserError(
            "--propose writes out what was found in a folder; give --config folder:PATH."
        )
    if path.exists():
        raise UserError(f"{path} exists; give --propose another name.")
    with replace_atomically(path) as temporary:
        temporary.write_text(proposed_page(config, path), encoding="utf-8")
    print(f"see {path}")


def _diagnose_other(config: Config, data_sets: list[DataSet]) -> Diagnosis:
    """Examine classified images or boxes, with progress."""
    threads = max(config.data.threads, config.data.workers)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:

        def begin(data_set: DataSet) -> Callable[[], None]:
            task = progress.add_task(f"examining {data_set.split}", total=len(data_set.open()))
            return lambda: progress.advance(task)

        if isinstance(config.model, SsdLiteConfig):
            size = config.model.image_size
            found = diagnose_boxes(data_sets, size, threads=threads, progress=begin)
        else:
            found = diagnose_classes(data_sets, threads=threads, progress=begin)
    kinds = list(SEVERITY)
    found.findings.sort(key=lambda finding: kinds.index(finding.kind))
    return found


def _print_diagnosis(found: Diagnosis) -> None:
    console = Console(highlight=False)
    for line in found.lines:
        console.print(line)
    first, *others = found.columns
    table = Table(first, *(Column(name, justify="right") for name in others), box=box.SIMPLE)
    for name, *numbers in found.rows[:_ROWS]:
        table.add_row(Text(name), *numbers)
    console.print(table)
    if len(found.rows) > _ROWS:
        console.print(f"and {len(found.rows) - _ROWS:,} more classes, in doctor.json")


def _print(surveys: list[Survey]) -> None:
    console = Console(highlight=False)
    for split in surveys:
        examples, void = len(split.entries), 100 * split.void
        console.print(f"{split.data_set.split}: {examples:,} examples, {void:.1f} % void")
    if surveys:
        console.print(_class_table(surveys))
        # Median-frequency balancing, as a line to paste.
        listed = ",".join(f"{weight:g}" for weight in surveys[0].class_weights)
        console.print(Text(f"--config.loss.class_weights={listed}"), soft_wrap=True)


def _print_findings(findings: list[Finding]) -> None:
    console = Console(highlight=False)
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    for kind, same in by_kind.items():
        severity = SEVERITY[kind]
        console.print(
            Text.assemble((f"{severity}: {kind}", _STYLES[severity]), f" ({len(same):,})")
        )
        for finding in same[:_TOLD]:
            console.print(Text(f"  {finding.message}"), soft_wrap=True)
        if len(same) > _TOLD:
            console.print(f"  and {len(same) - _TOLD:,} more, in doctor.json")
    severities = Counter(finding.severity for finding in findings)
    console.print(", ".join(f"{severities[s]:,} {s}s" for s in _STYLES))


def _class_table(surveys: list[Survey]) -> Table:
    table = Table(Column("class", no_wrap=True), box=box.SIMPLE)
    for split in surveys:
        for column in ("pixels %", "images", "weight"):
            table.add_column(f"{split.data_set.split}\n{column}", justify="right")
    for index, name in enumerate(surveys[0].data_set.class_names):
        row = []
        for split in surveys:
            labelled = max(1, split.pixels[:IGNORE_LABEL].sum())
            share = f"{100 * split.pixels[index] / labelled:.2f}"
            row += [share, f"{split.images[index]:,}", f"{split.class_weights[index]:.2f}"]
        table.add_row(Text(name), *row)
    table.caption = "weight: median-frequency balancing; the line below has the first split's"
    return table


def _facts(survey: Survey) -> dict[str, Any]:
    return {
        "examples": len(survey.entries),
        "void": survey.void,
        "classes": {
            name: {
                "pixels": int(survey.pixels[index]),
                "images": int(survey.images[index]),
                "weight": survey.class_weights[index],
            }
            for index, name in enumerate(survey.data_set.class_names)
        },
    }


def _write_json(findings: list[Finding], splits: dict[str, Any], output: Path) -> None:
    content: dict[str, Any] = {
        "findings": [
            {"severity": f.severity, "kind": f.kind, "where": f.where, "message": f.message}
            for f in findings
        ],
        "splits": splits,
    }
    with replace_atomically(output / "doctor.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def _tiles(surveys: list[Survey]) -> list[Tile]:
    """Return the worst examples, of many kinds; where nothing is wrong, some of each split."""
    ranks = list(SEVERITY)
    chosen: list[tuple[tuple[int, int], Survey, int, str]] = []
    numbers: Counter[str] = Counter()
    for split in surveys:
        for index, examination in enumerate(split.examinations):
            worst = min(examination.findings, key=lambda f: ranks.index(f.kind), default=None)
            if worst and worst.kind != "split entry":
                # The first of every kind, then the second of every kind, and so on.
                place = numbers[worst.kind], ranks.index(worst.kind)
                numbers[worst.kind] += 1
                chosen.append((place, split, index, _caption(split.entries[index], worst)))
    chosen.sort(key=lambda choice: choice[0])
    if not chosen:
        each = _TILES // max(1, len(surveys))
        for split in surveys:
            last = len(split.entries) - 1
            for index in np.linspace(0, last, min(each, last + 1)).astype(int).tolist():
                caption = f"{split.data_set.split}: {split.examinations[index].name}"
                chosen.append(((0, 0), split, index, caption))
    return [Tile(*split.pictures(index), caption) for _, split, index, caption in chosen[:_TILES]]


def _caption(entry: Entry, finding: Finding) -> str:
    """Return a finding without the folders of its files, which would fill the tile."""
    text = f"{finding.kind}: {finding.message}"
    for path in entry if isinstance(entry, tuple) else ():
        text = text.replace(f"{path.parent}{os.sep}", "")
    return text


def _save_sheet(tiles: list[Tile], output: Path) -> None:
    with replace_atomically(output / "doctor.png") as temporary:
        temporary.write_bytes(encoded(contact_sheet(tiles), "PNG"))
    print(f"see {output / 'doctor.png'}")


if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_string("split", "", "Examine this split of the validation data set alone.")
    flags.DEFINE_string("batch", "", "Show this batch, which train left, instead.")
    flags.DEFINE_string("propose", "", "Write the data of folder:PATH as a page, to correct it.")
    flags.DEFINE_string("output", "", "Folder for the results; default runs/doctor.")
    # `--batch` looks at a file, whatever the experiment.
    command.run(main, default_config=command.QUICKSTART)
