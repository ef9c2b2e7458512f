"""The README's table says what the kept results say."""

import json

import pytest

from experiments import results


def test_the_readme_holds_the_table_that_the_results_make():
    text = results.README.read_text()
    written = text.split(results.BEGIN)[1].split(results.END)[0]
    assert written == results.table()


def test_every_score_follows_from_its_confusion_matrix():
    paths = list(results.HERE.glob("results/*/eval.json"))
    assert paths
    for path in paths:
        result = json.loads(path.read_text())
        ious = []
        for label, row in enumerate(result["confusion"]):
            union = sum(row) + sum(r[label] for r in result["confusion"]) - row[label]
            ious += [row[label] / union] if union else []
        assert result["miou"] == pytest.approx(sum(ious) / len(ious), abs=1e-12)
