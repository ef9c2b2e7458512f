"""The loop as a user runs it, on a few drawn scenes."""

import concurrent.futures
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.config import Sgd
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.train import train
from deeplab_mnv2.training.checkpoint import Checkpoints
from deeplab_mnv2.training.lock import lock
from deeplab_mnv2.training.log import read_metrics
from deeplab_mnv2.weights.model_weights import weights_digest
from tests.support.runs import arrays

pytestmark = pytest.mark.usefixtures("one_block_a_stage")


@pytest.fixture(scope="module")
def finished(one_block_a_stage, tmp_path_factory, module_config):
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, train(module_config, workdir)


def test_a_run_leaves_what_it_promises(finished, module_config):
    workdir, result = finished
    for name in ("config.json", "metrics.jsonl", "eval.json", "report.html", "confusions.npz"):
        assert (workdir / name).stat().st_size > 0
    assert list(workdir.glob("events.out.tfevents.*"))
    assert list((workdir / "figures").glob("*.svg"))
    assert not (workdir / "lock").exists()
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir() if p.is_dir()) == ["2", "4"]
    records = read_metrics(workdir / "metrics.jsonl")
    losses = [record["loss"] for record in records if "loss" in record]
    assert len(losses) == 4
    assert all(np.isfinite(losses))
    assert result == json.loads((workdir / "eval.json").read_text())
    assert result["images"] == 10
    assert result["protocol"]["protocol_hash"]
    assert sum(map(sum, result["confusion"])) > 0


def _logged(workdir):
    keys = ("step", "loss", "grad_norm", "val_miou")
    records = read_metrics(workdir / "metrics.jsonl")
    return [{key: record.get(key) for key in keys} for record in records]


def test_a_finished_run_is_scored_again_and_told_once(finished, module_config, tmp_path):
    workdir, result = finished
    shutil.copytree(workdir, tmp_path / "run")
    assert train(module_config, tmp_path / "run") == result
    assert _logged(tmp_path / "run") == _logged(workdir)


def test_training_in_another_thread_gives_the_same(finished, module_config, tmp_path):
    workdir, result = finished
    shutil.copytree(workdir, tmp_path / "run")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        assert threads.submit(train, module_config, tmp_path / "run").result() == result


def test_a_workdir_in_use_is_left_alone(finished, module_config):
    workdir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    told = f"{workdir} is in use by process {os.getpid()} on"
    with lock(workdir), pytest.raises(UserError, match=told):
        train(module_config, workdir)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_run_does_not_read_its_initial_weights_again(finished, module_config, tmp_path):
    workdir, result = finished
    shutil.copytree(workdir, tmp_path / "run")
    moved = dataclasses.replace(
        module_config.train, init_weights="moved.safetensors", init_parts=("backbone",)
    )
    config = dataclasses.replace(module_config, train=moved)
    assert train(config, tmp_path / "run") == result
    # What it started from stays on record.
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["train"]["init_weights"] == ""
    assert stored["train"]["init_parts"] == []


class _PlainDataSet:
    """Everything that a data set needs, but no dataclass."""

    split, class_names = "train", VOC_CLASSES

    def open(self):
        raise AssertionError("opened before its settings were looked at")

    def digest(self):
        return "0" * 16


@dataclasses.dataclass
class _KeepsAPath:
    """A data set with a setting that is no text."""

    folder: Path = Path("photos")
    split: str = "train"
    class_names: tuple[str, ...] = VOC_CLASSES

    open = _PlainDataSet.open
    digest = _PlainDataSet.digest


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("data_set", [_PlainDataSet(), _KeepsAPath()], ids=["class", "path"])
def test_what_cannot_be_stored_is_refused_at_once(config, tmp_path, split, data_set):
    setattr(config.data, split, data_set)
    with pytest.raises(UserError, match=r"cannot be stored in config\.json"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_taken_for_a_shorter_one(finished, module_config):
    workdir, _ = finished
    before = (workdir / "config.json").read_text()
    settings = dataclasses.replace(module_config.train, total_steps=3)
    with pytest.raises(UserError, match=r"at step 4 already, beyond train.total_steps=3; raise"):
        train(dataclasses.replace(module_config, train=settings), workdir)
    assert (workdir / "config.json").read_text() == before


def test_a_mistyped_file_does_not_bind_the_workdir(module_config, tmp_path):
    settings = dataclasses.replace(module_config.train, init_weights="missing.safetensors")
    with pytest.raises(UserError, match=r"missing\.safetensors"):
        train(dataclasses.replace(module_config, train=settings), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_only_the_newest_and_the_best_checkpoints_are_kept(module_config, tmp_path):
    settings = dataclasses.replace(module_config.train, checkpoint_every=1, eval_every=2)
    train(dataclasses.replace(module_config, train=settings), tmp_path)
    assert weights.read(f"{tmp_path}@best").provenance["checkpoint"] in ("2", "4")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps in ([3, 4], [2, 3, 4])
        assert [checkpoints.has_score(step) for step in (3, 4)] == [False, True]


def test_a_save_that_is_not_finished_is_no_damage(finished, tmp_path):
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    unfinished = tmp_path / "run" / "checkpoints" / "5.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "_CHECKPOINT_METADATA").write_text("")
    weights.read(str(tmp_path / "run"))
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.steps == [2, 4]


def digest(run) -> str:
    model = weights.load(str(run))
    return weights_digest(*nnx.split(model, nnx.Param, nnx.BatchStat)[1:])


def test_the_newest_checkpoint_is_the_model(finished):
    workdir, result = finished
    assert digest(workdir) == result["protocol"]["weights"]


def test_a_checkpoint_is_chosen_by_step_or_score(finished):
    workdir, result = finished
    newest, best, second = (digest(f"{workdir}@{name}") for name in ("newest", "best", "2"))
    # Only the last step was scored.
    assert newest == best == result["protocol"]["weights"] != second
    with pytest.raises(UserError, match=r"no checkpoint of step 3; give newest, best or one of 2"):
        weights.read(f"{workdir}@3")


def test_looking_at_a_run_changes_nothing_in_it(finished, tmp_path):
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    saves = tmp_path / "run" / "checkpoints"
    # What a run that is saving has there meanwhile.
    (saves / "5.orbax-checkpoint-tmp").mkdir()
    (saves / "5.orbax-checkpoint-tmp" / "part").write_text("half")
    weights.read(str(tmp_path / "run"))
    (saves / "2" / "_CHECKPOINT_METADATA").write_text("{")
    with pytest.raises(UserError, match=r"checkpoints/2 cannot be read"):
        weights.read(str(tmp_path / "run"))
    assert (saves / "5.orbax-checkpoint-tmp" / "part").exists()
    assert (saves / "2").is_dir()
    assert not list((tmp_path / "run").glob("damaged*"))


def test_a_run_without_a_sound_checkpoint_does_not_start_again(finished, module_config, tmp_path):
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("*/_CHECKPOINT_METADATA"):
        path.write_text("{")
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match=r"None is left: choose another --workdir"):
        train(module_config, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == metrics


@pytest.mark.parametrize("files", ["state/**/*", "metrics/metrics", "**/*"])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(
    finished, module_config, tmp_path, files
):
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "4").glob(files):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    train(module_config, tmp_path / "run")
    for ours, theirs in zip(arrays(tmp_path / "run"), arrays(workdir), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (tmp_path / "run" / "damaged_checkpoint_4").is_dir()


def test_a_run_that_explodes_stops_and_keeps_its_sound_checkpoints(module_config, tmp_path):
    config = dataclasses.replace(
        module_config,
        optimizer=dataclasses.replace(module_config.optimizer, rule=Sgd(), learning_rate=1e30),
    )
    with pytest.raises(UserError, match="not finite; its batch is in"):
        train(config, tmp_path)
    (batch,) = tmp_path.glob("nonfinite_step_*.npz")
    with np.load(batch, allow_pickle=False) as written:
        assert written["image"].shape == (8, 49, 49, 3)
        assert written["name"].shape == (8,)


def test_saves_come_by_the_clock_too(module_config, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "seconds_since_save", 61.0)
    settings = dataclasses.replace(
        module_config.train, checkpoint_every=100, checkpoint_every_seconds=60
    )
    train(dataclasses.replace(module_config, train=settings), tmp_path)
    saved = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert saved >= {3, 4}


def test_a_run_names_its_classes(finished, module_config):
    workdir, _ = finished
    assert weights.read(str(workdir)).class_names == module_config.data.train.class_names


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
        ("train", "fsdp", 0),
        ("train", "seed", -1),
        ("train", "freeze", ("decoder",)),
        ("train", "freeze", ("backbone.stages.7",)),
        ("model", "dropout", 1.0),
        ("model", "image_std", (1.0, 0.0, 1.0)),
        ("evaluation", "pad_sizes", (50,)),
        ("evaluation", "scales", ()),
        ("evaluation", "scales", (1.0, -0.5)),
        ("evaluation", "boundary_widths", (4, 2)),
        ("evaluation", "batch_size", 0),
        ("loss", "class_weights", (1.0, 2.0)),
    ],
)
def test_settings_that_do_not_fit_are_named(module_config, tmp_path, part, field, value):
    changed = dataclasses.replace(getattr(module_config, part), **{field: value})
    config = dataclasses.replace(module_config, **{part: changed})
    with pytest.raises(UserError, match=f"{part}.{field}"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
