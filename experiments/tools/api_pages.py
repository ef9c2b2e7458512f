"""The API as pages, built from the docstrings.

    pip install -e ".[docs]"
    python -m experiments.tools.api_pages --output build/api

Then open build/api/index.html.
"""

import importlib
import pkgutil
from pathlib import Path

import pdoc
from absl import flags

import deeplab_mnv2
from deeplab_mnv2.cli import command


def main() -> None:
    """Write a page for each module."""
    for name in deeplab_mnv2.__all__:
        # pdoc sees what is there, not what would be imported when it is asked for.
        setattr(deeplab_mnv2, name, getattr(deeplab_mnv2, name))
    found = pkgutil.walk_packages(deeplab_mnv2.__path__, f"{deeplab_mnv2.__name__}.")
    names = [module.name for module in found if not _is_found_anyway(module.name)]
    pdoc.render.configure(docformat="google", show_source=False)
    output = Path(flags.FLAGS.output)
    pdoc.pdoc(deeplab_mnv2.__name__, *names, output_directory=output)
    print(f"See {output / 'index.html'}")


def _is_found_anyway(module: str) -> bool:
    """Return whether pdoc finds a module by its package: all, or those in `__all__`."""
    package, _, name = module.rpartition(".")
    return name in getattr(importlib.import_module(package), "__all__", [name])


if __name__ == "__main__":
    flags.DEFINE_string("output", "build/api", "Folder of the pages.")
    command.run(main)
