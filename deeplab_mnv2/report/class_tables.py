"""The scores of classes, for spreadsheets and papers."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeplab_mnv2.evaluation.class_scores import class_scores
from deeplab_mnv2.files import replace_atomically

# What LaTeX reads as a command, and how it is written.
_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}
# What is a number and no share of something.
_COUNTS = ("objects_per_class", "images_per_class")


def write_class_tables(result: Mapping[str, Any], folder: Path) -> None:
    """Write the scores of each class in an `eval.json` as `classes.csv` and `classes.tex`.

    The CSV has shares as they are in the file; the other one is a table of percentages for LaTeX's
    package booktabs.

    Raises:
        UserError: one of them cannot be written.
    """
    table = class_scores(result)
    columns = ["class", *next(iter(table.values()))]
    for name, text in (
        ("classes.csv", _csv(columns, table)),
        ("classes.tex", _latex(columns, table)),
    ):
        with replace_atomically(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _csv(columns: list[str], table: dict[str, dict[str, float | None]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    # An empty cell is what spreadsheets have for None.
    writer.writerows([name, *row.values()] for name, row in table.items())
    return file.getvalue()


def _latex(columns: list[str], table: dict[str, dict[str, float | None]]) -> str:
    heads = [_escaped(column.replace("_", " ")) for column in columns]
    rows = [
        [_escaped(name), *(_cell(column, value) for column, value in row.items())]
        for name, row in table.items()
    ]
    lines = [" & ".join(cells) + r" \\" for cells in (heads, *rows)]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return "--"
    return str(value) if column in _COUNTS else f"{100 * value:.2f}"


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
