"""Where compiled programs are kept, so that the second start of a command compiles nothing."""

import os
import tempfile
from pathlib import Path

import jax


def keep_compiled_programs() -> None:
    """Have JAX keep compiled programs in the user's cache folder.

    That is `deeplab_mnv2` in `XDG_CACHE_HOME` or in `~/.cache`. `JAX_COMPILATION_CACHE_DIR`, which
    JAX reads itself, comes first. Without a home, or where the folder cannot be written, nothing
    is kept: a folder that others can foresee would let them choose what runs here.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = _folder()
    if folder is not None and _is_writable(folder):
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _folder() -> Path | None:
    """Return the folder of this package's cache, None where there is no home."""
    # Relative and empty values do not count (XDG Base Directory Specification).
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        # Left as it is where neither HOME nor the password file tells the home; "/" for an empty
        # HOME, which tells nothing either.
        cache = os.path.expanduser("~/.cache") if os.environ.get("HOME") != "" else ""
    return Path(cache, "deeplab_mnv2") if os.path.isabs(cache) else None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
