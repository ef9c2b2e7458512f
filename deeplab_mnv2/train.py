"""Train a network, from the start or from where its workdir stands.

  python -m deeplab_mnv2.train                                       (shapes, minutes on a CPU)
  python -m deeplab_mnv2.train --config experiments/voc_os16.py:VOC2012 --workdir runs/voc_os16

Leaves config.json, metrics.jsonl, checkpoints/, events/, eval.json and report.html in the workdir.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from flax import nnx

from deeplab_mnv2 import cli, weights
from deeplab_mnv2.config import Config, Source, validate
from deeplab_mnv2.data.pipeline import training_batches
from deeplab_mnv2.evaluation.report import write_report
from deeplab_mnv2.evaluation.result import Evaluator, write
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.training.checkpoint import Checkpoints, abstract, open_workdir
from deeplab_mnv2.training.log import Log, read_metrics
from deeplab_mnv2.training.optimizer import learning_rate, make_optimizer
from deeplab_mnv2.training.sharding import batch_sharding, make_mesh, state_sharding, to_devices
from deeplab_mnv2.training.state import TrainState, create_state, make_train_step

_CALIBRATION_BATCHES, _CALIBRATION_IMAGES = 8, 4


def train(config: Config, workdir: str | Path) -> dict[str, Any]:
    """Train as `config` says and return the final scores, the content of `eval.json`.

    Goes on by itself where the workdir holds a run with the same settings.

    Raises:
        UserError: a setting, a file or the workdir is at fault.
    """
    validate(config)
    workdir = Path(workdir)
    mesh = make_mesh(config.train)
    source = config.data.train.open()
    messages = open_workdir(workdir, config)
    total_steps = config.train.total_steps

    model = DeepLab(config.model, rngs=nnx.Rngs(config.train.seed))
    evaluator = Evaluator(
        model,
        config.data.val,
        config.evaluation,
        threads=config.data.threads,
        batch_sharding=batch_sharding(mesh),
    )
    with Checkpoints(workdir) as checkpoints:
        if config.train.init_weights and not checkpoints.steps:
            messages += _initialize(model, config, source)
        optimizer = make_optimizer(config.optimizer, total_steps, nnx.state(model, nnx.Param))
        graphdef, state = create_state(model, optimizer, config)
        sharding = state_sharding(state, mesh)
        if checkpoints.steps:
            state = checkpoints.restore(abstract(state, sharding))
            messages.append(f"going on from step {int(state.step)} in {workdir}")
        else:
            state = jax.device_put(state, sharding)
        train_step = make_train_step(graphdef, optimizer, config, mesh, state)
        state, evaluation = _loop(
            config, workdir, mesh, source, state, train_step, checkpoints, evaluator, messages
        )
    if jax.process_index() == 0:
        write(evaluation, workdir)
        write_report(
            evaluation,
            workdir / "report.html",
            title=f"{workdir.name}: step {total_steps}",
            history=read_metrics(workdir / "metrics.jsonl"),
        )
    return evaluation.result


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
            config.model,
            batch_size=_CALIBRATION_IMAGES,
            seed=config.train.seed,
        )
        images = (model.normalize(next(batches)["image"]) for _ in range(_CALIBRATION_BATCHES))
        weights.calibrate(model, images)
        messages.append("norm statistics measured on training images: the weights hold none")
    return messages


def _loop(
    config: Config,
    workdir: Path,
    mesh: jax.sharding.Mesh,
    source: Any,
    state: TrainState,
    train_step: Any,
    checkpoints: Checkpoints,
    evaluator: Evaluator,
    messages: list[str],
) -> tuple[TrainState, Any]:
    settings, total_steps = config.train, config.train.total_steps
    schedule = learning_rate(config.optimizer, total_steps)
    place = batch_sharding(mesh)
    first_step = int(state.step)
    batches = training_batches(
        source,
        config.data,
        config.model,
        batch_size=settings.batch_size,
        seed=settings.seed,
        first_step=first_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    evaluation = None
    with Log(
        workdir,
        first_step=first_step,
        total_steps=total_steps,
        active=jax.process_index() == 0,
    ) as log:
        for message in messages:
            log.say(message)
        clock = _Clock(batches)
        for step in range(first_step + 1, total_steps + 1):
            batch = {key: to_devices(value, place) for key, value in next(clock).items()}
            state, values = train_step(state, batch)
            last = step == total_steps
            if step % settings.log_every == 0 or last:
                values = {name: float(value) for name, value in values.items()}
                values["learning_rate"] = float(np.asarray(schedule(step - 1)))
                values |= clock.lap(settings.batch_size, step)
                log.record(step, values)
                log.advance(step, _describe(values))
            scores = None
            if step % settings.eval_every == 0 or last:
                evaluation = evaluator(
                    *state.scored(), pictures=config.evaluation.pictures if last else 0
                )
                scores = evaluation.result
                log.record(step, {"val_miou": scores["miou"]})
                log.say(f"step {step}: val mIoU {100 * (scores['miou'] or 0):.2f} %")
                clock.restart(step)
            if step % settings.checkpoint_every == 0 or last:
                checkpoints.save(step, state, scores)
                clock.restart(step)
        if evaluation is None:
            # The run was already finished: score it again rather than trust what lies there.
            evaluation = evaluator(*state.scored(), pictures=config.evaluation.pictures)
    return state, evaluation


class _Clock:
    """Passes batches through, timing how long the loop waited for them."""

    def __init__(self, batches: Iterator[dict[str, np.ndarray]]):
        self._batches = batches
        self.restart(None)

    def __iter__(self) -> "_Clock":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        began = time.perf_counter()
        batch = next(self._batches)
        self._waited += time.perf_counter() - began
        self._steps += 1
        return batch

    def lap(self, batch_size: int, step: int) -> dict[str, float]:
        """Return images/s and the share of time spent waiting since the last lap."""
        elapsed = time.perf_counter() - self._began
        values = {
            "images_per_second": self._steps * batch_size / elapsed,
            "input_wait": self._waited / elapsed,
        }
        self.restart(step)
        return values

    def restart(self, _: int | None) -> None:
        """Leave evaluation and saving out of the times."""
        self._began = time.perf_counter()
        self._waited = 0.0
        self._steps = 0


def _describe(values: dict[str, float]) -> str:
    return (
        f"loss {values['loss']:.3f}  lr {values['learning_rate']:.2g}  "
        f"{values['images_per_second']:.1f} images/s  waiting {values['input_wait']:.0%}"
    )


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    config = given.config
    if given.weights:
        config.train.init_weights = given.weights
    workdir = Path(given.workdir or Path("runs", cli.experiment_name()))
    result = train(config, workdir)
    low, high = result["ci95"] or (float("nan"),) * 2
    print(
        f"mIoU {100 * (result['miou'] or 0):.2f} % (95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f}) on {result['images']} images; see {workdir / 'report.html'}"
    )


if __name__ == "__main__":
    cli.define_config()
    flags.DEFINE_string("workdir", "", "Where the run lies; default runs/EXPERIMENT.")
    flags.DEFINE_string("weights", "", "Initial weights, instead of the config's.")
    cli.run(main)
