"""The folder of a run, and the settings it belongs to; `weights.run` reads its network."""

import json
from pathlib import Path
from typing import Any

import jax

from deeplab_mnv2.config import Config, to_dict
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically

# Settings that may change when a run goes on, besides `evaluation`: they do not alter what is
# learned, except total_steps, which bends the schedule from there on and is announced. Where the
# data lies may change, the examples may not: `examples` is their digest.
_PLACES = ("root", "data_dir", "manual_dir")
_MAY_CHANGE = {
    "train.total_steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.checkpoint_every_seconds",
    "train.nonfinite",
    "train.wandb_project",
    "train.fsdp",
    "train.space",
    "data.threads",
    "data.workers",
    *(f"data.{part}.{name}" for part in ("train", "val") for name in _PLACES),
}


def open_workdir(workdir: Path, config: Config) -> list[str]:
    """Make the workdir, or check that it belongs to this run; return what to tell the user.

    Nothing is written into it yet, see `write_settings`.

    Raises:
        UserError: it cannot be written, or holds a run with other settings.
    """
    path = workdir / "config.json"
    messages = []
    if path.exists():
        before, now = _flat(_read(path)), _flat(json.loads(_settings(config)))
        # A setting that only one of them knows came or went with a version of this package.
        for name in sorted(before.keys() & now.keys()):
            if before[name] == now[name]:
                continue
            if name not in _MAY_CHANGE and not name.startswith("evaluation."):
                raise UserError(
                    f"{workdir} holds a run with {name}={before[name]!r}, but this one has "
                    f"{now[name]!r}; choose another --workdir or the same setting."
                )
            messages.append(f"{name} was {before[name]!r} and is {now[name]!r} now")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The workdir {workdir} cannot be written ({error.strerror}); choose another "
            "--workdir or mend its permissions."
        ) from error
    return messages


def write_settings(workdir: Path, config: Config) -> None:
    """Write `config.json`, by which the workdir belongs to this run from now on."""
    if jax.process_index() == 0:
        with replace_atomically(workdir / "config.json") as temporary:
            temporary.write_text(_settings(config))


def _settings(config: Config) -> str:
    settings = {
        **to_dict(config),
        # For whoever uses the weights later.
        "class_names": list(config.data.train.class_names),
        "examples": config.data.train.digest(),
    }
    return json.dumps(settings, indent=2) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); choose another --workdir.") from error
    return value


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return flat
