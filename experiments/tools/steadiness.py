"""How much a recipe's score depends on chance: seeds, and the same seed with rounding disturbed.

    python -m experiments.tools.steadiness --output runs/steadiness
    python -m experiments.tools.steadiness --config experiments/voc_small.py:VOC2012 --seeds 3 \
        --disturbances threads --config.train.init_weights=FILE

Trains one copy a seed, then seed 0 again with each disturbance, one after the other: on one core
("threads"), with narrower vector instructions ("vectors"), from weights that differ by one part in
a million ("weights"). A steady recipe moves no further by rounding than by another seed, and
neither moves it far. Leaves the runs, `steadiness.json` and `steadiness.md`. The same command
resumes; copies that have finished are only scored again.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from scipy import stats

from deeplab_mnv2 import sweep, weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import Config
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.protocol import machine
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.task_of import task_of

DISTURBANCES = ("threads", "vectors", "weights")
# Relative noise on the first weights, some eight units in the last place of float32.
_NOISE = 1e-6
# What XLA is held to on a machine with these vectors, widest first.
_NARROWER = {"avx512f": "AVX2", "avx2": "AVX", "avx": "SSE4_2"}


@dataclasses.dataclass
class Copy:
    """One training: its folder's name, and how it differs from the page."""

    name: str
    seed: int
    disturbance: str = ""
    score: float = float("nan")


def copies(seeds: int, disturbances: list[str]) -> list[Copy]:
    """Return the trainings to make, seeds first."""
    plain = [Copy(f"seed{seed}", seed) for seed in range(seeds)]
    return plain + [Copy(f"seed0_{name}", 0, name) for name in disturbances]


def prediction(scores: list[float]) -> tuple[float, float]:
    """Return the 95 % interval for one more run's score, by Student's t over two runs or more."""
    runs = len(scores)
    reach = stats.t.ppf(0.975, runs - 1) * np.std(scores, ddof=1) * np.sqrt(1 + 1 / runs)
    return float(np.mean(scores) - reach), float(np.mean(scores) + reach)


def summary(found: list[Copy]) -> dict[str, Any]:
    """Return the content of `steadiness.json`: scores, their spread, and what rounding does."""
    scores = [copy.score for copy in found if not copy.disturbance]
    low, high = prediction(scores)
    return {
        "machine": machine(),
        "copies": [dataclasses.asdict(copy) for copy in found],
        "mean": float(np.mean(scores)),
        "standard_deviation": float(np.std(scores, ddof=1)),
        "worst": min(scores),
        "another_run": [low, high],
        "outside": [c.name for c in found if c.disturbance and not low <= c.score <= high],
    }


def table(result: dict[str, Any]) -> str:
    """Return the summary in Markdown."""
    processor = f"{result['machine']['processor']} ({', '.join(result['machine']['vectors'])})"
    lines = ["| copy | disturbed | score in % |\n", "| --- | --- | ---: |\n"]
    lines += [
        f"| seed {copy['seed']} | {copy['disturbance'] or 'no'} | {100 * copy['score']:.2f} |\n"
        for copy in result["copies"]
    ]
    low, high = result["another_run"]
    outside = ", ".join(result["outside"])
    return "".join(lines) + (
        f"\nMean over seeds {100 * result['mean']:.2f} ± {100 * result['standard_deviation']:.2f}, "
        f"worst {100 * result['worst']:.2f}; another run scores {100 * low:.2f} to "
        f"{100 * high:.2f} (95 %). Disturbed copies outside of that: {outside or 'none'}. "
        f"{processor}.\n"
    )


def train(copy: Copy, config: Config, folder: Path, given: list[str]) -> float:
    """Train a copy with the `--config` flags given, or resume it, and return its score.

    Raises:
        UserError: the training failed.
    """
    workdir = folder / copy.name
    arguments = [*given, f"--config.train.seed={copy.seed}"]
    environment = dict(os.environ)
    if copy.disturbance == "vectors":
        isa = narrower_vectors(machine()["vectors"])
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} --xla_cpu_max_isa={isa}"
    if copy.disturbance == "weights":
        start = folder / f"{copy.name}.safetensors"
        if not start.exists():
            _disturbed_weights(config, copy.seed, start)
        arguments.append(f"--config.train.init_weights={start}")
    # A finished run is not trained again, but refused if it was made with other settings.
    with _one_core() if copy.disturbance == "threads" else nullcontext():
        sweep.train(arguments, workdir, environment)
    return json.loads((workdir / "eval.json").read_text())[task_of(config).score]


def narrower_vectors(vectors: list[str]) -> str:
    """Return XLA's name of the vector instructions below the widest that a machine has.

    Raises:
        UserError: it has none of those that XLA can be held back from.
    """
    for name, narrower in _NARROWER.items():
        if name in vectors:
            return narrower
    raise UserError(
        "XLA cannot be held to narrower vectors on this processor; leave vectors out of "
        "--disturbances."
    )


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread, and the processes that it starts, on one core; only Linux can."""
    if not hasattr(os, "sched_setaffinity"):
        raise UserError(
            "A process cannot be kept on one core on this system; leave threads out of "
            "--disturbances."
        )
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _disturbed_weights(config: Config, seed: int, path: Path) -> None:
    """Write the weights that a seed starts from, each moved by about one part in a million."""
    task = task_of(config)
    network = nnx.jit(lambda: task.network(nnx.Rngs(seed)))()
    params = nnx.state(network, nnx.Param)
    rng = np.random.default_rng(seed)

    def moved(value: jax.Array) -> jax.Array:
        return value * jnp.asarray(1 + _NOISE * rng.standard_normal(value.shape), value.dtype)

    nnx.update(network, jax.tree.map(moved, params))
    provenance = {"source": f"seed {seed} with noise of {_NOISE:g}"}
    weights.save(path, weights.from_model(network, provenance, config.data.train.class_names))


def main() -> None:
    """Train the copies and print the table."""
    given = flags.FLAGS
    if given.seeds < 2:
        raise UserError("--seeds must be 2 or more: one run has no spread.")
    if unknown := set(given.disturbances) - set(DISTURBANCES):
        raise UserError(
            f"There is no disturbance {min(unknown)!r}; there are {', '.join(DISTURBANCES)}."
        )
    output = Path(given.output)
    command.require_writable(output, "--output")
    found = copies(given.seeds, given.disturbances)
    for copy in found:
        copy.score = train(copy, given.config, output, sweep.experiment_arguments(sys.argv[1:]))
        print(f"{copy.name}: {100 * copy.score:.2f} %", flush=True)
    result = summary(found)
    for name, text in (
        ("steadiness.json", json.dumps(result, indent=1) + "\n"),
        ("steadiness.md", table(result)),
    ):
        with replace_atomically(output / name) as temporary:
            temporary.write_text(text)
    print(table(result))


if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_integer("seeds", 10, "Copies that differ in their seed.")
    flags.DEFINE_list("disturbances", list(DISTURBANCES), "What seed 0 is trained again with.")
    flags.DEFINE_string("output", "runs/steadiness", "Folder of the runs and the table.")
    command.run(main, default_config=command.QUICKSTART)
