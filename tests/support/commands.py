"""Commands as typed, each in a fork of one process that has imported the package already."""

import multiprocessing
import os
import runpy
import sys
import warnings
from pathlib import Path

_NAMES = ("train", "evaluate", "predict", "export", "compare", "doctor", "costs", "sweep")
# A server of its own, because a process in which JAX runs threads must not fork.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([f"deeplab_mnv2.{name}" for name in _NAMES])


def run(name: str, arguments: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """Return the exit status of a command that is started in `folder`, and what it printed."""
    output = folder / "printed"
    process = _CONTEXT.Process(target=_command, args=(name, arguments, folder, output))
    process.start()
    process.join(timeout=300)
    printed = output.read_text()
    output.unlink()
    assert process.exitcode is not None, f"{name} did not end: {printed}"
    return process.exitcode, printed


def _command(name: str, arguments: tuple[str, ...], folder: Path, output: Path) -> None:
    with output.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = [f"deeplab_mnv2/{name}.py", *arguments]
    os.chdir(folder)
    # `runpy` warns of a module that it runs a second time.
    warnings.simplefilter("ignore")
    runpy.run_module(f"deeplab_mnv2.{name}", run_name="__main__", alter_sys=True)
