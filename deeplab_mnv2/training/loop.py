"""The steps of a run, and what happens between them: logs, evaluations, checkpoints, warnings."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deeplab_mnv2.config import Config, Source
from deeplab_mnv2.data.pipeline import training_batches
from deeplab_mnv2.errors import Stopped
from deeplab_mnv2.evaluation.class_scores import class_scores
from deeplab_mnv2.sharding import batch_sharding, to_devices
from deeplab_mnv2.tasks.task import Evaluation, Evaluator, Task
from deeplab_mnv2.training.checkpoint import Checkpoints
from deeplab_mnv2.training.guards import FiniteGuard, Watch
from deeplab_mnv2.training.log import Log
from deeplab_mnv2.training.optimizer import learning_rate
from deeplab_mnv2.training.signals import StopSignal, agree
from deeplab_mnv2.training.state import TrainState
from deeplab_mnv2.training.step import TrainStep

# More classes are no curves to look at.
_DRAWN_CLASSES = 100
# Pictures of an evaluation on the way, for TensorBoard; the last one has those of the report.
_STRIPS = 3
# What batches hold besides the arrays of the task.
_FOR_THE_HOST = {"name", "damage"}


@dataclasses.dataclass
class Loop:
    """The steps of a run, and what happens between them."""

    config: Config
    task: Task
    workdir: Path
    mesh: jax.sharding.Mesh
    source: Source
    checkpoints: Checkpoints
    evaluator: Evaluator
    stop: StopSignal
    log: Log

    def __post_init__(self) -> None:
        self.schedule = learning_rate(self.config.optimizer, self.config.train.total_steps)
        self.watch = Watch()
        self.guard = FiniteGuard(self.workdir, self.config.train.nonfinite)

    def run(self, state: TrainState, train_step: TrainStep) -> Evaluation:
        """Train to the last step and return its evaluation.

        Raises:
            Stopped: a signal came; the state is saved.
            UserError: the loss is not finite, an example is damaged or the disk is full.
        """
        settings, total_steps = self.config.train, self.config.train.total_steps
        first_step = int(state.step)
        evaluation = self._make_up_evaluation(first_step, state)
        clock = _Clock(self._batches(first_step))
        for step in range(first_step + 1, total_steps + 1):
            batch = next(clock)
            state, values = train_step(state, self._on_devices(batch))
            self._warn(step, self.guard(step, values.pop("finite"), batch))
            self._warn(step, self.watch.damage(batch["damage"]))
            self.log.advance(step)
            logs = self._is_due(step, settings.log_every)
            if logs:
                self._log(step, values, clock)
            signal, save_by_clock = self._agree(logs)
            evaluation = None
            if self._is_due(step, settings.eval_every) and not signal:
                evaluation = self._evaluate(step, state)
                if evaluation is None:
                    signal = self.stop.signal
                clock.restart()
            if save_by_clock or signal or self._is_due(step, settings.checkpoint_every):
                # A checkpoint follows only sound steps.
                self._warn(step, self.guard.finish())
                scores = evaluation.result if evaluation is not None else None
                self.checkpoints.save(step, state, scores)
                clock.restart()
            if signal:
                self.checkpoints.wait()
                raise Stopped(
                    f"Stopped and saved at step {step} of {total_steps}; "
                    "the same command resumes it.",
                    signal,
                )
        self._warn(total_steps, self.guard.finish())
        if evaluation is None:
            # The run was already finished: score it again rather than trust what is there.
            evaluation = self._score(state, last=True)
        if evaluation is None:
            raise Stopped("Stopped; the run is finished and saved.", self.stop.signal)
        return evaluation

    def _batches(self, first_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Return this process's part of each batch after a step."""
        return training_batches(
            self.source,
            self.config.data,
            self.task.augment,
            num_classes=self.config.model.num_classes,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            first_step=first_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _on_devices(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        place = batch_sharding(self.mesh)
        return {key: to_devices(batch[key], place) for key in batch.keys() - _FOR_THE_HOST}

    def _is_due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.config.train.total_steps

    def _make_up_evaluation(self, step: int, state: TrainState) -> Evaluation | None:
        """Evaluate the step that a run resumes at, if a signal came before that was done."""
        is_due = self._is_due(step, self.config.train.eval_every)
        if step == 0 or not is_due or self.checkpoints.has_score(step):
            return None
        evaluation = self._evaluate(step, state)
        if evaluation is None:
            raise Stopped(f"Stopped at step {step}; the same command resumes it.", self.stop.signal)
        self.checkpoints.save(step, state, evaluation.result)
        return evaluation

    def _agree(self, logs: bool) -> tuple[int, int]:
        """Return (signal or 0, whether a save is due), the same in every process.

        Several processes ask each other only where they log: asking stalls the devices.
        """
        seconds = self.config.train.checkpoint_every_seconds
        due = bool(seconds) and self.checkpoints.seconds_since_save > seconds
        if jax.process_count() > 1 and not logs:
            return 0, 0
        stopped, due = agree(self.stop.signal, due)
        return stopped, due

    def _log(self, step: int, values: dict[str, Any], clock: "_Clock") -> None:
        values = {name: float(value) for name, value in values.items()}
        values["learning_rate"] = float(np.asarray(self.schedule(step - 1)))
        values |= clock.lap(self.config.train.batch_size)
        self.log.record(step, values)
        self.log.advance(step, _describe(values))
        self._warn(step, self.watch.lap(values))

    def _score(self, state: TrainState, last: bool) -> Evaluation | None:
        """Return the scores of a state, or None where a signal cut the evaluation short."""

        def check(_: int) -> None:
            # One process only: several would have to agree in the middle of it.
            if self.stop.signal and jax.process_count() == 1:
                raise Stopped("", self.stop.signal)

        pictures = self.config.evaluation.pictures
        try:
            return self.evaluator(
                *state.scored(),
                pictures=pictures if last else min(pictures, _STRIPS),
                progress=check,
            )
        except Stopped:
            return None

    def _evaluate(self, step: int, state: TrainState) -> Evaluation | None:
        """Score the state of a step and report it; None where a signal cut that short."""
        evaluation = self._score(state, step == self.config.train.total_steps)
        if evaluation is None:
            return None
        self.log.record(step, {score_curve(self.task): evaluation.result[self.task.score]})
        self.log.draw(step, _of_classes(evaluation.result))
        self.log.say(f"step {step}: val {evaluation.summary()}")
        for name, picture in evaluation.shown().items():
            self.log.show(step, f"val/{name}", picture)
        self._warn(step, self.watch.scores(evaluation.warnings()))
        return evaluation

    def _warn(self, step: int, warnings: list[str]) -> None:
        for warning in warnings:
            self.log.say(f"warning: {warning}")
            self.log.record(step, {"warning": warning})


def score_curve(task: Task) -> str:
    """Return what the curve of a task's score is called."""
    return f"val_{task.score}"


def _of_classes(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the score of each class by the name of its curve; of many classes, none."""
    scores = class_scores(result)
    if len(scores) > _DRAWN_CLASSES:
        return {}
    found = {name: next(iter(row.items())) for name, row in scores.items()}
    return {f"val_{key}/{name}": v for name, (key, v) in found.items() if v is not None}


class _Clock:
    """Passes batches through, timing how long the loop waited for them."""

    def __init__(self, batches: Iterator[dict[str, np.ndarray]]):
        self._batches = batches
        self.restart()

    def __iter__(self) -> "_Clock":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        began = time.perf_counter()
        batch = next(self._batches)
        self._waited += time.perf_counter() - began
        self._steps += 1
        return batch

    def lap(self, batch_size: int) -> dict[str, float]:
        """Return images/s and the share of time spent waiting since the last lap."""
        elapsed = time.perf_counter() - self._began
        values = {
            "images_per_second": self._steps * batch_size / elapsed,
            "input_wait": self._waited / elapsed,
        }
        self.restart()
        return values

    def restart(self) -> None:
        """Leave evaluation and saving out of the times."""
        self._began = time.perf_counter()
        self._waited = 0.0
        self._steps = 0


def _describe(values: dict[str, float]) -> str:
    return (
        f"loss {values['loss']:.3f}  lr {values['learning_rate']:.2g}  "
        f"{values['images_per_second']:.1f} images/s  waiting {values['input_wait']:.0%}"
    )
