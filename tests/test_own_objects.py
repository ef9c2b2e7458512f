"""The page of experiments/README.md on objects of one's own, taken at its word."""

import importlib.util
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.train import train
from deeplab_mnv2.training.log import read_metrics

README = Path(__file__).resolve().parents[1] / "experiments" / "README.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The example as a module, from a file outside the repository."""
    text = README.read_text().split("## Your own loss")[1]
    path = tmp_path_factory.mktemp("own") / "my_experiment.py"
    path.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    spec = importlib.util.spec_from_file_location("my_experiment", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("one_block_a_stage")
def test_the_example_trains_with_all_its_own_objects(page, tmp_path, monkeypatch):
    sums, transformation, seen = page.Tversky.sums, page.Nadam.transformation, []

    def noted_sums(self, logits, label, step):
        seen.append((logits.shape, label.shape))
        return sums(self, logits, label, step)

    def noted_transformation(self, decay):
        seen.append("rule")
        return transformation(self, decay)

    monkeypatch.setattr(page.Tversky, "sums", noted_sums)
    monkeypatch.setattr(page.Nadam, "transformation", noted_transformation)
    config = page.get_config()
    config.data.train.length, config.data.val.length, config.data.crop_size = 16, 8, 33
    config.model.head_channels = 32
    config.train.total_steps, config.train.log_every = 2, 1
    config.evaluation.bootstrap_samples = 20

    result = train(config, tmp_path / "run")

    assert {"rule", ((8, 33, 33, 2), (8, 33, 33))} == set(seen)
    assert result["images"] == 8
    assert list(result["iou"]) == ["background", "disc"]
    assert sum(map(sum, result["confusion"])) == 8 * 65 * 65
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    logged = [record for record in records if "loss" in record]
    rates = [record["learning_rate"] for record in logged]
    assert rates == pytest.approx([0, 3e-3 * 0.5 / 0.7])
    assert all(0 < record["loss"] < 1 for record in logged)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["loss"] == {"type": "Tversky", "false_positive": 0.3, "miss": 0.7}
    assert stored["examples"] == config.data.train.digest()


def test_the_examples_loss_is_the_formula_it_names(page):
    # Of the four labelled pixels of class 1 half is hit and half is missed; class 0 is absent.
    label = jnp.array([[[1, 1, IGNORE_LABEL], [1, 1, IGNORE_LABEL]]])
    total, divisor = page.Tversky().sums(jnp.zeros((1, 2, 3, 2)), label, 0)
    assert float(divisor) == 1
    assert float(total) == pytest.approx(1 - 2 / (2 + 0.7 * 2))
    right = 50.0 * jax.nn.one_hot(label, 2)
    assert float(page.Tversky().sums(right, label, 0)[0]) == pytest.approx(0, abs=1e-6)


def test_the_examples_images_show_what_their_labels_say(page):
    source = page.Discs("val").open()
    example = source[3]
    assert (example["image"] == source[3]["image"]).all()
    disc = example["label"] == 1
    assert 0 < disc.mean() < 1
    assert example["image"][disc].min() >= 120 > example["image"][~disc].max()
    assert page.Discs("val").digest() != page.Discs("train").digest()
