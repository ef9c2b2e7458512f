"""Commands in processes of their own, for tests that kill them or start several."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

_TINY = """\
from deeplab_mnv2 import config as c
from deeplab_mnv2.data.shapes import Shapes


def get_config():
    return c.Config(
        data=c.DataConfig(
            train=Shapes(split="train", length=32, size=49),
            val=Shapes(split="val", length=8, size=49),
            crop_size=49,
        ),
        model=c.ModelConfig(width_multiplier=0.35, head_channels=32),
        optimizer=c.OptimizerConfig(learning_rate=0.01),
        train=c.TrainConfig(
            total_steps=20, batch_size=8, log_every=1, eval_every=20, checkpoint_every=4,
            ema_decay=0.9,
        ),
        evaluation=c.EvaluationConfig(
            batch_size=8, pad_sizes=(49,), bootstrap_samples=20, pictures=0
        ),
    )
"""


def start(
    folder: Path,
    command: str,
    *arguments: str,
    devices: int = 1,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Start a command on a config of twenty tiny steps; `folder` holds what runs share."""
    experiment = folder / "tiny.py"
    if not experiment.exists():
        experiment.write_text(_TINY)
    return subprocess.Popen(
        [sys.executable, "-m", f"deeplab_mnv2.{command}", f"--config={experiment}", *arguments],
        env={
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_PLATFORMS": "cpu",
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(folder: Path, workdir: Path) -> subprocess.Popen:
    """Start a training in one process on one device."""
    return start(folder, "train", f"--workdir={workdir}")


def finish(process: subprocess.Popen) -> str:
    """Return what a process printed, which must have ended well."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def arrays(workdir: Path) -> list[np.ndarray]:
    """Return every array of the newest checkpoint, optimizer and statistics included."""
    with ocp.training.Checkpointer((workdir / "checkpoints").absolute()) as checkpointer:
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            checkpointer.metadata().metadata,
        )
        return jax.tree.leaves(checkpointer.load(None, shapes))
