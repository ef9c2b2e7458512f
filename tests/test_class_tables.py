"""The scores of classes as they are taken home: the numbers of `eval.json`, and escaped LaTeX."""

import csv
import json
from pathlib import Path

import pytest

from deeplab_mnv2.evaluation.class_scores import class_scores
from deeplab_mnv2.report.class_tables import write_class_tables

RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "results"


@pytest.mark.parametrize(
    ("row", "key"),
    [("voc_small", "iou"), ("ssdlite_voc_small", "ap_per_class"), ("cifar10", "accuracy")],
)
def test_the_csv_has_the_numbers_of_the_evaluation(row, key, tmp_path):
    result = json.loads((RESULTS / row / "eval.json").read_text())
    write_class_tables(result, tmp_path)
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [each["class"] for each in rows] == list(result[key])
    assert [float(each[key]) for each in rows] == list(result[key].values())
    ends = [[float(each[f"{key}_low"]), float(each[f"{key}_high"])] for each in rows]
    assert ends == list(result[f"{key}_ci95"].values())


def test_latex_escapes_names_and_has_percentages(tmp_path):
    result = {
        "iou": {"a_b & 50 %": 0.12345, "none": None},
        "iou_ci95": {"a_b & 50 %": [0.1, 0.2], "none": None},
    }
    write_class_tables(result, tmp_path)
    assert (tmp_path / "classes.tex").read_text().splitlines() == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"class & iou & iou low & iou high \\",
        r"\midrule",
        r"a\_b \& 50 \% & 12.35 & 10.00 & 20.00 \\",
        r"none & -- & -- & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert (tmp_path / "classes.csv").read_text().splitlines()[2] == "none,,,"


def test_the_first_score_of_a_class_is_the_one_that_counts():
    result = {"accuracy": {"cat": 0.5}, "images_per_class": {"cat": 4}}
    assert class_scores(result) == {"cat": {"accuracy": 0.5, "images_per_class": 4}}
