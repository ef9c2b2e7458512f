"""Train a network, from the start or from where its workdir stands.

  python -m deeplab_mnv2.train                                       (shapes, minutes on a CPU)
  python -m deeplab_mnv2.train --config experiments/voc_os16.py:VOC2012 --workdir runs/voc_os16

Leaves config.json, metrics.jsonl, checkpoints/, events/, eval.json and report.html in the workdir.
"""

from pathlib import Path
from typing import Any

import jax
from absl import flags
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import Config, Source, to_dict
from deeplab_mnv2.data.pipeline import training_batches
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.split import quick_check
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.report.run_page import write_report
from deeplab_mnv2.sharding import first_process_first, make_mesh, require_divisible, state_sharding
from deeplab_mnv2.tasks.task import Evaluation
from deeplab_mnv2.tasks.task_of import task_of
from deeplab_mnv2.training.checkpoint import Checkpoints, abstract
from deeplab_mnv2.training.log import Log, read_metrics
from deeplab_mnv2.training.loop import Loop
from deeplab_mnv2.training.optimizer import make_optimizer
from deeplab_mnv2.training.signals import Interrupt
from deeplab_mnv2.training.state import create_state, make_train_step
from deeplab_mnv2.training.workdir import open_workdir, write_settings

_CALIBRATION_BATCHES, _CALIBRATION_IMAGES = 8, 4


def train(config: Config, workdir: str | Path) -> dict[str, Any]:
    """Train as `config` says and return the final scores, the content of `eval.json`.

    Resumes by itself where the workdir holds a run with the same settings.

    Raises:
        UserError: a setting, a file or the workdir is at fault.
        Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    return _train(config, Path(workdir)).result


def _train(config: Config, workdir: Path) -> Evaluation:
    config.check()
    task = task_of(config)
    mesh = make_mesh(config.train)
    require_divisible(config.train, mesh)
    source = first_process_first(config.data.train.open)
    messages = open_workdir(workdir, config)
    total_steps = config.train.total_steps

    # Compiled as one program: one by one, the initial values of all layers take seconds.
    model = nnx.jit(lambda: task.network(nnx.Rngs(config.train.seed)))()
    evaluator = task.evaluator(model, mesh)
    with Interrupt() as interrupt, Checkpoints(workdir, task.score) as checkpoints:
        if not checkpoints.steps:
            messages += _look_at_data(config)
            if config.train.init_weights:
                messages += _initialize(model, config, source)
        optimizer = make_optimizer(config.optimizer, total_steps, nnx.state(model, nnx.Param))
        graphdef, state = create_state(model, optimizer, config.train)
        sharding = state_sharding(state, mesh)
        if checkpoints.steps:
            state, damage = checkpoints.restore_newest(abstract(state, sharding))
            messages += [*damage, f"going on from step {int(state.step)} in {workdir}"]
            if int(state.step) > total_steps:
                raise UserError(
                    f"{workdir} is at step {int(state.step)} already, beyond train.total_steps="
                    f"{total_steps}; raise that, or choose another --workdir."
                )
        else:
            state = jax.device_put(state, sharding)
        # Not before: settings that name a missing file must not bind the workdir to them.
        write_settings(workdir, config)
        train_step = make_train_step(graphdef, optimizer, task, config.train, mesh, state)
        with Log(
            workdir,
            first_step=int(state.step),
            total_steps=total_steps,
            active=jax.process_index() == 0,
            wandb_project=config.train.wandb_project,
            settings=to_dict(config),
        ) as log:
            for message in messages:
                log.say(message)
            loop = Loop(config, task, workdir, mesh, source, checkpoints, evaluator, interrupt, log)
            evaluation = loop.run(state, train_step)
    if jax.process_index() == 0:
        evaluation.write(workdir)
        write_report(
            evaluation,
            workdir / "report.html",
            title=f"{workdir.name}: step {total_steps}",
            history=read_metrics(workdir / "metrics.jsonl"),
        )
    return evaluation


def _look_at_data(config: Config) -> list[str]:
    """Return warnings about a sample of both data sets; `doctor` looks at all of it."""
    warnings = []
    for data_set in (config.data.train, config.data.val):
        try:
            warnings += quick_check(data_set, threads=config.data.threads)
        except UserError:
            # Skipping damaged examples was asked for; scoring has to do without damage.
            if config.data.damaged == "stop" or data_set is config.data.val:
                raise
    return [f"warning: {warning}" for warning in warnings]


def _initialize(model: DeepLab, config: Config, source: Source) -> list[str]:
    """Load the initial weights into the parts asked for; return what to tell the user."""
    found = weights.read(config.train.init_weights)
    messages = weights.fill(model, found, config.train.init_parts)
    if found.provenance.get("norm") == "folded":
        # The file's norm is folded into its kernels. Training normalises by the batch, so it
        # needs statistics that belong to the network: measured here, the function unchanged.
        batches = training_batches(
            source,
            config.data,
            task_of(config).augment,
            num_classes=config.model.num_classes,
            batch_size=_CALIBRATION_IMAGES,
            seed=config.train.seed,
        )
        images = (model.normalize(next(batches)["image"]) for _ in range(_CALIBRATION_BATCHES))
        # A head that starts at random learns from the batches' own.
        weights.calibrate(model, images, parts=config.train.init_parts)
        messages.append("norm statistics measured on training images: the weights hold none")
    return messages


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    config = given.config
    if given.weights:
        config.train.init_weights = given.weights
    workdir = Path(given.workdir or Path("runs", command.experiment_name()))
    evaluation = _train(config, workdir)
    print(f"{evaluation.summary()}; see {workdir / 'report.html'}")


if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_string("workdir", "", "Where the run lies; default runs/EXPERIMENT.")
    flags.DEFINE_string("weights", "", "Initial weights, instead of the config's.")
    command.run(main, default_config=command.QUICKSTART)
