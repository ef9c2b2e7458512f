"""A run as a source of weights: which checkpoint, what comes with it, and every way to miss it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from flax import nnx
from orbax.checkpoint import v1 as ocp
from PIL import Image

from deeplab_mnv2 import Segmenter, weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.training.checkpoint import Checkpoints
from deeplab_mnv2.training.optimizer import make_optimizer
from deeplab_mnv2.training.state import create_state
from deeplab_mnv2.training.workdir import write_settings
from deeplab_mnv2.weights import run as run_module
from deeplab_mnv2.weights.model_weights import variables, weights_digest
from tests.support import runs
from tests.support.networks import randomize_norms

ROOT = Path(__file__).resolve().parents[1]
SCORES = {"miou": 0.5, "ci95": [0.4, 0.6], "images": 10}


def filled(state, value: float):
    """Return a state whose parameters, and their average, are known numbers."""
    state.params = jax.tree.map(lambda leaf: leaf * 0 + value, state.params)
    if state.ema is not None:
        state.ema = jax.tree.map(lambda leaf: leaf * 0 + 10 * value, state.ema)
    return state


def network(config) -> DeepLab:
    model = nnx.jit(lambda: DeepLab(config.model, rngs=nnx.Rngs(0)))()
    randomize_norms(model)
    return model


def make_run(folder: Path, config, scores: dict[int, float | None]) -> Path:
    """Write a run whose checkpoint of step n holds the parameters n, or their average 10 n."""
    model = network(config)
    optimizer = make_optimizer(config.optimizer, 100, nnx.state(model, nnx.Param))
    with Checkpoints(folder, "miou") as checkpoints:
        for step, score in scores.items():
            _, state = create_state(model, optimizer, config.train)
            found = None if score is None else {"miou": score}
            checkpoints.save(step, filled(state, step), found)
            checkpoints.wait()
    write_settings(folder, config)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory, module_config) -> Path:
    """A run of checkpoints 8 (the best), 100 and 101 (without a score)."""
    scores = {8: 0.7, 9: 0.3, 100: 0.5, 101: None}
    return make_run(tmp_path_factory.mktemp("run"), module_config, scores)


@pytest.fixture
def run(folder, tmp_path) -> Path:
    """A copy, free to damage."""
    return shutil.copytree(folder, tmp_path / "run")


def value_of(found: weights.Weights) -> float:
    (value,) = np.unique(found.tensors["classifier.kernel"])
    return float(value)


@pytest.mark.parametrize(
    ("which", "step"), [("", 101), ("@newest", 101), ("@best", 8), ("@100", 100)]
)
def test_a_checkpoint_is_chosen(folder, module_config, which, step):
    found = weights.read(f"{folder}{which}")
    assert value_of(found) == step
    assert found.provenance == {"source": str(folder), "checkpoint": str(step)}
    assert (found.kind, found.config) == ("segmentation", module_config.model)
    assert found.class_names == module_config.data.train.class_names
    assert found.scores is None


def test_every_tensor_comes_with_the_networks_own_name(folder, module_config):
    found = weights.read(str(folder))
    model = network(module_config)
    assert found.tensors.keys() == variables(model).keys()
    for name, variable in variables(model).items():
        statistic = name.endswith((".mean", ".var"))
        wanted = variable[...] if statistic else np.full(variable.shape, 101.0)
        np.testing.assert_array_equal(found.tensors[name], wanted, err_msg=name)
        assert found.tensors[name].dtype == np.float32


def test_averaged_weights_are_taken_where_the_run_keeps_them(config, tmp_path):
    config.train.ema_decay = 0.9
    assert value_of(weights.read(str(make_run(tmp_path / "run", config, {3: None})))) == 30


def test_a_run_opens_everywhere(folder, tmp_path):
    assert weights.load(str(folder), output_stride=8).config.output_stride == 8
    segmenter = Segmenter.load(folder)
    assert segmenter.class_names == weights.read(str(folder)).class_names
    weights.save(tmp_path / "net.safetensors", weights.read(f"{folder}@best"))
    again = weights.read(str(tmp_path / "net.safetensors"))
    assert again.provenance["checkpoint"] == "8"
    assert again.provenance["made_from"] == folder.name
    model = weights.load(str(folder))
    assert weights.fill(model, weights.read(f"{folder}@best"), parts=("backbone",)) == []


def test_a_path_with_an_at_sign_is_itself(folder, tmp_path):
    twin = shutil.copytree(folder, tmp_path / "run@best")
    assert value_of(weights.read(str(twin))) == 101
    assert value_of(weights.read(f"{twin}@best")) == 8
    assert weights.find_run(str(tmp_path / "net@v2.safetensors")) is None


def test_scores_belong_to_the_weights_they_were_made_with(run):
    digest = weights_digest(*nnx.split(weights.load(f"{run}@100"), nnx.Param, nnx.BatchStat)[1:])
    stored = {**SCORES, "protocol": {"weights": digest}, "confusion": [[1]]}
    (run / "eval.json").write_text(json.dumps(stored))
    assert weights.read(f"{run}@100").scores == {**SCORES, "protocol": {"weights": digest}}
    assert weights.read(f"{run}@best").scores is None
    (run / "eval.json").write_text("{}")
    with pytest.raises(UserError, match=r"eval\.json is damaged .*; evaluate the run again\."):
        weights.read(str(run))


def test_a_run_of_before_names_and_kinds_were_stored(run, module_config):
    stored = json.loads((run / "config.json").read_text())
    del stored["class_names"]
    for kind in ("ModelConfig", None):
        stored["model"]["type"] = kind
        (run / "config.json").write_text(json.dumps(stored))
        found = weights.read(str(run))
        assert (found.kind, found.config) == ("segmentation", module_config.model)
        assert len(found.class_names) == module_config.model.num_classes


def test_what_is_not_there_is_told(run, tmp_path):
    for which, words in (
        ("@999", r"no checkpoint of step 999; give newest, best or one of 8, 100, 101\."),
        ("@bset", r"no checkpoint of step bset; give newest"),
        ("@", r"no checkpoint of step ; give newest"),
    ):
        with pytest.raises(UserError, match=words):
            weights.read(f"{run}{which}")
    for step in ("8", "100"):
        shutil.rmtree(run / "checkpoints" / step)
    with pytest.raises(UserError, match=r"No checkpoint in .* has a score yet; use the newest\."):
        weights.read(f"{run}@best")
    shutil.rmtree(run / "checkpoints" / "101")
    with pytest.raises(UserError, match=r"holds no checkpoint yet; train for longer first\."):
        weights.read(str(run))
    (run / "checkpoints").rmdir()
    with pytest.raises(UserError, match=r"holds no model\.safetensors, nor is it a run with"):
        weights.read(str(run))
    with pytest.raises(UserError, match=r"holds no checkpoint yet"):
        weights.read(f"{run}@best")
    (run / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds no run \(no config\.json\)"):
        weights.read(f"{run}@best")
    with pytest.raises(UserError, match=r"gone@best cannot be read .*; check the path\."):
        weights.read(str(tmp_path / "gone@best"))


def test_damage_ends_in_one_sentence(run):
    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words) as error:
            weights.read(str(run))
        assert "\n" not in str(error.value)

    settings = (run / "config.json").read_text()
    for content, words in (
        ("{", r"config\.json is not valid JSON"),
        ("[]", r"config\.json holds no JSON object"),
        ("[" * 100_000, r"config\.json is not valid JSON"),
        ("{}", r"config\.json holds no model settings"),
        ('{"model": {"width_multiplier": "x"}}', r"The stored model\.width_multiplier"),
        ('{"model": {"width_multiplier": 9}}', r"model\.width_multiplier=9"),
        ('{"model": {}}', "does not fit the network"),
        (settings.replace('"class_names": [', '"class_names": [3, '), "no list of names"),
    ):
        (run / "config.json").write_text(content)
        refused(words)
    (run / "config.json").write_text(settings)
    for path in (run / "checkpoints" / "101" / "state").glob("**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(r"checkpoints/101 cannot be read")
    (run / "checkpoints" / "100" / "_CHECKPOINT_METADATA").write_text("[" * 100_000)
    refused(r"checkpoints/100 cannot be read .* resumes without it\.")


def test_a_run_may_save_while_it_is_read(run, module_config, monkeypatch):
    """The checkpoint that is about to be read gives way to newer ones."""
    load, saves = run_module._load, []

    def dropped(checkpointer: ocp.training.Checkpointer, step: int):
        if not saves:
            saves.append(step)
            make_run(run, module_config, {110: None, 111: None})
            assert not (run / "checkpoints" / "101").exists()
        return load(checkpointer, step)

    monkeypatch.setattr(run_module, "_load", dropped)
    assert value_of(weights.read(str(run))) == 111
    assert saves == [101]


@pytest.fixture
def given() -> flags.FlagValues:
    """The flags of a command, parsed."""
    found = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", found)
        for name in ("weights", "workdir", "checkpoint"):
            flags.DEFINE_string(name, "", "", flag_values=found)
        yield found


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        ([], "default"),
        (["--weights=net.tflite"], "net.tflite"),
        (["--weights=runs/x@best"], "runs/x@best"),
        (["--workdir=runs/x"], "runs/x@newest"),
        (["--workdir=runs/x", "--checkpoint=best"], "runs/x@best"),
        (["--workdir=runs/x", "--checkpoint=40"], "runs/x@40"),
    ],
)
def test_flags_name_one_source(given, arguments, source):
    given(["command", *arguments])
    assert command.weights_source("default") == source


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--weights=a", "--workdir=b"], "Give either --weights or --workdir, not both"),
        (["--checkpoint=best"], r"write --weights RUN@best\."),
        (["--weights=a", "--checkpoint=best"], r"--checkpoint best is of no run"),
    ],
)
def test_flags_that_contradict_are_refused(given, arguments, words):
    given(["command", *arguments])
    with pytest.raises(UserError, match=words):
        command.weights_source("default")


def test_predict_takes_a_run(folder, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    arguments = "--workdir", str(folder), "--checkpoint=best", "--output=out", "photo.png"
    done = run_command("predict", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    label = np.asarray(Image.open(tmp_path / "out/photo.png"))
    wanted = Segmenter.load(f"{folder}@best")(tmp_path / "photo.png").label
    np.testing.assert_array_equal(label, wanted)


def test_export_takes_a_run_with_its_scores(run, tmp_path):
    digest = weights_digest(*nnx.split(weights.load(str(run)), nnx.Param, nnx.BatchStat)[1:])
    stored = {**SCORES, "protocol": {"weights": digest}}
    (run / "eval.json").write_text(json.dumps(stored))
    done = run_command("export", "--weights=run", "--output=net.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = weights.read(str(tmp_path / "net.safetensors"))
    assert found.scores == stored
    assert value_of(found) == 101
    done = run_command("export", "--weights=run@7", "--output=net.safetensors", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith("give newest, best or one of 8, 100, 101.\n")


def test_evaluate_takes_a_run_and_shows_its_history(run, tmp_path):
    records = [{"step": step, "loss": 1 / step, "learning_rate": 0.1} for step in range(1, 101)]
    records.append({"step": 100, "warning": "a shark in the pool"})
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    output = tmp_path / "scores"
    process = runs.start(tmp_path, "evaluate", f"--weights={run}@best", f"--output={output}")
    runs.finish(process)
    result = json.loads((output / "eval.json").read_text())
    model = weights.load(f"{run}@best")
    digest = weights_digest(*nnx.split(model, nnx.Param, nnx.BatchStat)[1:])
    assert result["protocol"]["weights"] == digest
    page = (output / "report.html").read_text()
    assert "run@best" in page
    assert "a shark in the pool" in page


def run_command(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"deeplab_mnv2.{name}", *arguments],
        cwd=cwd,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
