"""Score weights on a data set.

  python -m deeplab_mnv2.evaluate --config experiments/voc_os16.py:VOC2012 --weights FILE \\
      --output scores/voc [--split val] [--output_stride 8] [--scales 0.5,0.75,1.0] [--flip]

FILE is also a run, RUN@best, a folder or hf://owner/name; without it, the package's own are scored.

Leaves eval.json, confusions.npz, report.html with its figures/, classes.csv and classes.tex in the
output folder.
"""

import dataclasses
import sys
from pathlib import Path

import jax
from absl import flags
from flax import nnx
from rich.progress import Progress

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import (
    BackboneConfig,
    Config,
    DataSet,
    EvaluationConfig,
    ScoringConfig,
)
from deeplab_mnv2.data.chosen_classes import ChosenClasses
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.report.run_page import write_report
from deeplab_mnv2.sharding import make_mesh
from deeplab_mnv2.tasks.task import Evaluation
from deeplab_mnv2.tasks.task_of import task_of
from deeplab_mnv2.training.log import read_metrics
from deeplab_mnv2.weights.model_weights import Network, number_classes


def evaluate(model: Network, config: Config) -> Evaluation:
    """Score a model on `config.data.val` under `config.evaluation`, with progress.

    Raises:
        UserError: a setting or a file of the data set is at fault.
    """
    config = dataclasses.replace(config, model=model.config)
    config.check(trains=False)
    evaluator = task_of(config).evaluator(model, make_mesh(config.train))
    _, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    with Progress(disable=jax.process_index() > 0) as progress:
        task = progress.add_task("evaluating", total=len(evaluator))
        return evaluator(
            params,
            batch_stats,
            pictures=config.evaluation.pictures,
            progress=lambda images: progress.advance(task, images),
        )


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    config = given.config
    path = command.weights_source(str(weights.PACKAGED))
    source = weights.read(path)
    model = weights.build(source)
    _refuse_other_model(config.model, model.config)
    if given.split:
        config.data.val.split = given.split
    _set_protocol(config.evaluation)
    if given.class_names:
        source = dataclasses.replace(source, class_names=_named(given.class_names, source))
    if source.kind == "detection":
        config.data.val = _with_classes_of(source, config.data.val)
    _warn_of_other_classes(source.class_names, config.data.val.class_names)
    output = Path(given.output or "runs/eval")
    command.require_writable(output, "--output")
    evaluation = evaluate(model, config)
    if jax.process_index() == 0:
        evaluation.write(output)
        run = weights.find_run(path)
        write_report(
            evaluation,
            output / "report.html",
            title=Path(path).name,
            history=read_metrics(run[0] / "metrics.jsonl") if run else None,
        )
        for warning in evaluation.warnings():
            print(f"warning: {warning}", file=sys.stderr)
        _print(evaluation, output)


def _set_protocol(evaluation: ScoringConfig) -> None:
    """Set what the command line says of how segmentation is scored."""
    given = flags.FLAGS
    if not isinstance(evaluation, EvaluationConfig):
        for flag in ("output_stride", "scales", "flip"):
            if given[flag].present:
                raise UserError(f"--{flag} is for segmentation; leave it out.")
        return
    if given.output_stride:
        evaluation.output_stride = given.output_stride
    if given.scales:
        evaluation.scales = command.numbers("scales", given.scales)
    if given["flip"].present:
        evaluation.flip = given.flip


def _refuse_other_model(asked: BackboneConfig, stored: BackboneConfig) -> None:
    """Refuse a page of another task, and settings that the weights were not trained under."""
    if type(asked) is not type(stored):
        raise UserError(
            f"--config is an experiment with {type(asked).__name__}, but the weights are of "
            f"{type(stored).__name__}; give an experiment of their own task."
        )
    for field in dataclasses.fields(stored):
        given, own = getattr(asked, field.name), getattr(stored, field.name)
        if f"model.{field.name}" in command.overridden() and given != own:
            remedy = "leave that setting out to score them as they are"
            if field.name == "output_stride":
                remedy = f"score them at another stride with --output_stride {given}"
            raise UserError(
                f"The weights have model.{field.name}={own!r}, not {given!r}; {remedy}."
            )


def _named(names: list[str], source: weights.Weights) -> tuple[str, ...]:
    """Return the names that the command line gives a network's classes."""
    if len(names) != source.config.num_classes:
        raise UserError(
            f"--class_names gives {len(names)} names, but the network has "
            f"{source.config.num_classes} classes; name each of them."
        )
    return tuple(names)


def _with_classes_of(source: weights.Weights, data_set: DataSet) -> DataSet:
    """Return the data set with the classes that a detector knows, and say which these are.

    Raises:
        UserError: it has none of them.
    """
    known, there = source.class_names, data_set.class_names
    if known == there:
        return data_set
    if known == number_classes(len(known)):
        if len(known) == len(there):
            return data_set
        raise UserError(
            f"The weights have {len(known)} classes without names, the data set "
            f"{len(there)}; say which of its classes they are with --class_names."
        )
    scored = [name for name in known if name in there]
    if not scored:
        raise UserError(
            f"The data set has no class of the weights ({', '.join(known)[:200]}); is --config the "
            "right one?"
        )
    print(
        f"scored on {len(scored)} of the data set's {len(there)} classes: "
        f"{', '.join(scored)[:200]}",
        file=sys.stderr,
    )
    return ChosenClasses(data_set, known)


def _warn_of_other_classes(stored: tuple[str, ...], scored: tuple[str, ...]) -> None:
    # No error: names may be spelled differently, and those of imported weights are a guess.
    if stored == number_classes(len(stored)):
        return  # nobody named them
    # TensorFlow's ImageNet networks have one class more, at the front.
    alike = stored[max(0, len(stored) - len(scored)) :]
    different = [pair for pair in zip(alike, scored, strict=False) if pair[0] != pair[1]]
    if different:
        print(
            f"warning: what the data set calls {different[0][1]!r} the weights call "
            f"{different[0][0]!r} ({len(different)} differ); is --config the right one?",
            file=sys.stderr,
        )


def _print(evaluation: Evaluation, output: Path) -> None:
    result = evaluation.result
    stamp = result["protocol"]
    print(
        f"protocol {stamp['protocol_hash']}: {stamp['data_set']} {stamp['split']} "
        f"({stamp['split_digest']}), {evaluation.conditions()}; "
        f"{result['compilations']} compilation(s)"
    )
    print(evaluation.table())
    print(f"{evaluation.summary()}; see {output / 'report.html'}")


if __name__ == "__main__":
    command.define_config()
    command.define_weights()
    flags.DEFINE_string("split", "", "Split of the config's validation data set.")
    flags.DEFINE_integer("output_stride", 0, "8, 16 or 32; 0 is the weights' own.")
    flags.DEFINE_list("scales", [], "Input scales to average, such as 0.5,0.75,1.0.")
    flags.DEFINE_bool("flip", None, "Average with the mirror image; default: as the page says.")
    flags.DEFINE_list("class_names", [], "What the weights' classes are, where they do not say.")
    flags.DEFINE_string("output", "", "Folder for the results; default runs/eval.")
    command.run(main)
