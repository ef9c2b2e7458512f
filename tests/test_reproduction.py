"""Rows run again: what they claim, and what catches a falsified one."""

import copy
import json
from pathlib import Path

import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import read_json
from experiments import results
from experiments.tools import reproduction

TRAINED = {"experiment": "quickstart", "start": "random", "steps": 10, "seed": 2}
PUBLISHED = {"experiment": "published", "start": "net.tflite", "steps": 0}


@pytest.fixture
def kept():
    return read_json(results.HERE / "results" / "quickstart" / "eval.json")


def moved(result, points):
    """Return a result whose counts, and so whose mIoU, are other ones: classes 1 and 2 confused."""
    found = copy.deepcopy(result)
    row = found["confusion"][1]
    share = round(row[1] * points)
    row[1], row[2] = row[1] - share, row[2] + share
    found["miou"] = float(reproduction.miou(found["confusion"]))
    return found


def test_the_same_score_is_within_whatever_a_row_claims(kept):
    for row, others in ((TRAINED, [kept]), (TRAINED, [kept, kept]), (PUBLISHED, [kept])):
        within, sentence = reproduction.compare(row, others, kept)
        assert within
        assert sentence.endswith(": within.")


def test_other_runs_are_judged_by_the_spread_over_seeds(kept):
    seeds = [{**kept, "miou": kept["miou"] + shift} for shift in (0, 0.01, -0.01)]
    low, high, why = reproduction.claimed(TRAINED, seeds)
    # Student's t with two degrees of freedom: 4.30 x 0.01 x (4 / 3) ** 0.5.
    assert (low, high) == pytest.approx((kept["miou"] - 0.0497, kept["miou"] + 0.0497), abs=1e-4)
    assert "3 seeds" in why
    within, _ = reproduction.compare(TRAINED, seeds, {**kept, "miou": kept["miou"] + 0.04})
    assert within
    within, sentence = reproduction.compare(TRAINED, seeds, {**kept, "miou": kept["miou"] + 0.06})
    assert not within
    assert "NOT within" in sentence


def test_a_single_run_says_what_it_does_not_cover(kept):
    low, high, why = reproduction.claimed(TRAINED, [kept])
    assert [low, high] == kept["ci95"]
    assert "does not cover other runs" in why


def test_a_falsified_row_is_caught(kept):
    # The number alone.
    with pytest.raises(UserError, match="changed by hand"):
        reproduction.compare(PUBLISHED, [{**kept, "miou": kept["miou"] + 0.01}], kept)
    # The counts as well.
    falsified = moved(kept, 0.3)
    assert abs(falsified["miou"] - kept["miou"]) > 0.01
    within, _ = reproduction.compare(PUBLISHED, [falsified], kept)
    assert not within


def test_another_protocol_is_no_reproduction(kept):
    again = copy.deepcopy(kept)
    again["protocol"]["images"] = 3
    with pytest.raises(UserError, match="scored otherwise, in images; check --data"):
        reproduction.compare(TRAINED, [kept], again)


def test_commands_are_those_of_the_row(kept):
    assert reproduction.command(TRAINED, kept, "", "") == [
        *("deeplab_mnv2.train", "--config", "quickstart", "--config.train.seed=2", "--workdir")
    ]
    narrow = {**TRAINED, "settings": ["model.width_multiplier=0.5"]}
    assert "--config.model.width_multiplier=0.5" in reproduction.command(narrow, kept, "", "")
    found = reproduction.command(PUBLISHED, kept, "VOC", "a/net.tflite")
    assert found == [
        *("deeplab_mnv2.evaluate", "--config", "voc_os16:VOC", "--weights", "a/net.tflite"),
        *("--output_stride", "8", "--scales", "1.0", "--output"),
    ]
    with pytest.raises(UserError, match=r"starts from net\.tflite"):
        reproduction.command(PUBLISHED, kept, "VOC", "other.tflite")


def test_rows_of_other_tasks_are_judged_by_their_own_score():
    cifar = read_json(results.HERE / "results" / "cifar10" / "eval.json")
    low, high, _ = reproduction.claimed(TRAINED, [cifar])
    assert [low, high] == cifar["ci95"]
    assert reproduction.compare(TRAINED, [cifar], cifar)[0]
    assert not reproduction.compare(TRAINED, [cifar], {**cifar, "top1": high + 0.01})[0]
    person = read_json(results.HERE / "results" / "tensorflow_person" / "eval.json")
    assert reproduction.command(PUBLISHED, person, "COCO", "net.tflite") == [
        *("deeplab_mnv2.evaluate", "--config", "ssdlite_coco:COCO", "--weights", "net.tflite"),
        *("--class_names", "person", "--output"),
    ]


def test_a_run_that_was_scored_otherwise_than_its_page_says_is_scored_so_again(
    kept, tmp_path, monkeypatch
):
    asked = copy.deepcopy(kept)
    asked["protocol"] |= {"scales": [0.75], "flip": True}
    ran = []

    def run(arguments):
        ran.append(arguments)
        folder = Path(arguments[-1])
        folder.mkdir(exist_ok=True)
        found = asked if arguments[0] == "deeplab_mnv2.evaluate" else kept
        (folder / "eval.json").write_text(json.dumps(found))

    monkeypatch.setattr(reproduction, "_run", run)
    within, _ = reproduction.reproduce(TRAINED, [asked], tmp_path / "run", "", "")
    assert within
    assert ran[1] == [
        *("deeplab_mnv2.evaluate", "--config", "quickstart", "--weights", str(tmp_path / "run")),
        *("--output_stride", "8", "--scales", "0.75", "--flip"),
        *("--output", str(tmp_path / "run" / "scores")),
    ]
    # As its page says: scored once.
    reproduction.reproduce(TRAINED, [kept], tmp_path / "again", "", "")
    assert len(ran) == 3
