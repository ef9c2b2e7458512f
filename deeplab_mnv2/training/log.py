"""Progress on the terminal, `metrics.jsonl`, TensorBoard events and, if asked for, W&B."""

import contextlib
import importlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.training.workdir import flat_settings

# Seconds between lines on progress where there is no bar.
_PRINT_EVERY = 60.0


class Log:
    """Writes each record to all of them; a context manager.

    `metrics.jsonl` has one JSON object a line with `step`. A resumed run drops the lines after
    the step it resumes from, so that each step stands there once. `wandb_project` sends records
    and images to Weights & Biases too. `settings`, the run's config, stand there and in
    TensorBoard's table of runs, beside the curve called `score`.

    Raises:
        UserError: Weights & Biases is asked for, but is not installed or refuses.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        first_step: int,
        total_steps: int,
        active: bool = True,
        wandb_project: str = "",
        settings: dict[str, Any] | None = None,
        score: str = "",
    ):
        self._active = active
        self._wandb = None
        if active and wandb_project:
            self._wandb = _start_wandb(wandb_project, workdir, settings)
        self._console = Console(quiet=not active)
        # A bar redraws its line, which a file or a plain terminal cannot.
        terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._has_bar = active and (terminal or self._console.is_jupyter)
        self._printed_at = float("-inf")
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._has_bar,
        )
        self._total_steps = total_steps
        # The first step compiles the program, while the bar stands still.
        self._description = "training"
        self._task = self._progress.add_task("compiling", total=total_steps, completed=first_step)
        if active:
            # Not at the top: it imports PyTorch where that is installed, which takes seconds.
            from tensorboardX import SummaryWriter  # noqa: PLC0415

            path = workdir / "metrics.jsonl"
            _truncate(path, first_step)
            self._file = path.open("a")
            # In the workdir itself: TensorBoard calls a run by the folder that its events are in.
            self._events = SummaryWriter(str(workdir), purge_step=first_step + 1)
            if settings is not None and not first_step:
                self._events.add_text("config", f"```\n{json.dumps(settings, indent=1)}\n```")
                self._add_settings(settings, score)

    def __enter__(self) -> "Log":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._active:
            # On a full disk, closing fails as the last record did, which is what is reported.
            with contextlib.suppress(OSError):
                self._file.close()
            self._events.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _add_settings(self, settings: dict[str, Any], score: str) -> None:
        """Write the run's row of TensorBoard's table of hyperparameters."""
        from tensorboardX.summary import hparams  # noqa: PLC0415 - as in __init__

        shown = {
            name: value if isinstance(value, str | bool | int | float) else json.dumps(value)
            for name, value in flat_settings(settings).items()
        }
        # Not `add_hparams`, which writes them as another run, in a folder below this one.
        experiment, start, _ = hparams(shown, {score: 0.0})
        writer = self._events.file_writer
        assert writer is not None  # open from the start
        for summary in (experiment, start):
            writer.add_summary(summary)

    def record(self, step: int, values: dict[str, Any]) -> None:
        """Write values of a step to the file, and the numbers to wherever they are drawn."""
        if self._active:
            try:
                print(json.dumps({"step": step, **values}), file=self._file, flush=True)
            except OSError as error:
                raise UserError(
                    f"{self._file.name} cannot be written ({error.strerror}); free space there, "
                    "and the same command resumes from the newest checkpoint."
                ) from error
            self.draw(step, {n: v for n, v in values.items() if isinstance(v, int | float)})

    def draw(self, step: int, values: dict[str, float]) -> None:
        """Write numbers of a step to wherever they are drawn, not to the file."""
        if self._active:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def show(self, step: int, name: str, image: np.ndarray) -> None:
        """Add an image (H, W, 3) uint8 to wherever there are pictures."""
        if self._active:
            self._events.add_image(name, image, step, dataformats="HWC")
        if self._wandb is not None:
            self._wandb.log({name: importlib.import_module("wandb").Image(image)}, step=step)

    def advance(self, step: int, description: str = "") -> None:
        """Move the progress bar, with a text where one is given.

        Without a bar the text is printed, once a minute and at the last step.
        """
        if description:
            self._description = description
        self._progress.update(self._task, completed=step, description=self._description)
        if self._has_bar or not description:
            return
        if time.monotonic() - self._printed_at >= _PRINT_EVERY or step == self._total_steps:
            self.say(f"step {step} of {self._total_steps}: {description}")
            self._printed_at = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`, without a last line that a kill cut short.

    Raises:
        UserError: another line is no record of numbers with a `step`, or a `warning`.
    """
    if not path.exists():
        return []
    # Bytes: a damaged line may be no text at all.
    *lines, _ = path.read_bytes().split(b"\n")
    return [_record(line, f"line {number} of {path}") for number, line in enumerate(lines, 1)]


def _start_wandb(project: str, workdir: Path, settings: dict[str, Any] | None) -> Any:
    """Return the run of a workdir at Weights & Biases, begun or continued."""
    try:
        wandb = importlib.import_module("wandb")
    except ModuleNotFoundError as error:
        raise UserError(
            "train.wandb_project needs a package that is not installed; install it with "
            "pip install 'deeplab_mnv2[wandb]'."
        ) from error
    try:
        return wandb.init(
            project=project,
            name=workdir.name,
            id=_wandb_id(workdir),
            resume="allow",
            dir=workdir,
            config=settings,
        )
    except wandb.Error as error:
        raise UserError(
            f"Weights & Biases refuses ({str(error).splitlines()[0]}); log in with wandb login, or "
            "leave train.wandb_project empty."
        ) from error


def _wandb_id(workdir: Path) -> str:
    """Return the name of a workdir's run, kept in it: the same however often it is interrupted."""
    path = workdir / "wandb_id"
    if not path.exists():
        with replace_atomically(path) as temporary:
            temporary.write_text(secrets.token_hex(8))
    return path.read_text()


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        numbers = all(
            value is None or isinstance(value, int | float) or name == "warning"
            for name, value in record.items()
        )
        if not numbers or not isinstance(record["step"], int):
            raise ValueError("it is no record of numbers with a step")
    except (ValueError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(f"{where} is damaged ({error}); remove it.") from error
    return record


def _truncate(path: Path, last_step: int) -> None:
    kept = [record for record in read_metrics(path) if record["step"] <= last_step]
    if path.exists():
        with replace_atomically(path) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
