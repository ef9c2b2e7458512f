"""A run of very many tiny steps, with evaluations and saves: nothing grows without end."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import runs


@pytest.mark.parametrize("steps", [360, pytest.param(20_000, marks=pytest.mark.slow)])
def test_memory_and_open_files_level_off(tmp_path, steps):
    process = runs.start(
        tmp_path,
        "train",
        f"--workdir={tmp_path / 'run'}",
        "--config.data.crop_size=33",
        "--config.train.batch_size=2",
        f"--config.train.total_steps={steps}",
        f"--config.train.log_every={steps // 36}",
        f"--config.train.eval_every={steps // 18}",
        f"--config.train.checkpoint_every={steps // 36}",
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    seen, memory, files = 0, [], []
    while process.poll() is None:
        lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        if lines > seen:
            seen = lines
            memory.append(resident(process.pid))
            files.append(len(os.listdir(f"/proc/{process.pid}/fd")))
        time.sleep(0.02)
    runs.finish(process)
    third = len(memory) // 3
    assert third > 10
    # The first third holds what is compiled and allocated once.
    second, last = np.median(memory[third : 2 * third]), np.median(memory[2 * third :])
    print(f"resident {second / 2**20:.0f} MiB, then {last / 2**20:.0f} MiB; files {max(files)}")
    assert last < 1.03 * second
    assert max(files[2 * third :]) <= max(files[third : 2 * third]) + 2


def resident(process: int) -> int:
    """Return the bytes of memory that a process holds, 0 where it has just ended."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
