"""Commands in processes of their own, for tests that kill them or start several."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

# Long enough to be killed at many places.
_EXPERIMENT = """\
from pathlib import Path

from tests.support.tiny_runs import TASKS


def get_config():
    config = TASKS["{task}"](
        Path(__file__).parent, total_steps=20, eval_every=20, checkpoint_every=4, ema_decay=0.9
    )
    # Some of these runs are scored many times over, and nobody looks at their pictures.
    config.evaluation.pictures, config.evaluation.bootstrap_samples = 0, 20
    return config
"""


def start(
    folder: Path,
    command: str,
    *arguments: str,
    task: str = "segmentation",
    devices: int = 1,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen:
    """Start a command on twenty tiny steps of a task; `folder` holds what runs share."""
    experiment = folder / f"{task}.py"
    if not experiment.exists():
        experiment.write_text(_EXPERIMENT.format(task=task))
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


def train(folder: Path, workdir: Path, task: str = "segmentation") -> subprocess.Popen:
    """Start a training in one process on one device."""
    return start(folder, "train", f"--workdir={workdir}", task=task)


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
