"""Compiled programs are kept between the starts of a command."""

import os
from pathlib import Path

import jax


def keep_compiled_programs() -> None:
    """Keep compiled programs in `~/.cache/deeplab_mnv2`, or in `JAX_COMPILATION_CACHE_DIR`."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(cache / "deeplab_mnv2"))
