"""The command lines as typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "export", "compare", "doctor", "data.voc"]
)
def test_help_fits_a_screen(command, tmp_path):
    done = run(f"deeplab_mnv2.{command}", "--help", cwd=tmp_path)
    assert f"python -m deeplab_mnv2.{command}" in done.stdout
    assert len(done.stdout.splitlines()) <= 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.train.total_stps=3"], "did you mean 'train.total_steps'"),
        (["--config.train.total_steps=many"], "total_steps"),
        (["--config.data.val.splt=val"], "There is no config field 'data.val.splt'."),
        (["--workdri=x"], "did you mean 'workdir'"),
        (["runs/quickstart"], "takes flags only, not 'runs/quickstart'"),
        (["--config", "nowhere.py"], "nowhere.py does not exist"),
        (["--config", "{root}/experiments/voc_os16.py:missing"], "missing/"),
        (["--config.data.crop_size=96"], "data.crop_size=96"),
        (["--workdir", "/proc/run"], "/proc/run cannot be written"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments, message, tmp_path):
    arguments = [argument.format(root=ROOT) for argument in arguments]
    done = run("deeplab_mnv2.train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_evaluate_asks_for_an_experiment(tmp_path):
    done = run("deeplab_mnv2.evaluate", cwd=tmp_path)
    assert done.returncode == 2
    assert "Give --config" in done.stderr
