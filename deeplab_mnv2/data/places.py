"""Where the files of a data set are: paths relative to its root, named in errors when missing."""

import os
from pathlib import Path

from deeplab_mnv2.errors import UserError

# Characters of a path that an error shows.
SHOWN = 200


def place(root: str, name: str, split: str) -> Path:
    """Return a path relative to `root`, in which `{split}` stands for the split."""
    return Path(os.path.expanduser(root)) / name.replace("{split}", split)


def require_folder(path: Path, remedy: str) -> None:
    """Check that a folder is there.

    Raises:
        UserError: it is not; `remedy` ends the sentence.
    """
    if not os.path.isdir(path):
        raise UserError(absent(path, "folder", remedy))


def absent(path: Path, kind: str, remedy: str) -> str:
    """Return a sentence about a file or folder that is not there, or is something else."""
    return f"{str(path)[:SHOWN]} {absence(path, kind)}; {remedy}."


def absence(path: Path | str, kind: str) -> str:
    """Return in which way a file or folder is not there."""
    return f"is no {kind}" if os.path.exists(path) else "does not exist"
