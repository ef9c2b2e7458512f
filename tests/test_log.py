"""What a run writes beside its checkpoints."""

import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.training import log as log_module
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


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    # Continuous integration pretends to have a terminal.
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    now = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(log_module.time, "monotonic", lambda: now.seconds)
    return now


def test_without_a_terminal_the_loss_is_printed_now_and_then(tmp_path, capsys, clock):
    with Log(tmp_path, first_step=0, total_steps=400) as log:
        for step in range(1, 401):
            clock.seconds += 1
            log.advance(step)
            if step % 10 == 0:
                log.advance(step, f"loss {step / 1000:.3f}")
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"step {step} of 400: loss {step / 1000:.3f}" for step in (10, 70, 130, 190, 250, 310, 370)
    ] + ["step 400 of 400: loss 0.400"]


def _in_a_terminal(monkeypatch, tmp_path, term="xterm"):
    """Return what a log of two steps draws, line by line as it was drawn."""
    monkeypatch.setenv("TERM", term)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    with Log(tmp_path, first_step=0, total_steps=2) as log:
        log._progress.refresh()
        log.advance(1)
        log._progress.refresh()
        log.advance(2, "loss 0.250")
        log._progress.refresh()
    return terminal.getvalue()


def test_in_a_terminal_the_bar_says_what_it_waits_for(monkeypatch, tmp_path):
    drawn = _in_a_terminal(monkeypatch, tmp_path)
    found = [drawn.find(text) for text in ("compiling", "training", "loss 0.250")]
    assert -1 < found[0] < found[1] < found[2]
    assert "step 2 of 2" not in drawn


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch, tmp_path):
    drawn = _in_a_terminal(monkeypatch, tmp_path, term="dumb")
    assert drawn == "step 2 of 2: loss 0.250\n"


def test_the_other_processes_of_a_run_are_silent(tmp_path, capsys):
    with Log(tmp_path, first_step=0, total_steps=2, active=False) as log:
        log.advance(1)
        log.advance(2, "loss 0.250")
        log.say("a message")
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


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
