"""Files read with care, and written whole or not at all."""

import hashlib
import importlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from deeplab_mnv2.errors import UserError

# The largest network here has about 20 MB. A file far beyond that is another network, and reading
# it would only fill the memory.
LARGEST_BYTES = 2**30


def open_checked(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file that exists and is not too large.

    Raises:
        UserError: it is missing, unreadable or larger than `LARGEST_BYTES`.
    """
    try:
        size = os.path.getsize(path)
        if size > LARGEST_BYTES:
            raise UserError(
                f"{path} has {size / 2**30:.1f} GiB, which no network of this family has; "
                "check the path."
            )
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path.") from error


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the float tensors of a safetensors file as stored, and its metadata.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    # TypeError: NumPy lacks the type, for example bfloat16.
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or not a safetensors file ({reason(error)}); fetch it again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UserError: the file is unreadable or contains something else.
    """
    open_checked(path)
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({reason(error)}).") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object.")
    return value


def optional_module(name: str, extra: str) -> Any:
    """Import a package of an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"This needs the package {name}, which is not installed; "
            f"install it with pip install 'deeplab_mnv2[{extra}]'."
        ) from error


def reason(error: BaseException) -> str:
    """Return the first sentence of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")[:200]


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a path to write to; its file then replaces `path`, unless an error occurs.

    Raises:
        UserError: it cannot be written.
    """
    # A name of its own for each that writes, and short, whatever the file is called.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); free space there, correct "
            "its permissions or choose another place."
        ) from error
    finally:
        if os.path.isfile(temporary):
            temporary.unlink()


@contextmanager
def replace_together(*paths: Path) -> Iterator[list[Path]]:
    """Yield a path to write to for each file: none is replaced before all are written.

    Raises:
        UserError: one cannot be written.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(replace_atomically(path)) for path in paths]
