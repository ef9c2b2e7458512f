"""All commands by one name, and the package's names without what is behind them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_it_lists_the_commands(arguments):
    done = run("-m", "deeplab_mnv2", *arguments)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == [
        "compare",
        "costs",
        "demo",
        "doctor",
        "evaluate",
        "export",
        "predict",
        "publish",
        "sweep",
        "train",
    ]
    assert "  train     Train a network" in done.stdout


def test_it_runs_a_command_as_its_module_does():
    done, module = (
        run("-m", "deeplab_mnv2", "costs", "--nothing"),
        run("-m", "deeplab_mnv2.costs", "--nothing"),
    )
    assert done.returncode == module.returncode == 2
    assert done.stderr == module.stderr == "error: There is no flag --nothing.\n"


def test_an_unknown_command_is_told_with_a_near_one():
    done = run("-m", "deeplab_mnv2", "trian")
    assert done.returncode == 2
    assert done.stderr == "error: There is no command 'trian'; did you mean train?\n"


def test_the_package_imports_what_is_asked_for():
    """Listing commands must not wait for JAX."""
    code = "import sys, deeplab_mnv2; print('jax' in sys.modules, deeplab_mnv2.Segmenter.__name__)"
    assert run("-c", code).stdout == "False Segmenter\n"


def test_training_starts_without_the_packages_that_only_some_runs_need():
    """TensorBoard's writer imports PyTorch where that is installed, which takes seconds."""
    code = (
        "import sys, deeplab_mnv2.train\n"
        "print({'tensorboardX', 'torch', 'transformers', 'matplotlib'} & sys.modules.keys())"
    )
    assert run("-c", code).stdout == "set()\n"
