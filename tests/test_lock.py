"""Two trainings in one workdir, and what the first leaves behind."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.training import lock as module
from deeplab_mnv2.training.lock import lock
from deeplab_mnv2.training.workdir import open_workdir

_HOLD = """
import sys, time
from pathlib import Path
from deeplab_mnv2.training.lock import lock
with lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / "run"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def take(workdir):
    """Take and release a lock; return what it says."""
    with lock(workdir) as messages:
        return list(messages)


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without locks, as some network ones are."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", flock)


def test_the_second_training_is_told_who_the_first_is(holder, tmp_path):
    owner = f"process {holder.pid} on {socket.gethostname()}, started 2"
    with pytest.raises(UserError, match=owner) as refused:
        take(tmp_path / "run")
    assert "--workdir" in str(refused.value)
    assert "delete" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "run" / "lock").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_process_that_ended_blocks_nobody(holder, tmp_path, number):
    holder.send_signal(number)
    holder.wait()
    assert take(tmp_path / "run") == []


def test_a_killed_one_blocks_nobody_where_the_file_is_the_lock(no_flock, holder, tmp_path):
    # The other process has a real lock, which this one cannot see: only its file.
    with pytest.raises(UserError, match=f"in use by process {holder.pid}"):
        take(tmp_path / "run")
    holder.kill()
    holder.wait()
    assert take(tmp_path / "run") == []


@pytest.mark.parametrize("error", [None, UserError("a mistake."), KeyboardInterrupt()], ids=repr)
def test_nothing_is_left_at_the_end(tmp_path, error):
    try:
        with lock(tmp_path / "run"):
            assert json.loads((tmp_path / "run" / "lock").read_text())["process"] == os.getpid()
            if error is not None:
                raise error
    except (UserError, KeyboardInterrupt):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_two_threads_of_one_process_are_two_trainings(tmp_path):
    refused = []

    def second():
        with pytest.raises(UserError, match=f"process {os.getpid()}") as caught:
            take(tmp_path)
        refused.append(str(caught.value))

    with lock(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1


def owner(**changes):
    this = {"process": os.getpid(), "host": socket.gethostname(), "started": "then"}
    return json.dumps({**this, "identity": module._identity(os.getpid()), **changes})


@pytest.mark.skipif(not module._identity(os.getpid()), reason="this system has no /proc")
@pytest.mark.parametrize("change", ["process", "start", "boot"])
def test_where_the_file_is_the_lock_a_process_is_known_by_its_boot_and_start(
    no_flock, tmp_path, change
):
    boot, start = module._identity(os.getpid()).split()
    left = {
        "process": owner(process=2**22 + 1),  # beyond the largest number of a process
        "start": owner(identity=f"{boot} {int(start) - 1}"),
        "boot": owner(identity=f"another {start}"),
    }
    (tmp_path / "lock").write_text(left[change])
    assert take(tmp_path) == []


@pytest.mark.parametrize("left", [{"host": "elsewhere"}, {"identity": ""}, "", "{", "[]"], ids=str)
def test_where_the_file_is_the_lock_a_doubtful_one_is_the_users_to_delete(no_flock, tmp_path, left):
    (tmp_path / "lock").write_text(owner(**left) if isinstance(left, dict) else left)
    with pytest.raises(UserError, match=f"in use by .*, delete {tmp_path}/lock if it is gone"):
        take(tmp_path)
    (tmp_path / "lock").unlink()
    assert take(tmp_path) == []


def test_a_free_lock_of_another_machine_is_taken_with_a_warning(tmp_path):
    (tmp_path / "lock").write_text(owner(host="elsewhere"))
    (message,) = take(tmp_path)
    assert message.startswith("warning:")
    assert "on elsewhere" in message


@pytest.mark.parametrize("left", ["", "{", "[]", "\0" * 9])
def test_a_damaged_file_is_no_lock(tmp_path, left):
    (tmp_path / "lock").write_text(left)
    assert take(tmp_path) == []


def test_a_lock_is_no_run(config, tmp_path):
    with lock(tmp_path):
        assert open_workdir(tmp_path, config) == []


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"The workdir .*file/run cannot be written"):
        take(tmp_path / "file" / "run")
    (tmp_path / "lock").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        take(tmp_path)
