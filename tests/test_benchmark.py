"""The benchmark's names and one small round of it; no test asserts how fast anything is."""

import subprocess
import sys

import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.costs import layer_costs
from deeplab_mnv2.tasks.segmentation.metrics import miou
from deeplab_mnv2.tasks.segmentation.transforms import pad
from experiments import benchmark
from experiments.benchmarking import data, measuring
from experiments.benchmarking.case import Case, parse

_CEILINGS = {"bytes": 1e9, "flops": 1e9}


@pytest.mark.parametrize(
    "name",
    [
        "forward_513_b1",
        "train_257_b4_os8",
        "train_513_b16_w0.5_remat",
        "train_513_b64_bf16",
        "train_300_b32_ssdlite",
        "eval",
    ],
)
def test_a_case_has_one_name(name):
    assert parse(name).name == name


def test_settings_that_no_case_has_are_named():
    with pytest.raises(UserError, match="multiples of 32 plus one"):
        parse("forward_512_b1")
    with pytest.raises(UserError, match="cases are forward_513_b1"):
        parse("backward_513_b1")


def test_programs_run_in_turns():
    order = []
    programs = {name: lambda name=name: order.append(name) for name in ("ours", "theirs")}
    times = measuring.measure(programs, rounds=2)
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert turns == ["ours", "theirs", "ours", "theirs"]
    assert {name: values.shape for name, values in times.items()} == {
        "ours": (2, 2),
        "theirs": (2, 2),
    }


@pytest.mark.usefixtures("one_block_a_stage")
@pytest.mark.parametrize("peer", ["plain", "torch_eager"])
@pytest.mark.parametrize("half", [False, True])
def test_peers_compute_the_same(peer, half):
    if peer == "torch_eager":
        pytest.importorskip("torch")
    case = Case("forward", size=65, half=half)
    row = measuring.run_case(case, [peer], 1, _CEILINGS)
    # bfloat16 keeps two or three digits a layer.
    assert row["difference"][peer] < (0.1 if half else 1e-4)
    assert row["ours_ms"] > 0


@pytest.mark.usefixtures("one_block_a_stage")
@pytest.mark.parametrize("kind", ["forward", "train"])
def test_the_detector_in_pytorch_computes_the_same(kind):
    """Codes and logits, or the loss of the first step."""
    torch_programs = pytest.importorskip("experiments.benchmarking.torch_programs")
    case = Case(kind, size=100, batch_size=8, width_multiplier=0.35, detects=True)
    ours = measuring.build("ours", case, case.model())()
    theirs = torch_programs.eager(case, case.model())()
    if kind == "train":
        assert theirs == pytest.approx(float(ours["loss"]), rel=1e-4)
        return
    for one, other in zip(measuring._on_host(theirs), measuring._on_host(ours), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


@pytest.mark.usefixtures("one_block_a_stage")
def test_a_training_step_is_timed():
    case = Case("train", size=65, batch_size=8)
    row = measuring.run_case(case, ["plain"], 1, _CEILINGS)
    assert row["ratio"] == {"plain": row["peers_ms"]["plain"] / row["ours_ms"]}
    assert row["images_per_second"] == pytest.approx(8 * 1000 / row["ours_ms"])
    forward = sum(cost.multiply_adds for cost in layer_costs(case.model(), (65, 65)))
    assert row["multiply_adds"] == 3 * 8 * forward


@pytest.mark.usefixtures("one_block_a_stage")
def test_our_evaluation_scores_what_a_loop_over_the_images_scores(voc, monkeypatch):
    monkeypatch.setattr(data, "_SIZE", 65)
    case = Case("eval")
    model = case.model()
    model.eval()
    logits = nnx.jit(lambda model, image: model(model.normalize(image)))
    confusion = np.zeros((21, 21), np.int64)
    for example in Folder(root=voc, split="val").open():
        image, label = pad(example["image"], example["label"], (65, 65), model.config.mean_pixel)
        found = np.asarray(logits(model, image[None]))[0].argmax(-1)
        known = label != IGNORE_LABEL
        np.add.at(confusion, (label[known], found[known]), 1)
    assert data.our_evaluation(case, str(voc), 0)() == pytest.approx(float(miou(confusion)))


def test_our_input_is_read_and_takes_time(voc, monkeypatch):
    monkeypatch.setattr(data, "_BATCHES", 1)
    assert 0 < data.our_input(str(voc))() < 10


@pytest.mark.parametrize("how", ["-m experiments.benchmark", benchmark.__file__])
def test_the_command_runs_as_module_and_as_file(how):
    done = subprocess.run(
        [sys.executable, *how.split(), "--peers", "nobody"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: There is no peer 'nobody'; peers are plain, torch_eager, torch_compile, "
        "transformers, onnxruntime, litert.\n"
    )
