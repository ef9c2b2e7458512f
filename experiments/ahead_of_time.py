"""What a training step costs on TPUs, from XLA's TPU compiler: no TPU is needed.

    pip install -e ".[ahead]"
    python -m experiments.ahead_of_time --config experiments/voc_tpu.py --topology v5e:1x1,v5e:2x4
    python -m experiments.ahead_of_time --config experiments/voc_tpu.py --topology v5e:2x4 \
        --config.train.space=2 --keep voc_tpu_space
    python -m experiments.ahead_of_time --write

The package libtpu compiles for TPUs on any Linux machine. Compiled is the step that
`deeplab_mnv2.train` runs, of shapes alone: no data is read, nothing is allocated and nothing runs.
Operators choose their form by the platform that is compiled for (`lax.platform_dependent`), so
they are the TPU's. With 8 images of 513 x 513 a device this takes 3 to 9 minutes of a core.

Every number is of one device: a chip, or on v4 one of a chip's two cores. Traffic and cycles are
read off the compiled program (`tools/hlo.py`); the cycles are the compiler's own estimate. FLOPs
are those of `cost_analysis`, as is XLA's count of bytes, which also holds what stays in the fast
memory, once for each slice that is read. The loop of `train.accumulate` counts once. Nothing here
is a time; only a TPU gives one.

`--keep NAME` stores the rows in experiments/results/ahead_of_time; `--write` makes the table of
experiments/README.md from all that is kept.
"""

import dataclasses
import importlib.util
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import nnx
from jax.experimental import topologies
from ml_collections import config_flags

from deeplab_mnv2.cli import command
from deeplab_mnv2.config import ClassifierConfig, Config, DetectionDataConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import read_json, reason, replace_atomically
from deeplab_mnv2.sharding import make_mesh, require_divisible
from deeplab_mnv2.tasks.task import Task
from deeplab_mnv2.tasks.task_of import task_of
from deeplab_mnv2.training.optimizer import make_optimizer
from deeplab_mnv2.training.state import create_state
from deeplab_mnv2.training.step import make_train_step
from experiments.tools import hlo

HERE = Path(__file__).resolve().parent
BEGIN = "<!-- ahead of time: python -m experiments.ahead_of_time --write -->\n"
END = "<!-- end of ahead of time -->\n"
_HEADER = (
    "| step | devices | images each | memory: arguments + temporaries + output | main memory "
    "traffic a step, an image | XLA's count of bytes a step | GFLOP a step | cycles a step "
    "| collectives | processor time of compiling |\n"
    "| --- | ---: | ---: | --- | --- | ---: | ---: | ---: | --- | ---: |\n"
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a step costs each device: bytes, FLOPs, cycles; and the processor seconds of compiling.

    `output` is what of the result is not written in place of an argument. `collectives` maps each
    kind to its count and the bytes that it returns. Where the step does not fit into memory there
    is only the compiler's sentence, `refusal`.
    """

    experiment: str
    settings: list[str]
    topology: str
    devices: int
    batch_size: int
    seconds: float
    refusal: str = ""
    arguments: int = 0
    temporaries: int = 0
    output: int = 0
    traffic: int = 0
    bytes_accessed: float = 0
    flops: float = 0
    cycles: int = 0
    collectives: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


def lowered_step(config: Config, devices: Sequence[jax.Device]) -> jax.stages.Lowered:
    """Return the training step of a run on these devices, lowered for TPUs, not yet compiled.

    Raises:
        UserError: a setting is out of range.
    """
    config.check()
    mesh = make_mesh(config.train, devices)
    require_divisible(config.train, mesh)
    task = task_of(config)
    network = nnx.eval_shape(lambda: task.network(nnx.Rngs(config.train.seed)))
    params = nnx.state(network, nnx.Param)
    optimizer = make_optimizer(config.optimizer, config.train.total_steps, params)
    graphdef, *values = nnx.split(network, nnx.Param, nnx.BatchStat)
    state = jax.eval_shape(
        lambda *values: create_state(nnx.merge(graphdef, *values), optimizer, config.train)[1],
        *values,
    )
    step = make_train_step(graphdef, optimizer, task, config.train, mesh, state)
    batch = {
        name: jax.ShapeDtypeStruct((config.train.batch_size, *array.shape), array.dtype)
        for name, array in empty_example(config, task).items()
    }
    # Where everything is on the mesh, `make_train_step` says.
    return step.trace(state, batch).lower(lowering_platforms=("tpu",))


def tpus(topology: str) -> list[jax.Device]:
    """Return the devices of a topology, which can only be compiled for.

    Raises:
        UserError: libtpu is not installed, or knows no such topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "Compiling for TPUs needs the package libtpu, which is not installed; "
            "install it with pip install 'deeplab_mnv2[ahead]'."
        )
    jax.config.update("jax_platforms", "cpu")
    # A program from the cache would have no time, and cannot be read without a TPU.
    jax.config.update("jax_enable_compilation_cache", False)
    # Otherwise libtpu asks a cloud machine's metadata server, reports that it has no name for the
    # other hosts, and lets one process at a time load it, as there is one to a TPU.
    os.environ |= {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    # One host of v5e and v6e has four chips, unless told otherwise.
    alone = {"chips_per_host_bounds": (1, 1, 1)} if topology.endswith(":1x1") else {}
    try:
        return topologies.get_topology_desc(topology, platform="tpu", **alone).devices
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise UserError(
            f"--topology {topology} is not known to libtpu ({reason(error)}); "
            "names are such as v5e:1x1, v5e:2x4 and v5p:2x2x2."
        ) from error


def empty_example(config: Config, task: Task) -> dict[str, np.ndarray]:
    """Return a training example of the run, made of an empty image."""
    size = config.data.crop_size
    example: dict[str, Any] = {"image": np.zeros((size, size, 3), np.uint8)}
    if isinstance(config.data, DetectionDataConfig):
        example |= {"boxes": np.zeros((0, 4), np.float32), "label": np.zeros(0, np.int64)}
        example |= {"ignore": np.zeros(0, bool), "area": np.zeros(0, np.float32)}
    elif isinstance(config.model, ClassifierConfig):
        example["label"] = 0
    else:
        example["label"] = np.zeros((size, size), np.uint8)
    return task.augment(example, np.random.default_rng(0))


def cost(config: Config, topology: str, experiment: str, settings: list[str]) -> Cost:
    """Compile the training step of a run for a topology and return what it costs.

    Raises:
        UserError: a setting is out of range, or there is no such topology.
    """
    devices = tpus(topology)
    lowered = lowered_step(config, devices)
    facts = experiment, settings, topology, len(devices), config.train.batch_size
    begin = time.process_time()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Cost(*facts, time.process_time() - begin, reason(error))
    seconds = time.process_time() - begin
    memory, counted = compiled.memory_analysis(), compiled.cost_analysis()
    program = hlo.instructions(compiled.as_text())
    return Cost(
        *facts,
        seconds,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        output=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        traffic=sum(hlo.traffic(program).values()),
        bytes_accessed=counted["bytes accessed"],
        flops=counted["flops"],
        cycles=hlo.cycles(program),
        collectives=hlo.collectives(program),
    )


def table(costs: list[Cost]) -> str:
    """Return the costs as a table in Markdown."""
    return _HEADER + "".join(_line(each) for each in costs)


def _line(each: Cost) -> str:
    images = each.batch_size / each.devices
    measured = [f"does not fit: {each.refusal}", *[""] * 5]
    if not each.refusal:
        parts = (each.arguments, each.temporaries, each.output)
        measured = [
            " + ".join(_short(part) for part in parts),
            f"{_short(each.traffic)}, {_short(each.traffic / images)}",
            _short(each.bytes_accessed),
            f"{each.flops / 1e9:,.1f}",
            f"{each.cycles / 1e6:,.1f} M",
            "; ".join(
                f"{count} {kind} of {_short(size)}"
                for kind, (count, size) in each.collectives.items()
            )
            or "none",
        ]
    cells = (
        ", ".join([each.experiment, *(f"`{setting}`" for setting in each.settings)]),
        f"{each.devices} ({each.topology})",
        f"{images:g}",
        *measured,
        f"{each.seconds / 60:.1f} min",
    )
    return f"| {' | '.join(cells)} |\n"


def _short(size: float) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:,.2f} {unit}"
    return f"{size / 2**10:,.1f} KiB"


def kept() -> list[Cost]:
    """Return all rows that were kept, of each experiment those of few devices first."""
    folder = HERE / "results" / "ahead_of_time"
    costs = [Cost(**row) for path in folder.glob("*.json") for row in read_json(path)["rows"]]
    return sorted(
        costs, key=lambda each: (each.experiment, each.devices, each.topology, each.settings)
    )


def main() -> None:
    """Print the table of an experiment, or write that of what is kept."""
    given = flags.FLAGS
    if given.write:
        readme = HERE / "README.md"
        before, rest = readme.read_text().split(BEGIN)
        with replace_atomically(readme) as temporary:
            temporary.write_text(before + BEGIN + table(kept()) + END + rest.split(END)[1])
        return
    values = config_flags.get_override_values(flags.FLAGS["config"])
    settings = [f"{name}={value}" for name, value in values.items()]
    costs = []
    for topology in given.topology:
        costs.append(cost(given.config, topology, command.experiment_name(), settings))
        print(table(costs[-1:]), flush=True)
        if given.keep:
            path = HERE / "results" / "ahead_of_time" / f"{given.keep}.json"
            rows = [dataclasses.asdict(each) for each in costs]
            with replace_atomically(path) as temporary:
                temporary.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_list("topology", ["v5e:2x4"], "Topologies of TPUs, a row each.")
    flags.DEFINE_string("keep", "", "Store the rows under this name.")
    flags.DEFINE_bool("write", False, "Write the table of experiments/README.md.")
    command.run(main, default_config="voc_tpu")
