"""The spread of a recipe over seeds, and what disturbed rounding does to it."""

import os

import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.task_of import task_of
from experiments.tools import steadiness
from tests.support.tiny_runs import segmentation


def test_seeds_come_first_and_seed_0_is_disturbed():
    found = steadiness.copies(2, ["threads", "weights"])
    assert [(c.name, c.seed, c.disturbance) for c in found] == [
        ("seed0", 0, ""),
        ("seed1", 1, ""),
        ("seed0_threads", 0, "threads"),
        ("seed0_weights", 0, "weights"),
    ]


@pytest.mark.parametrize("runs", [2, 3, 10])
def test_another_run_falls_into_the_interval_19_times_of_20(runs):
    rng = np.random.default_rng(runs)
    inside = 0
    for _ in range(2000):
        *scores, another = rng.normal(0.9, 0.01, size=runs + 1)
        low, high = steadiness.prediction(scores)
        inside += low <= another <= high
    assert 0.93 < inside / 2000 < 0.97


def test_a_disturbed_copy_beyond_the_seeds_is_named():
    found = steadiness.copies(3, ["threads", "vectors"])
    for copy, score in zip(found, (0.90, 0.91, 0.92, 0.905, 0.70), strict=True):
        copy.score = score
    result = steadiness.summary(found)
    assert (result["worst"], result["outside"]) == (0.90, ["seed0_vectors"])
    assert result["mean"] == pytest.approx(0.91)
    assert result["standard_deviation"] == pytest.approx(0.01)
    text = steadiness.table(result)
    assert "| seed 0 | vectors | 70.00 |" in text
    assert "Mean over seeds 91.00 ± 1.00, worst 90.00" in text
    assert "outside of that: seed0_vectors" in text


def test_first_weights_move_by_a_millionth(tmp_path):
    config = segmentation(tmp_path)
    steadiness._disturbed_weights(config, 3, tmp_path / "first.safetensors")
    found = weights.read(str(tmp_path / "first.safetensors")).tensors
    network = nnx.jit(lambda: task_of(config).network(nnx.Rngs(3)))()
    wanted = weights.from_model(network, {}).tensors
    moved = np.concatenate(
        [found[name][value != 0] / value[value != 0] - 1 for name, value in wanted.items()]
    )
    assert 0.5e-6 < np.std(moved) < 1.5e-6
    assert np.abs(moved).max() < 1e-5


def test_vectors_are_narrower_than_the_widest():
    assert steadiness.narrower_vectors(["avx", "avx2", "avx512f", "amx_bf16"]) == "AVX2"
    assert steadiness.narrower_vectors(["avx", "avx2"]) == "AVX"
    with pytest.raises(UserError, match="leave vectors out"):
        steadiness.narrower_vectors([])


def test_one_core_is_for_the_while():
    cores = os.sched_getaffinity(0)
    with steadiness._one_core():
        assert os.sched_getaffinity(0) == {min(cores)}
    assert os.sched_getaffinity(0) == cores
