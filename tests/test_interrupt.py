"""Ctrl-C at any time of a command."""

import signal
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


@pytest.mark.parametrize("argv", ["-m", "program"])
def test_only_a_command_changes_what_ctrl_c_does_during_imports(argv):
    program = (
        f"import os, signal, sys; sys.argv[0] = {argv!r}; import deeplab_mnv2.cli.interrupt\n"
        "os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    if argv == "-m":
        assert (done.returncode, done.stderr) == (130, "\nStopped.\n")
    else:
        assert done.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in done.stderr
