"""The loop as a user runs it, on a few drawn scenes."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from orbax.checkpoint import v1 as ocp

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.scoring import weights_digest
from deeplab_mnv2.train import train
from deeplab_mnv2.training.checkpoint import load_model
from deeplab_mnv2.training.log import read_metrics

pytestmark = pytest.mark.usefixtures("one_block_a_stage")


def arrays(workdir):
    """Return every array of the newest checkpoint, optimizer and statistics included."""
    with ocp.training.Checkpointer((workdir / "checkpoints").absolute()) as checkpointer:
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            checkpointer.metadata().metadata,
        )
        return jax.tree.leaves(checkpointer.load(None, shapes))


@pytest.fixture(scope="module")
def finished(one_block_a_stage, tmp_path_factory, module_config):
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, train(module_config, workdir)


def test_a_run_leaves_what_it_promises(finished, module_config):
    workdir, result = finished
    for name in ("config.json", "metrics.jsonl", "eval.json", "report.html", "confusions.npz"):
        assert (workdir / name).stat().st_size > 0
    assert list((workdir / "events").iterdir())
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir() if p.is_dir()) == ["2", "4"]
    records = read_metrics(workdir / "metrics.jsonl")
    losses = [record["loss"] for record in records if "loss" in record]
    assert len(losses) == 4
    assert all(np.isfinite(losses))
    assert result == json.loads((workdir / "eval.json").read_text())
    assert result["images"] == 10
    assert result["protocol"]["protocol_hash"]
    assert sum(map(sum, result["confusion"])) > 0


def test_going_on_equals_not_stopping(finished, module_config, tmp_path):
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    train(module_config, tmp_path / "run")
    for ours, theirs in zip(arrays(tmp_path / "run"), arrays(workdir), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    def values(folder):
        keys = ("step", "loss", "grad_norm", "val_miou")
        records = read_metrics(folder / "metrics.jsonl")
        return [{key: record.get(key) for key in keys} for record in records]

    assert values(tmp_path / "run") == values(workdir)


def test_the_newest_checkpoint_is_the_model(finished):
    workdir, result = finished
    model = load_model(workdir)
    _, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    assert weights_digest(params, batch_stats) == result["protocol"]["weights"]


def test_a_workdir_of_another_experiment_is_refused(finished, module_config):
    workdir, _ = finished
    before = (workdir / "config.json").read_text()
    config = dataclasses.replace(
        module_config,
        optimizer=dataclasses.replace(module_config.optimizer, learning_rate=0.5),
    )
    with pytest.raises(UserError, match=r"optimizer\.learning_rate.*--workdir"):
        train(config, workdir)
    assert (workdir / "config.json").read_text() == before


def test_an_unwritable_workdir_is_named(module_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        train(module_config, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("data", "crop_size", 50),
        ("data", "scale_range", (2.0, 0.5)),
        ("model", "num_classes", 7),
        ("train", "accumulate", 3),
        ("train", "batch_size", 0),
        ("train", "fsdp", 3),
        ("evaluation", "pad_sizes", (50,)),
        ("loss", "class_weights", (1.0, 2.0)),
    ],
)
def test_settings_that_do_not_fit_are_named(module_config, tmp_path, part, field, value):
    changed = dataclasses.replace(getattr(module_config, part), **{field: value})
    config = dataclasses.replace(module_config, **{part: changed})
    with pytest.raises(UserError, match=f"{part}.{field}"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
