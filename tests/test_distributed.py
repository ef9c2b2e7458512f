"""Two processes with two devices each, through `jax.distributed` on this machine."""

import json
import socket
import time

import jax
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.training.log import read_metrics
from tests.support import runs
from tests.support.networks import randomize_norms

# Sums over devices differ in their last bit, and norm over few pixels magnifies that with every
# large step: by the twentieth to a percent at the usual learning rate, and at ten times this
# one by more than losses may differ. The rule is one whose steps grow with the gradient, for Adam
# makes a step of full length out of a gradient that is rounding.
_GENTLE = "--config.optimizer.rule=Sgd", "--config.optimizer.learning_rate=0.00001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def alone(folder):
    """A run in one process with the same four devices."""
    workdir = folder / "alone"
    runs.finish(runs.start(folder, "train", f"--workdir={workdir}", *_GENTLE, devices=4))
    return workdir


def start_both(folder, command, *arguments):
    """Start two processes as SLURM would on one node."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    slurm = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_PORT": str(port),
    }
    return [
        runs.start(
            folder,
            command,
            "--distributed",
            *arguments,
            devices=2,
            environment={**slurm, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]


def assert_same_run(workdir, alone):
    losses = [
        {r["step"]: r["loss"] for r in read_metrics(w / "metrics.jsonl") if "loss" in r}
        for w in (workdir, alone)
    ]
    assert losses[0].keys() == losses[1].keys()
    for step, loss in losses[1].items():
        assert losses[0][step] == pytest.approx(loss, rel=1e-5)
    ours, theirs = (weights.load(str(w)) for w in (workdir, alone))
    for x, y in zip(*(jax.tree.leaves(nnx.state(m)) for m in (ours, theirs)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
    # Such gentle steps change each parameter by little: what changed is compared by itself.
    begun = nnx.jit(lambda: DeepLab(theirs.config, rngs=nnx.Rngs(0)))()
    changes = [flat_parameters(model) - flat_parameters(begun) for model in (ours, theirs)]
    assert np.linalg.norm(changes[0] - changes[1]) < 0.02 * np.linalg.norm(changes[1]) > 0


def flat_parameters(model):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(nnx.state(model, nnx.Param))])


@pytest.mark.slow
def test_a_lost_process_ends_the_run_and_the_same_command_goes_on(folder, alone):
    workdir = folder / "lost"
    first, second = start_both(folder, "train", f"--workdir={workdir}", *_GENTLE)
    while not list(workdir.glob("checkpoints/8")):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.02)
    second.kill()
    second.communicate()
    # JAX ends the other process once heartbeats stay away, which takes up to two minutes.
    output, _ = first.communicate(timeout=300)
    assert first.returncode != 0
    assert "another task died" in output
    for process in start_both(folder, "train", f"--workdir={workdir}", *_GENTLE):
        runs.finish(process)
    assert_same_run(workdir, alone)


def test_two_processes_end_with_the_result_of_one(folder, alone):
    workdir = folder / "two"
    for process in start_both(folder, "train", f"--workdir={workdir}", *_GENTLE):
        runs.finish(process)
    assert_same_run(workdir, alone)


def test_two_processes_count_what_one_counts(folder):
    # Random, but with norms that make it see many classes.
    model = DeepLab(ModelConfig(width_multiplier=0.35, head_channels=32), rngs=nnx.Rngs(0))
    randomize_norms(model)
    file, one, two = folder / "random.safetensors", folder / "one", folder / "both"
    weights.save(file, weights.from_model(model, {"source": "random"}))
    arguments = f"--weights={file}", f"--output={one}"
    runs.finish(runs.start(folder, "evaluate", *arguments))
    for process in start_both(folder, "evaluate", arguments[0], f"--output={two}"):
        runs.finish(process)
    confusions = [np.load(f / "confusions.npz")["confusions"] for f in (one, two)]
    np.testing.assert_array_equal(confusions[0], confusions[1])
    assert np.count_nonzero(confusions[0].sum(axis=(0, 1))) > 2
    stamps = [json.loads((f / "eval.json").read_text())["protocol"] for f in (one, two)]
    assert stamps[0].pop("machine")["devices"] != stamps[1].pop("machine")["devices"]
    assert stamps[0] == stamps[1]
