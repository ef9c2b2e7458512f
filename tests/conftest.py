"""Eight fake devices, quick compilation, tiny configurations for the tests."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# In the environment, for the commands that tests start and for xdist's workers too: compiling is
# most of what they do, and again and again the same small programs.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
if "PYTEST_XDIST_WORKER" not in os.environ:
    # Gone when pytest ends.
    _COMPILED = tempfile.TemporaryDirectory(prefix="deeplab_mnv2_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    # With a limit, JAX locks the folder, so that nobody reads what is half written.
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(8 << 30)

import jax
import numpy as np
import pytest
from PIL import Image

jax.config.update("jax_num_cpu_devices", 8)
# What would promote a rank in silence raises.
jax.config.update("jax_numpy_rank_promotion", "raise")

from deeplab_mnv2.config import Config  # noqa: E402 - jax must be configured before
from deeplab_mnv2.data.palette import voc_palette  # noqa: E402
from deeplab_mnv2.models import mobilenet_v2  # noqa: E402
from deeplab_mnv2.weights.model_weights import _abstract_state  # noqa: E402
from tests.support import commands  # noqa: E402
from tests.support.tiny_runs import segmentation  # noqa: E402

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--one-case",
        action="store_true",
        help="Of each parametrised test the first case alone: half of the time, all of the code.",
    )


# Last, so that the slow cases are gone already.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--one-case"):
        first: dict[str, pytest.Item] = {}
        others = []
        for item in items:
            if first.setdefault(item.nodeid.partition("[")[0], item) is not item:
                others.append(item)
        items[:] = first.values()
        config.hook.pytest_deselected(items=others)


@pytest.fixture
def shared() -> Path:
    """The folder with real images and published weights, where it is at hand."""
    if not SHARED.is_dir():
        pytest.skip(f"real data and weights are not at hand ({SHARED} does not exist)")
    return SHARED


@pytest.fixture
def config(tmp_path) -> Config:
    """A fresh tiny run, free to change."""
    return segmentation(tmp_path)


@pytest.fixture(scope="module")
def module_config(tmp_path_factory) -> Config:
    """A tiny run shared by a module; copy it to change it."""
    return segmentation(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def one_block_a_stage() -> Iterator[None]:
    """Every stage of the network with a single block, which compiles in half the time."""
    with pytest.MonkeyPatch.context() as patch:
        short = tuple((t, c, 1, s) for t, c, _, s in mobilenet_v2.STAGES)
        patch.setattr(mobilenet_v2, "STAGES", short)
        # Networks of the same config are kept, of whichever length.
        _abstract_state.cache_clear()
        yield
    _abstract_state.cache_clear()


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A folder in VOC's layout with two images."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(2):
        image = rng.integers(0, 256, (12 + index, 10, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"JPEGImages/2007_{index}.jpg", quality=95)
        label = np.full((12 + index, 10), index, np.uint8)
        label[0] = 255
        label[1] = 20
        picture = Image.fromarray(label)
        picture.putpalette(voc_palette().ravel().tolist())
        picture.save(tmp_path / f"SegmentationClass/2007_{index}.png")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("2007_1\n2007_0\n")
    return tmp_path


@pytest.fixture
def command_line(tmp_path) -> Callable[..., tuple[int, str]]:
    """Run a command as typed: name and arguments to exit status and what it printed."""
    return lambda name, *arguments: commands.run(name, arguments, tmp_path)
