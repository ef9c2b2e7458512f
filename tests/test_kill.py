"""Runs that are killed, stopped or out of disk, as the shell sees them."""

import random
import signal
import subprocess
import time

import numpy as np
import pytest

from deeplab_mnv2.training.log import read_metrics
from tests.support import runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def undisturbed(folder):
    """A run that nobody killed, and how long its process took once compiled."""
    return finished_run(folder, "segmentation")


def finished_run(folder, task):
    runs.finish(runs.train(folder, folder / f"first_{task}", task))
    began = time.monotonic()
    workdir = folder / f"undisturbed_{task}"
    runs.finish(runs.train(folder, workdir, task))
    return workdir, time.monotonic() - began


def assert_same(workdir, undisturbed):
    for ours, theirs in zip(runs.arrays(workdir), runs.arrays(undisturbed), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    losses = [
        [(r["step"], r["loss"]) for r in read_metrics(w / "metrics.jsonl") if "loss" in r]
        for w in (workdir, undisturbed)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("task", "kills"),
    [
        ("segmentation", 2),
        pytest.param("segmentation", 20, marks=pytest.mark.slow),
        pytest.param("quantized", 5, marks=pytest.mark.slow),
        pytest.param("classification", 5, marks=pytest.mark.slow),
        pytest.param("detection", 5, marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_with_the_parameters_of_one_that_was_not(folder, task, kills):
    finished, seconds = finished_run(folder, task)
    draw = random.Random(kills)
    for kill in range(kills):
        workdir = folder / f"killed_{task}_{kills}_{kill}"
        process = runs.train(folder, workdir, task)
        # Steps and saves come at the end of a process; its imports are of no interest.
        time.sleep(draw.uniform(0.3, 1.0) * seconds)
        process.kill()
        process.communicate()
        runs.finish(runs.train(folder, workdir, task))
        assert_same(workdir, finished)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_with_its_status(folder, undisturbed, number):
    finished, _ = undisturbed
    workdir = folder / f"stopped_{number}"
    process = runs.train(folder, workdir)
    while not list(workdir.glob("checkpoints/4")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert "the same command resumes" in output
    assert "Traceback" not in output
    runs.finish(runs.train(folder, workdir))
    assert_same(workdir, finished)


@pytest.fixture
def small_disk(tmp_path):
    """A disk that holds two checkpoints and not three."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"mounting a small disk is not allowed here ({mount.stderr.decode().strip()})")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_the_run_in_one_sentence_and_the_same_command_goes_on(
    folder, undisturbed, small_disk
):
    finished, _ = undisturbed
    workdir = small_disk / "run"
    process = runs.train(folder, workdir)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    assert "MB left; free space there" in output
    # Space is made, and the same command resumes it.
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    runs.finish(runs.train(folder, workdir))
    assert_same(workdir, finished)
