"""One training at a time in a workdir."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.training.signals import agree

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def lock(workdir: Path) -> Iterator[list[str]]:
    """Make the workdir and keep other trainings out of it; yield what to tell the user.

    The operating system holds the lock (`flock` on the file `lock`) and frees it however the
    process ends, so that nothing a killed one leaves behind blocks the next. On a file system
    without such locks the file itself is the lock, replaced where its process is known to be gone.
    Of several processes of one run the first takes it for all.

    Raises:
        UserError: another process trains there, or the workdir cannot be written.
    """
    path = workdir / "lock"
    file, messages, refusal = None, [], ""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if jax.process_index() == 0:
            file, messages = _take(path)
    except OSError as error:
        refusal = (
            f"The workdir {workdir} cannot be written ({error.strerror}); choose another "
            "--workdir or correct its permissions."
        )
    except UserError as error:
        refusal = str(error)
    try:
        # One process that ends alone would leave the others waiting for it.
        if any(agree(int(bool(refusal)))):
            raise UserError(refusal or f"Another process of this run is refused {workdir}.")
        yield messages
    finally:
        if file is not None:
            # Removed while it is held: whoever opened it meanwhile sees that it is there no more.
            if _lies_at(path, file):
                path.unlink()
            os.close(file)


def _take(path: Path) -> tuple[int, list[str]]:
    """Return the open file of the lock, taken, and what to tell the user.

    Raises:
        UserError: another process has it.
    """
    while True:
        try:
            file, is_new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            file, is_new = os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False
        owner, locked = _read_owner(file), _flock(file)
        if locked is None and not is_new and _is_gone(owner):
            os.close(file)
            path.unlink(missing_ok=True)
            continue
        if locked is False or (locked is None and not is_new):
            os.close(file)
            # A lock of this machine's system is certain; any other may have been left behind.
            delete = "" if locked is False and _is_here(owner) else f", delete {path} if it is gone"
            raise UserError(
                f"{path.parent} is in use by {_name(owner)}; wait for it, stop it{delete} or "
                "choose another --workdir."
            )
        if _lies_at(path, file):
            break
        os.close(file)  # its owner ended and removed it between our two calls
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(_this_process()).encode(), 0)
    if owner and not _is_here(owner):
        # Some network file systems keep their locks to one machine.
        return file, [
            f"warning: {path} was left behind by {_name(owner)}; make sure that it has ended"
        ]
    return file, []


def _flock(file: int) -> bool | None:
    """Return whether the lock on an open file is ours now; None where there are no such locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _lies_at(path: Path, file: int) -> bool:
    """Return whether an open file is the one at a path; it may have been removed or replaced."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "identity": _identity(os.getpid()),
    }


def _read_owner(file: int) -> dict[str, Any]:
    """Return what `_this_process` wrote; {} where a kill came before it."""
    try:
        owner = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _identity(process: Any) -> str:
    """Return what tells a process from all before and after it; "" where it does not run."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Behind the name, which stands in brackets: when it started, counted from the boot.
        started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
    return f"{boot} {started}"


def _is_here(owner: dict[str, Any]) -> bool:
    return owner.get("host") == socket.gethostname()


def _is_gone(owner: dict[str, Any]) -> bool:
    """Return whether it is certain that a process does not run any more."""
    identity = owner.get("identity")
    return _is_here(owner) and bool(identity) and identity != _identity(owner.get("process"))


def _name(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    return f"process {owner.get('process')} on {owner.get('host')}, started {owner.get('started')}"
