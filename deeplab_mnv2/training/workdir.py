"""The folder of a run, and the settings it belongs to; `weights.run` reads its network."""

import json
import os
from pathlib import Path
from typing import Any

import jax

from deeplab_mnv2.config import Config, to_dict
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically

_UNKNOWN = object()
# Settings that may change when a run is resumed, besides `evaluation` and the place of the data:
# they do not alter what is learned, except total_steps, which bends the schedule from there on and
# is announced. The initial weights are read where there is no checkpoint yet.
_MAY_CHANGE = {
    "train.total_steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.checkpoint_every_seconds",
    "train.nonfinite",
    "train.init_weights",
    "train.init_parts",
    "train.wandb_project",
    "train.fsdp",
    "train.space",
    "model.remat",
    "data.damaged",
    "data.threads",
    "data.workers",
}


def open_workdir(workdir: Path, config: Config) -> list[str]:
    """Check that the workdir is free or belongs to this run; return what to tell the user.

    Nothing is written into it yet, see `write_settings`.

    Raises:
        UserError: it holds a run with other settings or other data.
    """
    path = workdir / "config.json"
    if not path.exists():
        return []
    messages = []
    before, now = flat_settings(_read(path)), flat_settings(_settings(config))
    for name in sorted(before.keys() | now.keys()):
        settings = _value(name, before), _value(name, now)
        # A setting that only one of them knows came or went with a version of this package.
        if _UNKNOWN in settings:
            continue
        old, new = settings
        # By their text as well: a number that is none (NaN) does not equal itself.
        if old == new or repr(old) == repr(new):
            continue
        may_change = name in _MAY_CHANGE or name.startswith("evaluation.")
        if not may_change and not _has_moved(name, old, now):
            raise UserError(
                f"{workdir} holds a run with {name}={old!r}, but this one has {new!r}; "
                "choose another --workdir or the same setting."
            )
        messages.append(f"{name} was {old!r} and is {new!r} now")
    return messages


def write_settings(workdir: Path, config: Config, *, resumed: bool = False) -> None:
    """Write `config.json`, by which the workdir belongs to this run from now on.

    Where it is `resumed`, the initial weights stay written there that it really started from.
    """
    if jax.process_index() > 0:
        return
    path = workdir / "config.json"
    settings = _settings(config)
    if resumed and path.exists():
        first = flat_settings(_read(path))
        for name in ("init_weights", "init_parts"):
            settings["train"][name] = first.get(f"train.{name}", settings["train"][name])
    with replace_atomically(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def _settings(config: Config) -> dict[str, Any]:
    return {
        **to_dict(config),
        # For whoever uses the weights later.
        "class_names": list(config.data.train.class_names),
        # The data may move, but these may not change.
        "examples": config.data.train.digest(),
        "val_examples": config.data.val.digest(),
    }


def _value(name: str, settings: dict[str, Any]) -> Any:
    """Return a setting of `flat_settings`, of an object its type and of a list of them its length.

    So "no policy" differs from one, which has no setting of that very name.
    """
    names = name, f"{name}.type", f"{name}.length"
    return next((settings[each] for each in names if each in settings), _UNKNOWN)


def _has_moved(name: str, before: Any, now: dict[str, Any]) -> bool:
    """Return whether a changed setting is another place of the same data set.

    Such is a path, whatever the data set calls it; that the examples are the same, their digests
    tell. Not so the name of a folder inside the data set: labels of the same names, but other
    ones, may be there.
    """
    if not name.startswith(("data.train.", "data.val.")):
        return False
    after, old = _texts(now.get(name)), _texts(before)
    group = name.rpartition(".")[0]
    others = [
        text
        for sibling, value in now.items()
        if sibling.rpartition(".")[0] == group and sibling != name
        for text in _texts(value)
    ]
    is_inside = any(
        text and other and not os.path.isabs(text) and Path(other, text).expanduser().exists()
        for text in (*old, *after)
        for other in others
    )
    return bool(old and after) and all(map(_is_path, after)) and not is_inside


def _texts(value: Any) -> list[str]:
    """Return a text, or the texts of a list, as a list; [] where it is something else."""
    values = value if isinstance(value, list) else [value]
    return values if all(isinstance(item, str) for item in values) else []


def _is_path(text: str) -> bool:
    """Return whether something is at a path; "" is the working folder or a default place."""
    return not text or "://" in text or os.path.exists(os.path.expanduser(text))


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); choose another --workdir.") from error
    return value


def flat_settings(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return settings by dotted name; those in lists have their position as name."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = {"length": len(value), **{str(index): item for index, item in enumerate(value)}}
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flat_settings(item, f"{prefix}.{key}" if prefix else key)
    return flat
