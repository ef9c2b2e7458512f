"""Train a network, from the start or from where its workdir stands.

  python -m deeplab_mnv2.train                                       (shapes, minutes on a CPU)
  python -m deeplab_mnv2.train --config experiments/voc_os16.py:VOC2012 --workdir runs/voc_os16

Leaves config.json, metrics.jsonl, checkpoints/, eval.json, report.html and figures/ in the workdir.
"""

from pathlib import Path
from typing import Any

import jax
from absl import flags
from flax import nnx

from deeplab_mnv2.cli import command
from deeplab_mnv2.config import ClassifierConfig, Config, SsdLiteConfig, to_dict
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.boxes import quick_box_check
from deeplab_mnv2.inspection.classes import quick_class_check
from deeplab_mnv2.inspection.split import quick_check
from deeplab_mnv2.report.run_page import write_report
from deeplab_mnv2.sharding import first_process_first, make_mesh, require_divisible, state_sharding
from deeplab_mnv2.tasks.task import Evaluation
from deeplab_mnv2.tasks.task_of import task_of
from deeplab_mnv2.training.checkpoint import Checkpoints, abstract
from deeplab_mnv2.training.initial_weights import load_initial_weights
from deeplab_mnv2.training.lock import lock
from deeplab_mnv2.training.log import Log, read_metrics
from deeplab_mnv2.training.loop import Loop, score_curve
from deeplab_mnv2.training.optimizer import make_optimizer
from deeplab_mnv2.training.signals import StopSignal
from deeplab_mnv2.training.state import create_state
from deeplab_mnv2.training.step import make_train_step
from deeplab_mnv2.training.workdir import open_workdir, write_settings


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
    settings = to_dict(config)
    task = task_of(config)
    mesh = make_mesh(config.train)
    require_divisible(config.train, mesh)
    source = first_process_first(config.data.train.open)
    # Compiled as one program: one by one, the initial values of all layers take seconds.
    model = nnx.jit(lambda: task.network(nnx.Rngs(config.train.seed)))()
    evaluator = task.evaluator(model, mesh)
    with lock(workdir) as messages:
        messages += open_workdir(workdir, config)
        with StopSignal() as stop, Checkpoints(workdir, task.score) as checkpoints:
            is_new = not checkpoints.steps
            if is_new:
                messages += _look_at_data(config)
            if is_new and config.train.init_weights:
                messages += load_initial_weights(model, config, task, source)
            optimizer = make_optimizer(
                config.optimizer, config.train.total_steps, nnx.state(model, nnx.Param)
            )
            graphdef, state = create_state(model, optimizer, config.train)
            sharding = state_sharding(state, mesh)
            if is_new:
                state = jax.device_put(state, sharding)
            else:
                state, damage = checkpoints.restore_newest(abstract(state, sharding))
                messages += [*damage, f"resuming at step {int(state.step)} of {workdir}"]
                _require_steps_left(int(state.step), config.train.total_steps, workdir)
            # Not before: settings that name a missing file must not bind the workdir to them.
            write_settings(workdir, config, resumed=not is_new)
            train_step = make_train_step(graphdef, optimizer, task, config.train, mesh, state)
            with Log(
                workdir,
                first_step=int(state.step),
                total_steps=config.train.total_steps,
                active=jax.process_index() == 0,
                wandb_project=config.train.wandb_project,
                settings=settings,
                score=score_curve(task),
            ) as log:
                for message in messages:
                    log.say(message)
                loop = Loop(config, task, workdir, mesh, source, checkpoints, evaluator, stop, log)
                evaluation = loop.run(state, train_step)
        if jax.process_index() == 0:
            evaluation.write(workdir)
            write_report(
                evaluation,
                workdir / "report.html",
                title=f"{workdir.name}: step {config.train.total_steps}",
                history=read_metrics(workdir / "metrics.jsonl"),
            )
    return evaluation


def _require_steps_left(step: int, total_steps: int, workdir: Path) -> None:
    if step > total_steps:
        raise UserError(
            f"{workdir} is at step {step} already, beyond train.total_steps={total_steps}; raise "
            "that, or choose another --workdir."
        )


def _look_at_data(config: Config) -> list[str]:
    """Return warnings about a sample of both data sets; `doctor` looks at all of it."""
    warnings = []
    check = {ClassifierConfig: quick_class_check, SsdLiteConfig: quick_box_check}.get(
        type(config.model), quick_check
    )
    for data_set in (config.data.train, config.data.val):
        try:
            warnings += check(data_set, threads=config.data.threads)
        except UserError:
            # Skipping damaged examples was asked for; scoring has to do without damage.
            if config.data.damaged == "stop" or data_set is config.data.val:
                raise
    return [f"warning: {warning}" for warning in warnings]


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    config = given.config
    if given.weights:
        config.train.init_weights = given.weights
    workdir = Path(given.workdir or Path("runs", command.experiment_name()))
    evaluation = _train(config, workdir)
    if jax.process_index() == 0:
        print(evaluation.table())
        print(f"{evaluation.summary()}; see {workdir / 'report.html'}")


if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_string("workdir", "", "Folder of the run; default runs/EXPERIMENT.")
    flags.DEFINE_string("weights", "", "Initial weights, instead of the config's.")
    command.run(main, default_config=command.QUICKSTART)
