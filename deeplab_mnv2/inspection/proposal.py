"""An experiment page of what was found out about a folder, to read and to correct."""

import dataclasses
from pathlib import Path
from typing import Any

from deeplab_mnv2.config import Config

_PAGE = '''"""The images and labels in a folder, as they were understood: correct what is wrong.

    python -m deeplab_mnv2.train --config {file} --workdir runs/{name}
"""

import voc_small
from deeplab_mnv2.config import Config, EvaluationConfig
from {module} import {kind}


def get_config() -> Config:
    config = voc_small.get_config()
    config.data.train = {train}
    config.data.val = {val}
    config.data.crop_size = {crop_size}
    config.model.num_classes = {num_classes}
{bands}    config.train.init_weights = {init_weights!r}
    config.train.init_parts = {init_parts!r}
    config.train.batch_size = {batch_size}
    config.train.total_steps, config.train.eval_every = {total_steps}, {eval_every}
    config.evaluation = EvaluationConfig()
    return config
'''


def proposed_page(config: Config, path: Path) -> str:
    """Return the page at `path` that gives the config of `folder:PATH`, its data sets written out.

    The settings are those that the page `folder.py` chooses by the data.
    """
    train, kind = config.data.train, type(config.data.train)
    return _PAGE.format(
        file=path.name,
        name=path.stem,
        module=kind.__module__,
        kind=kind.__name__,
        train=_call(train),
        val=_call(config.data.val),
        crop_size=config.data.crop_size,
        num_classes=config.model.num_classes,
        bands=_bands(config),
        init_weights=config.train.init_weights,
        init_parts=config.train.init_parts,
        batch_size=config.train.batch_size,
        total_steps=config.train.total_steps,
        eval_every=config.train.eval_every,
    )


def _bands(config: Config) -> str:
    """Return the lines that make a network for images which are no photographs, if they are not."""
    if not getattr(config.data.train, "bands", 0):
        return ""
    model = config.model
    settings = {
        **{f"model.{n}": getattr(model, n) for n in ("in_channels", "image_mean", "image_std")},
        "model.value_range": getattr(model, "value_range", ()),
        "train.freeze": config.train.freeze,
    }
    return "".join(f"    config.{name} = {value!r}\n" for name, value in settings.items())


def _call(data_set: Any) -> str:
    """Return the Python that makes a data set, a dataclass: a line for each setting of its own."""
    lines = [
        f"        {field.name}={value!r},"
        for field in dataclasses.fields(data_set)
        if (value := getattr(data_set, field.name)) != field.default
    ]
    return "\n".join([f"{type(data_set).__name__}(", *lines, "    )"])
