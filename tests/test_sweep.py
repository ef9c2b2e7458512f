"""Seeds and grids of settings, one training after the other."""

import csv
import json

import numpy as np
import pytest

from deeplab_mnv2 import sweep
from deeplab_mnv2.errors import UserError

EXPERIMENT = """\
from pathlib import Path

from tests.support.tiny_runs import segmentation


def get_config():
    return segmentation(Path(__file__).parent, total_steps=2, eval_every=2)
"""


def test_every_combination_of_the_grid():
    assert sweep.combinations([]) == [{}]
    found = sweep.combinations(["a.b=1,2", "a.c=(0.5, 2.0),(1.0, 1.0)"])
    assert found == [
        {"a.b": "1", "a.c": "(0.5, 2.0)"},
        {"a.b": "1", "a.c": "(1.0, 1.0)"},
        {"a.b": "2", "a.c": "(0.5, 2.0)"},
        {"a.b": "2", "a.c": "(1.0, 1.0)"},
    ]
    names = {sweep._name(each, seed) for each in found for seed in (0, 1)}
    assert len(names) == 8
    assert not any(set(name) & set("/\\ (),") for name in names)


def test_values_that_a_folder_cannot_show_keep_folders_of_their_own():
    found = sweep.combinations(["data.train.split=train[:50%],train[50%:]"])
    assert len({sweep._name(each, 0) for each in found}) == 2


def test_seeds_are_no_setting():
    with pytest.raises(UserError, match="give --seeds 0,1,2"):
        sweep.combinations(["train.seed=0,1"])


@pytest.mark.parametrize("line", ["a.b", "a.b=", "a.b=1,,2", "=1"])
def test_a_grid_has_fields_and_values(line):
    with pytest.raises(UserError, match="is no field with values"):
        sweep.combinations([line])
    with pytest.raises(UserError, match="names a field again"):
        sweep.combinations(["a.b=1", "a.b=2"])


def test_flags_of_the_experiment_are_passed_on():
    given = [
        *("--seeds", "3"),
        *("--config", "a.py:b"),
        "--config.train.seed=1",
        *("-config.x", "2"),
        "--weights=file",
        "--grid=x=1",
        *("--workdir", "there"),
    ]
    assert sweep.experiment_arguments(given) == given[2:8]


def test_true_and_false_fields_take_no_argument_with_them():
    fields = ["--config.model.remat", "--noconfig.data.flip", "--config.x", "-2"]
    given = [fields[0], "--workdir", "there", fields[1], "--grid", "a=1", *fields[2:]]
    assert sweep.experiment_arguments(given) == fields


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=0,0"], "--seeds 0,0 are no different whole numbers"),
        (["--seeds=1,01"], "--seeds 1,01 are no different whole numbers"),
        (["--seeds=a"], "--seeds a are no different whole numbers"),
        (["--config.train.seed=5"], "--config.train.seed is overridden by --seeds"),
        (["--grid=optimizer.learning_rat=1,2"], "did you mean 'optimizer.learning_rate'"),
        (["--grid=optimizer.learning_rate=0.1,fast"], "learning_rate"),
        # The second value is looked at before the first one is trained.
        (["--grid=train.batch_size=8,0"], "train.batch_size=0"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(arguments, message, tmp_path, command_line):
    code, said = command_line("sweep", *arguments)
    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_seeds_and_rates_end_in_one_table(tmp_path, command_line, monkeypatch):
    # Each run is a process of its own, of which the first alone has to compile.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    (tmp_path / "tiny.py").write_text(EXPERIMENT)
    arguments = (
        *("--config", "tiny.py", "--seeds=0,1", "--workdir=out"),
        "--grid=optimizer.learning_rate=0.01",
    )
    code, said = command_line("sweep", *arguments)
    assert code == 0, said
    with (tmp_path / "out/sweep.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["optimizer.learning_rate", "seed", "miou"]
    assert [row[:2] for row in rows] == [["0.01", "0"], ["0.01", "1"]]
    (kept,) = json.loads((tmp_path / "out/sweep.json").read_text())["runs"]
    expected = [float(score) for *_, score in rows]
    assert kept["scores"] == expected
    assert kept["mean"] == pytest.approx(np.mean(expected))
    assert kept["standard_deviation"] == pytest.approx(np.std(expected, ddof=1))
    for rate, seed, score in rows:
        folder = tmp_path / f"out/learning_rate={rate}-seed{seed}"
        settings = json.loads((folder / "config.json").read_text())
        assert settings["optimizer"]["learning_rate"] == float(rate)
        assert settings["train"]["seed"] == int(seed)
        assert json.loads((folder / "eval.json").read_text())["miou"] == float(score)
    # Runs that have finished are not trained again.
    before = (tmp_path / "out/learning_rate=0.01-seed1/metrics.jsonl").read_text()
    code, _ = command_line("sweep", *arguments)
    assert code == 0
    assert (tmp_path / "out/learning_rate=0.01-seed1/metrics.jsonl").read_text() == before
