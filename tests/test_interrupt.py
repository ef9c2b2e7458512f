"""Ctrl-C at any time of a command."""

import subprocess
import sys
import threading

import pytest

from deeplab_mnv2.cli import interrupt


def test_an_interrupted_command_ends_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended, interrupt.quiet():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\nStopped.\n"


def test_an_interrupt_that_a_callback_swallows_comes_again():
    class Swallows:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def run() -> None:
        with interrupt.quiet():
            del (swallows := [Swallows()])[0]
            threading.Event().wait(60)
            raise AssertionError(f"the interrupt was lost: {swallows}")

    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130


def test_importing_the_package_changes_nothing_of_the_process():
    program = (
        "import signal, sys, cv2\n"
        "before = signal.getsignal(signal.SIGINT), cv2.getNumThreads()\n"
        "import deeplab_mnv2\n"
        "assert (signal.getsignal(signal.SIGINT), cv2.getNumThreads()) == before\n"
        "loaded = {'grain', 'tensorflow_datasets'} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
