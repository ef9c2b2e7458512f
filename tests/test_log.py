"""What a run writes beside its checkpoints."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.training.log import Log

_FULL = Path("/dev/full")


class _Run:
    """Stands in for a run at Weights & Biases."""

    def __init__(self):
        self.logged, self.finished = [], False

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """The part of the package that is called, without the service behind it."""
    module = types.ModuleType("wandb")
    module.runs = []
    module.Error = RuntimeError
    module.Image = lambda array: ("image", array.shape)

    def init(**settings):
        module.runs.append((settings, _Run()))
        return module.runs[-1][1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_text_is_printed_as_it_is(tmp_path, capsys):
    with Log(tmp_path, first_step=0, total_steps=9) as log:
        log.say("photos [old]/a.jpg [/b] cannot be read")
    assert "photos [old]/a.jpg [/b] cannot be read\n" in capsys.readouterr().out


@pytest.mark.skipif(not _FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_in_one_sentence(tmp_path):
    log = Log(tmp_path, first_step=0, total_steps=9)
    log._file.close()
    with _FULL.open("w") as log._file, log, pytest.raises(UserError, match="cannot be written"):
        log.record(1, {"loss": 0.5})


def _write(workdir, first_step=0):
    workdir.mkdir(exist_ok=True)
    with Log(
        workdir,
        first_step=first_step,
        total_steps=9,
        wandb_project="voc",
        settings={"type": "Config"},
    ) as log:
        log.record(first_step + 1, {"loss": 0.5})
        log.record(first_step + 2, {"warning": "in words"})
        log.show(first_step + 2, "val/worst", np.zeros((4, 6, 3), np.uint8))


def test_numbers_and_pictures_reach_weights_and_biases(wandb, tmp_path):
    _write(tmp_path)
    (settings, run), *_ = wandb.runs
    assert settings["project"] == "voc"
    assert settings["config"] == {"type": "Config"}
    assert run.logged == [
        (1, {"loss": 0.5}),
        (2, {}),
        (2, {"val/worst": ("image", (4, 6, 3))}),
    ]
    assert run.finished
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_a_run_that_goes_on_is_the_same_run_there(wandb, tmp_path):
    _write(tmp_path / "one")
    _write(tmp_path / "one", first_step=2)
    _write(tmp_path / "other")
    first, again, other = (settings["id"] for settings, _ in wandb.runs)
    assert first == again != other


def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'deeplab_mnv2\[wandb\]'"):
        _write(tmp_path)


def test_a_refusal_is_one_sentence(wandb, monkeypatch, tmp_path):
    def refuse(**_):
        raise wandb.Error("not logged in\nTraceback")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match=r"refuses \(not logged in\); log in"):
        _write(tmp_path)
