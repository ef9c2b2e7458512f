"""The benchmark's names and a small round of it; how fast anything is, no test says."""

import pytest

from deeplab_mnv2.errors import UserError
from experiments import benchmark
from experiments.benchmark_case import Case, parse

_CEILINGS = {"bytes": 1e9, "flops": 1e9}


@pytest.mark.parametrize(
    "name",
    [
        "forward_513_b1",
        "train_257_b4_os8",
        "train_513_b16_w0.5_remat",
        "train_513_b64_bf16",
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
    times = benchmark.measure(programs, rounds=2)
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
    row = benchmark.run_case(case, [peer], 1, _CEILINGS)
    # bfloat16 keeps two or three digits a layer.
    assert row["difference"][peer] < (0.1 if half else 1e-4)
    assert row["ours_ms"] > 0


@pytest.mark.usefixtures("one_block_a_stage")
def test_a_training_step_is_timed():
    row = benchmark.run_case(Case("train", size=65, batch_size=8), ["plain"], 1, _CEILINGS)
    assert row["ratio"]["plain"] > 0
    assert row["multiply_adds"] > 0
