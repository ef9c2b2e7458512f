"""What is read off a compiled program, and the table made of it; no TPU compiler is needed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.task_of import task_of
from experiments import ahead_of_time
from experiments.ahead_of_time import Cost, table
from experiments.tools import hlo
from tests.support.meshes import mesh_of
from tests.support.tiny_runs import classification, detection, segmentation
from tests.support.training_steps import start

_COST = Cost(
    experiment="voc_tpu",
    settings=["train.space=2"],
    topology="v5e:2x4",
    devices=8,
    batch_size=64,
    seconds=90.0,
    arguments=3 * 2**20,
    temporaries=12 * 2**30,
    output=2**10,
    traffic=16 * 2**30,
    bytes_accessed=2.0**35,
    flops=5e12,
    cycles=7_500_000,
    collectives={"all-reduce": (3, 2**20)},
)
# As libtpu writes it, shortened.
_PROGRAM = """HloModule jit_step, is_scheduled=true

%fused_computation (param_0.1: bf16[8,129,129,144]) -> bf16[3,3,1,144] {
  %param_0.1 = bf16[8,129,129,144]{3,0,2,1:T(8,128)(2,1)S(1)} parameter(0)
  %all-reduce.9 = bf16[3,3,1,144]{3,2,1,0:T(2,128)(2,1)S(1)} all-reduce(%param_0.1)
}

ENTRY %main.1 (x.1: bf16[8,129,129,144], y.1: f32[40]) -> bf16[3,3,1,144] {
  %x.1 = bf16[8,129,129,144]{3,0,2,1:T(8,128)(2,1)} parameter(0), metadata={op_name="x"}
  %y.1 = f32[40]{0:T(256)} parameter(1)
  %copy-start = (bf16[8,129,129,144]{3,0,2,1:T(8,128)(2,1)S(1)}, bf16[8,129,129,144]{3,0,2,1:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%x.1)
  %copy-done = bf16[8,129,129,144]{3,0,2,1:T(8,128)(2,1)S(1)} copy-done(%copy-start)
  %slice-start = ((bf16[8,129,129,144]{3,0,2,1:T(8,128)(2,1)}), bf16[2,129,129,144]{3,0,2,1:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%x.1), slice={[0:2], [0:129], [0:129], [0:144]}
  %slice-done = bf16[2,129,129,144]{3,0,2,1:T(8,128)(2,1)S(1)} slice-done(%slice-start)
  %fusion = bf16[3,3,1,144]{3,2,1,0:T(2,128)(2,1)S(1)} fusion(%copy-done), kind=kOutput, calls=%fused_computation, backend_config={"window_config":{"estimated_cycles":"201316"}}
  %start = (f32[40]{0:T(256)}, f32[80]{0:T(256)}) all-gather-start(%y.1), dimensions={0}
  %done = f32[80]{0:T(256)} all-gather-done(%start)
  %sums = (f32[40]{0:T(256)}, pred[7]{0:T(256)(128)(4,1)S(1)}) all-reduce(%y.1, %copy), to_apply=%add
  ROOT %copy = bf16[3,3,1,144]{3,1,2,0:T(4,128)(2,1)} copy(%fusion), backend_config={"estimated_cycles":"1881"}
}
"""  # noqa: E501


def test_collectives_of_a_program_that_xla_compiled():
    mesh = mesh_of(data=8)
    parts, whole = jax.NamedSharding(mesh, P("data")), jax.NamedSharding(mesh, P())

    @jax.jit
    def program(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.sum(x, 0), jax.lax.with_sharding_constraint(2 * x, whole)

    x = jax.ShapeDtypeStruct((16, 5), jnp.float32, sharding=parts)
    text = program.lower(x).compile().as_text()
    found = hlo.collectives(hlo.instructions(text))
    assert found == {"all-gather": (1, 16 * 5 * 4), "all-reduce": (1, 5 * 4)}


def test_split_parameters_are_gathered_and_no_activation_is_exchanged(tmp_path):
    config = detection(tmp_path, fsdp=8)
    state, step = start(config, mesh_of(fsdp=8))
    example = ahead_of_time.empty_example(config, task_of(config))
    batch = {name: np.stack([array] * 8) for name, array in example.items()}
    text = step.lower(state, batch).compile().as_text()
    assert set(hlo.collectives(hlo.instructions(text))) == {"all-gather", "all-reduce"}


def test_collectives_count_once_and_with_all_they_return():
    assert hlo.collectives(hlo.instructions(_PROGRAM)) == {
        "all-gather": (1, 80 * 4),
        "all-reduce": (1, 40 * 4 + 7),
    }


def test_a_collective_that_is_a_pair_of_fused_operations_counts_once():
    text = """HloModule jit_step

%first (x.1: bf16[1,18]) -> bf16[1,144] {
  %x.1 = bf16[1,18]{1,0} parameter(0)
  %all-gather.1 = bf16[1,144]{1,0} all-gather(%x.1), dimensions={1}
}

%last (x.2: bf16[1,18]) -> bf16[1,144] {
  %x.2 = bf16[1,18]{1,0} parameter(0)
  %all-gather.2 = bf16[1,144]{1,0} all-gather(%x.2), dimensions={1}
}

ENTRY %main (x: bf16[1,18]) -> bf16[1,144] {
  %x = bf16[1,18]{1,0} parameter(0)
  %async-collective-start.1 = (bf16[1,18]{1,0}, bf16[1,144]{1,0}) fusion(%x), calls=%first
  %got = bf16[1,144]{1,0} get-tuple-element(%async-collective-start.1), index=1
  ROOT %async-collective-done.1 = bf16[1,144]{1,0} fusion(%got), kind=kCustom, calls=%last
}
"""
    program = hlo.instructions(text)
    assert hlo.collectives(program) == {"all-gather": (1, 144 * 2)}
    assert hlo.traffic(program) == {
        "async-collective-start.1": 18 * 2,
        "async-collective-done.1": 144 * 2,
    }


def test_traffic_is_that_of_main_memory_with_its_padding():
    moved = {
        "copy-start": 129 * 129 * 8 * 256 * 2,  # 144 channels take two tiles of 128
        "copy-done": 0,
        "slice-start": 129 * 129 * 8 * 256 * 2,  # two images take a tile of eight
        "slice-done": 0,
        "fusion": 0,
        "start": 256 * 4,
        "done": 256 * 4,
        "sums": 2 * 256 * 4 + 3 * 4 * 256 * 2,
        "copy": 3 * 4 * 256 * 2,
    }
    assert hlo.traffic(hlo.instructions(_PROGRAM)) == moved


def test_cycles_add_up():
    assert hlo.cycles(hlo.instructions(_PROGRAM)) == 201316 + 1881


def test_a_line_counts_for_one_device():
    (line,) = table([_COST]).splitlines()[2:]
    assert line == (
        "| voc_tpu, `train.space=2` | 8 (v5e:2x4) | 8 | 3.00 MiB + 12.00 GiB + 1.0 KiB "
        "| 16.00 GiB, 2.00 GiB | 32.00 GiB | 5,000.0 | 7.5 M | 3 all-reduce of 1.00 MiB | 1.5 min |"
    )


def test_a_step_that_does_not_fit_has_as_many_cells():
    sentence = "RESOURCE_EXHAUSTED: Ran out of memory on HBM"
    header, _, fits, does_not = table(
        [_COST, Cost("a", [], "b", 1, 4, 60.0, sentence)]
    ).splitlines()
    assert header.count("|") == fits.count("|") == does_not.count("|")
    assert f"does not fit: {sentence}" in does_not


def test_readme_holds_the_table_of_what_is_kept():
    text = (ahead_of_time.HERE / "README.md").read_text()
    written = text.split(ahead_of_time.BEGIN)[1].split(ahead_of_time.END)[0]
    assert ahead_of_time.kept()
    assert written == table(ahead_of_time.kept())


def test_the_step_takes_the_forms_of_a_tpu_on_a_machine_without_one(tmp_path):
    config = segmentation(tmp_path)
    text = ahead_of_time.lowered_step(config, jax.devices()).as_text()
    # Forward, and the gradient of the kernel; a CPU has neither.
    assert re.search(r"feature_group_count = (?!1\b)", text)
    assert re.search(r"batch_group_count = (?!1\b)", text)


@pytest.mark.parametrize("make", [segmentation, classification, detection])
def test_the_example_of_each_task_has_the_shapes_of_the_real_one(make, tmp_path):
    config = make(tmp_path)
    task = task_of(config)
    real = task.augment(config.data.train.open()[0], np.random.default_rng(0))
    made = ahead_of_time.empty_example(config, task)
    assert {name: (array.shape, array.dtype) for name, array in made.items()} == {
        name: (array.shape, array.dtype) for name, array in real.items()
    }


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    config = segmentation(tmp_path, batch_size=12)
    with pytest.raises(UserError, match=r"train\.batch_size=12 does not divide over 8 devices"):
        ahead_of_time.lowered_step(config, jax.devices())
