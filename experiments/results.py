"""The README's table of results, made from the `eval.json` of runs that were really made.

    python -m experiments.results --add voc_small --workdir runs/voc_small --device "2 CPU cores"
    python -m experiments.results --add voc_small_seed1 --workdir runs/voc_small_seed1 \
        --experiment voc_small --device "2 CPU cores"
    python -m experiments.results --add voc_small_ms --workdir runs/voc_small \
        --scores scores/voc_small_ms --device "2 CPU cores"
    python -m experiments.results --add google --weights FILE --scores scores/google
    python -m experiments.results

The first four keep a row under experiments/results: of a run, of another seed, of a run scored
another way (`python -m deeplab_mnv2.evaluate --output`), of weights from elsewhere. The last writes
the table into README.md. Experiments without a row stand there as not run; those with several
seeds get a line with mean and standard deviation.
"""

import importlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import Config, ModelConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.models.costs import layer_costs
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.training.log import read_metrics

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results: python -m experiments.results -->\n", "<!-- end of results -->\n"
_HEADER = (
    "| run | weights at the start | steps | device, time | scored | mIoU | near edges | parameters "
    "| multiply-adds |\n| --- | --- | ---: | --- | --- | --- | ---: | ---: | ---: |\n"
)


def add(name: str, scores: Path, row: dict[str, Any]) -> None:
    """Keep a row: its facts, and the `eval.json` that lies in `scores`.

    Raises:
        UserError: there is no `eval.json`.
    """
    if not (scores / "eval.json").is_file():
        raise UserError(f"{scores} holds no eval.json; check --scores, or finish the run.")
    folder = HERE / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(scores / "eval.json", folder / "eval.json")
    (folder / "row.json").write_text(json.dumps(row, indent=1) + "\n")


def facts_of_run(workdir: Path, experiment: str, device: str) -> dict[str, Any]:
    """Return what a row tells of a run; minutes are those of training alone.

    Raises:
        UserError: the folder holds no run.
    """
    model = weights.load(str(workdir))
    config = json.loads((workdir / "config.json").read_text())["train"]
    seconds, before = 0.0, 0
    for record in read_metrics(workdir / "metrics.jsonl"):
        if "images_per_second" in record:
            images = (record["step"] - before) * config["batch_size"]
            seconds, before = seconds + images / record["images_per_second"], record["step"]
    return {
        "experiment": experiment,
        "start": Path(config["init_weights"]).name or "random",
        "steps": config["total_steps"],
        "batch_size": config["batch_size"],
        "seed": config["seed"],
        "device": device,
        "minutes": round(seconds / 60),
        **costs(model.config),
    }


def costs(model: ModelConfig) -> dict[str, int]:
    """Return the parameters, and the multiply-adds at 513 x 513."""
    network = nnx.eval_shape(lambda: DeepLab(model, rngs=nnx.Rngs(0)))
    layers = layer_costs(network, (513, 513))
    parameters = jax.tree.leaves(nnx.state(network, nnx.Param))
    return {
        "parameters": sum(leaf.size for leaf in parameters),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
    }


def table() -> str:
    """Return the table in Markdown: rows that were run, and experiments that were not."""
    rows = [
        (json.loads(path.read_text()), json.loads((path.parent / "eval.json").read_text()))
        for path in HERE.glob("results/*/row.json")
    ]
    rows.sort(key=lambda pair: (*_without_seed(*pair), pair[0].get("seed", 0)))
    run = {row["experiment"] for row, _ in rows}
    lines = []
    # Runs that differ in nothing but the seed stand together.
    for _, group in itertools.groupby(rows, lambda pair: _without_seed(*pair)):
        group = list(group)
        lines += [_line(row, result) for row, result in group]
        if len(group) > 1:
            lines.append(_seeds_line(group))
    for path in sorted(HERE.glob("*.py")):
        if path.stem not in run and "\ndef get_config(" in path.read_text():
            config = importlib.import_module(f"experiments.{path.stem}").get_config()
            lines.append(_not_run(path.stem, config))
    return _HEADER + "".join(lines)


def _line(row: dict[str, Any], result: dict[str, Any]) -> str:
    low, high = result["ci95"]
    stamp = result["protocol"]
    scored = [f"{stamp['images']} images of {stamp['split']}"]
    if row["steps"] == 0 or stamp["output_stride"] != 16:
        scored.append(f"stride {stamp['output_stride']}")
    if stamp["scales"] != [1.0]:
        scored.append("scales " + ", ".join(f"{scale:g}" for scale in stamp["scales"]))
    if stamp["flip"]:
        scored.append("flip")
    steps = f"{row['steps']:,} x {row['batch_size']}" if row["steps"] else "none"
    device = f"{row['device']}, {row['minutes']} min" if row["steps"] else ""
    seed = f", seed {row['seed']}" if row.get("seed") else ""
    cells = (
        _link(row["experiment"]) + seed,
        f"`{row['start']}`" if "." in row["start"] else row["start"],
        steps,
        device,
        "; ".join(scored),
        f"{100 * result['miou']:.2f} ({100 * low:.2f} to {100 * high:.2f})",
        f"{100 * result['boundary_miou']['4']:.2f}",
        *_costs(row),
    )
    return f"| {' | '.join(cells)} |\n"


def _without_seed(row: dict[str, Any], result: dict[str, Any]) -> tuple[Any, ...]:
    return row["experiment"], row["start"], row["steps"], result["protocol"]["protocol_hash"]


def _seeds_line(group: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    def spread(scores: list[float]) -> str:
        return f"{100 * np.mean(scores):.2f} ± {100 * np.std(scores, ddof=1):.2f}"

    miou = spread([result["miou"] for _, result in group])
    edges = spread([result["boundary_miou"]["4"] for _, result in group])
    name = f"mean and standard deviation of {len(group)} seeds"
    return f"| {name} | | | | | {miou} | {edges} | | |\n"


def _not_run(name: str, config: Config) -> str:
    start = Path(config.train.init_weights).name or "random"
    steps = f"{config.train.total_steps:,} x {config.train.batch_size}"
    cells = (_link(name), start, steps, "", "", "not run", "", *_costs(costs(config.model)))
    return f"| {' | '.join(cells)} |\n"


def _costs(row: dict[str, Any]) -> tuple[str, str]:
    return f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e9:.3f} G"


def _link(name: str) -> str:
    return f"[{name}](experiments/{name}.py)" if (HERE / f"{name}.py").exists() else name


def main() -> None:
    """Add a row, or write the table into the README."""
    given = flags.FLAGS
    if not given.add:
        before, rest = README.read_text().split(BEGIN)
        with replace_atomically(README) as temporary:
            temporary.write_text(before + BEGIN + table() + END + rest.split(END)[1])
    elif given.workdir:
        workdir = Path(given.workdir)
        facts = facts_of_run(workdir, given.experiment or workdir.name, given.device)
        add(given.add, Path(given.scores or given.workdir), facts)
    elif given.weights and given.scores:
        model = weights.load(given.weights).config
        name = Path(given.weights).name
        facts = {"experiment": "published", "start": name, "steps": 0, **costs(model)}
        add(given.add, Path(given.scores), facts)
    else:
        raise UserError("Give --add NAME with --workdir RUN, or with --weights FILE --scores DIR.")


if __name__ == "__main__":
    flags.DEFINE_string("add", "", "Keep a row of this name.")
    flags.DEFINE_string("workdir", "", "Run that the row is of.")
    flags.DEFINE_string("experiment", "", "Its experiment; default the workdir's name.")
    flags.DEFINE_string("weights", "", "Weights from elsewhere that the row is of.")
    flags.DEFINE_string("scores", "", "Folder that evaluate wrote; default the workdir.")
    flags.DEFINE_string("device", "", "What the run was made on.")
    command.run(main)
