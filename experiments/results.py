"""The tables of results, made from the `eval.json` of runs that were really made.

    python -m experiments.results --add voc_small --workdir runs/voc_small --device "2 CPU cores"
    python -m experiments.results --add voc_small_seed1 --workdir runs/voc_small_seed1 \
        --experiment voc_small --device "2 CPU cores"
    python -m experiments.results --add voc_small_ms --workdir runs/voc_small \
        --scores scores/voc_small_ms --device "2 CPU cores"
    python -m experiments.results --add google --weights FILE --scores scores/google
    python -m experiments.results --add package --weights voc_mobile.safetensors \
        --experiment package --scores scores/package
    python -m experiments.results
    python -m experiments.results --reproduce quickstart
    python -m experiments.results --reproduce voc_small --data VOC2012 --weights FILE

The first five keep a row in experiments/results: for a run, for another seed, for a run scored
another way (`python -m deeplab_mnv2.evaluate --output`), for weights from elsewhere, for the
package's. The sixth writes the tables. The last two run a row again and say whether the score is
within what the row claims; the exit status is 1 if it is not. experiments/README.md has all rows:
experiments without one appear as not run, those with several seeds get an extra line with mean and
standard deviation. The top README.md has one line for each result, several seeds together.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command, experiment
from deeplab_mnv2.config import BackboneConfig, ClassifierConfig, Config, SsdLiteConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import read_json, replace_atomically, replace_together
from deeplab_mnv2.models.costs import layer_costs
from deeplab_mnv2.training.log import read_metrics
from deeplab_mnv2.weights.model_weights import abstract_model
from deeplab_mnv2.weights.naming import SCORE_TITLES
from deeplab_mnv2.weights.run import scores_in
from experiments.tools import reproduction

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- results: python -m experiments.results -->\n", "<!-- end of results -->\n"
_HEADER = (
    "| run | weights at the start | steps | device, time | scored | score | near edges "
    "| parameters | multiply-adds |\n| --- | --- | ---: | --- | --- | --- | ---: | ---: | ---: |\n"
)
_SHORT_HEADER = (
    "| run | weights at the start | steps, time | scored | score | parameters | multiply-adds |\n"
    "| --- | --- | --- | --- | --- | ---: | ---: |\n"
)

# The page of whoever's own data, which no row can be of.
_OWN = "folder"

# The facts in `row.json`, and the scores in `eval.json` beside it.
Row = tuple[dict[str, Any], dict[str, Any]]


def add(name: str, scores: Path, of: Sequence[str], row: dict[str, Any]) -> None:
    """Keep a row: its facts, and the `eval.json` in the folder `scores`.

    `of` names the weights that it may be of, such as a run's newest and best.

    Raises:
        UserError: there is no `eval.json`, or it is of none of the weights.
    """
    path = scores / "eval.json"
    if not path.is_file():
        raise UserError(f"{scores} holds no eval.json; check --scores, or finish the run.")
    if not any(scores_in(path, weights.read(each)) for each in of):
        raise UserError(f"{path} has the scores of other weights than {of[0]}; evaluate these.")
    folder = HERE / "results" / name
    with replace_together(folder / "eval.json", folder / "row.json") as (kept, facts):
        kept.write_bytes(path.read_bytes())
        facts.write_text(json.dumps(row, indent=1) + "\n")


def facts_of_run(workdir: Path, experiment: str, device: str) -> dict[str, Any]:
    """Return the facts of a run's row; minutes are those of training alone.

    Raises:
        UserError: the folder holds no run.
    """
    model = weights.read(str(workdir)).config
    stored = json.loads((workdir / "config.json").read_text())
    config = stored["train"]
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
        **costs(model, _input_side(model, stored["evaluation"])),
    }


def costs(model: BackboneConfig, side: int) -> dict[str, int]:
    """Return the parameters, and the multiply-adds at a side of the input."""
    network = abstract_model(model)
    layers = layer_costs(network, (side, side))
    parameters = jax.tree.leaves(nnx.state(network, nnx.Param))
    return {
        "parameters": sum(leaf.size for leaf in parameters),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
    }


def _input_side(model: BackboneConfig, evaluation: dict[str, Any]) -> int:
    """Return the side at which multiply-adds are counted: 513, or what the network is scored at."""
    match model:
        case SsdLiteConfig():
            return model.image_size
        case ClassifierConfig():
            return evaluation["crop_size"]
        case _:
            return 513


def table() -> str:
    """Return the whole table in Markdown: rows that were run, and experiments that were not."""
    lines, run = [], set()
    for group in _groups():
        lines += [_line(row, result) for row, result in group]
        if len(group) > 1:
            lines.append(_seeds_line(group))
        run.add(group[0][0]["experiment"])
    for path in sorted(HERE.glob("*.py")):
        if path.stem not in {*run, _OWN} and "\ndef get_config(" in path.read_text():
            _, config = experiment.load(str(path))
            lines.append(_not_run(path.stem, config))
    return _HEADER + "".join(lines)


def short_table() -> str:
    """Return the table of the top README: what was run, several seeds in one line."""
    return _SHORT_HEADER + "".join(_short_line(group) for group in _groups())


# Which table is in which file.
TABLES = {HERE / "README.md": table, HERE.parent / "README.md": short_table}


def _groups() -> list[list[Row]]:
    """Return the kept rows, those that differ in nothing but the seed together."""
    rows = [
        (json.loads(path.read_text()), json.loads((path.parent / "eval.json").read_text()))
        for path in HERE.glob("results/*/row.json")
    ]
    rows.sort(key=lambda pair: (*_without_seed(*pair), pair[0].get("seed", 0)))
    return [list(group) for _, group in itertools.groupby(rows, lambda pair: _without_seed(*pair))]


def _line(row: dict[str, Any], result: dict[str, Any]) -> str:
    seed = f", seed {row['seed']}" if row.get("seed") else ""
    cells = (
        _link(row["experiment"], HERE) + seed,
        _start(row),
        _steps(row),
        f"{row['device']}, {row['minutes']} min" if row["steps"] else "",
        _scored(row, result["protocol"]),
        f"{_title(result)} {100 * _score(result):.2f} {_interval(result['ci95'])}",
        f"{100 * result['boundary_miou']['4']:.2f}" if "boundary_miou" in result else "",
        *_costs(row),
    )
    return f"| {' | '.join(cells)} |\n"


def _short_line(group: list[Row]) -> str:
    row, result = group[0]
    training, score = _steps(row), f"{100 * _score(result):.2f}"
    if row["steps"]:
        minutes = sorted(each["minutes"] for each, _ in group)
        times = f"{minutes[0]} min" if len(group) == 1 else f"{minutes[0]} to {minutes[-1]} min"
        training += f", {times} on {row['device']}"
    if len(group) > 1:
        training += f"; {len(group)} seeds"
        score = _mean([_score(each) for _, each in group])
    # Of several runs the widest interval, so that it promises no more than each of them.
    lows, highs = zip(*(each["ci95"] for _, each in group), strict=True)
    cells = (
        _link(row["experiment"], HERE.parent),
        _start(row),
        training,
        _scored(row, result["protocol"]),
        f"{_title(result)} {score} {_interval((min(lows), max(highs)))}",
        *_costs(row),
    )
    return f"| {' | '.join(cells)} |\n"


def _without_seed(row: dict[str, Any], result: dict[str, Any]) -> tuple[Any, ...]:
    return (
        *(row["experiment"], row["start"], row["steps"], row.get("batch_size", 0)),
        tuple(row.get("settings", ())),
        result["protocol"]["protocol_hash"],
    )


def _seeds_line(group: list[Row]) -> str:
    results = [result for _, result in group]
    score = f"{_title(results[0])} {_mean([_score(result) for result in results])}"
    edges = ""
    if "boundary_miou" in results[0]:
        edges = _mean([result["boundary_miou"]["4"] for result in results])
    name = f"mean and standard deviation of {len(group)} seeds"
    return f"| {name} | | | | | {score} | {edges} | | |\n"


def _score(result: dict[str, Any]) -> float:
    return next(result[key] for key in SCORE_TITLES if key in result)


def _title(result: dict[str, Any]) -> str:
    return next(title for key, title in SCORE_TITLES.items() if key in result)


def _not_run(name: str, config: Config) -> str:
    start = Path(config.train.init_weights).name or "random"
    steps = f"{config.train.total_steps:,} x {config.train.batch_size}"
    found = costs(config.model, _input_side(config.model, vars(config.evaluation)))
    cells = (_link(name, HERE), start, steps, "", "", "not run", "", *_costs(found))
    return f"| {' | '.join(cells)} |\n"


def _start(row: dict[str, Any]) -> str:
    return f"`{row['start']}`" if "." in row["start"] else row["start"]


def _steps(row: dict[str, Any]) -> str:
    return f"{row['steps']:,} x {row['batch_size']}" if row["steps"] else "none"


def _scored(row: dict[str, Any], protocol: dict[str, Any]) -> str:
    scored = [f"{protocol['images']} images of {protocol['split']}"]
    if "output_stride" not in protocol:
        return scored[0]
    if row["steps"] == 0 or protocol["output_stride"] != 16:
        scored.append(f"stride {protocol['output_stride']}")
    if protocol["scales"] != [1.0]:
        scored.append("scales " + ", ".join(f"{scale:g}" for scale in protocol["scales"]))
    if protocol["flip"]:
        scored.append("flip")
    return "; ".join(scored)


def _mean(scores: list[float]) -> str:
    return f"{100 * np.mean(scores):.2f} ± {100 * np.std(scores, ddof=1):.2f}"


def _interval(ends: Sequence[float]) -> str:
    return f"({100 * ends[0]:.2f} to {100 * ends[1]:.2f})"


def _costs(row: dict[str, Any]) -> tuple[str, str]:
    return f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e9:.3f} G"


def _link(name: str, folder: Path) -> str:
    """Return a link to an experiment as it is written in a README of `folder`."""
    page = HERE / f"{name}.py"
    return f"[{name}]({page.relative_to(folder)})" if page.exists() else name


def _reproduce(name: str, data: str, start: str) -> None:
    """Run a row again and print whether it comes back.

    Raises:
        UserError: there is no such row, or it cannot be run.
    """
    path = HERE / "results" / name / "row.json"
    if not path.is_file():
        names = ", ".join(sorted(each.parent.name for each in HERE.glob("results/*/row.json")))
        raise UserError(f"There is no row {name!r}; there are {names}.")
    row = read_json(path)
    own = read_json(path.parent / "eval.json")
    (group,) = (group for group in _groups() if (row, own) in group)
    others = [result for each, result in group if each != row]
    folder = Path("runs", "reproduce", name)
    within, sentence = reproduction.reproduce(row, [own, *others], folder, data, start)
    print(f"{name}: {sentence}")
    sys.exit(0 if within else 1)


def main() -> None:
    """Add a row, write the tables into the READMEs, or run a row again."""
    given = flags.FLAGS
    if given.reproduce:
        _reproduce(given.reproduce, given.data, given.weights)
    elif not given.add:
        for readme, make in TABLES.items():
            before, rest = readme.read_text().split(BEGIN)
            with replace_atomically(readme) as temporary:
                temporary.write_text(before + BEGIN + make() + END + rest.split(END)[1])
    elif given.workdir:
        workdir = Path(given.workdir)
        facts = facts_of_run(workdir, given.experiment or workdir.name, given.device)
        if given.settings:
            facts["settings"] = given.settings
        run = given.workdir, f"{given.workdir}@best"
        add(given.add, Path(given.scores or given.workdir), run, facts)
    elif given.weights and given.scores:
        model = weights.read(given.weights).config
        stamp = read_json(Path(given.scores, "eval.json"))["protocol"]
        counted = costs(model, _input_side(model, stamp))
        facts = {
            "experiment": given.experiment or "published",
            "start": Path(given.weights).name,
            "steps": 0,
            **counted,
        }
        add(given.add, Path(given.scores), [given.weights], facts)
    else:
        raise UserError("Give --add NAME with --workdir RUN, or with --weights FILE --scores DIR.")


if __name__ == "__main__":
    flags.DEFINE_string("add", "", "Keep a row under this name.")
    flags.DEFINE_string("workdir", "", "The run that the row describes.")
    flags.DEFINE_string("experiment", "", "Of the row; default: the workdir's name, or published.")
    flags.DEFINE_string("weights", "", "Weights from elsewhere, of the row or at its start.")
    flags.DEFINE_string("scores", "", "Folder that evaluate wrote; default: the workdir.")
    flags.DEFINE_list("settings", [], "Of a run, where not its page's: model.width_multiplier=0.5.")
    flags.DEFINE_string("device", "", "The machine the run was made on.")
    flags.DEFINE_string("reproduce", "", "Run the row of this name again.")
    flags.DEFINE_string("data", "", "Folder of the data set, for rows on VOC.")
    command.run(main)
