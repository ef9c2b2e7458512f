"""A file that another program never sees half written."""

import resource
import signal

import numpy as np
import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.segmentation.predictions import save
from deeplab_mnv2.tasks.segmentation.segmenter import Segmentation


def test_the_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replace_atomically(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "told"), [(OSError(28, "full"), UserError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error, told):
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with replace_atomically(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(told):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(UserError, match=r"file/a cannot be written \(.*\); free space there"),
        replace_atomically(tmp_path / "file" / "a"),
    ):
        pass


def test_two_that_write_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with replace_atomically(path) as first:
        first.write_text("first")
        with replace_atomically(path) as second:
            second.write_text("second")
            assert first.read_text() == "first"
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_too_long_for_the_disk_is_told(tmp_path):
    for name in ("n" * 250, "猫" * 84):
        with replace_atomically(tmp_path / name) as temporary:
            temporary.write_text("fits")
    with (
        pytest.raises(UserError, match=r"cannot be written \(File name too long\)"),
        replace_atomically(tmp_path / ("n" * 300)) as temporary,
    ):
        temporary.write_text("does not fit")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_photograph_that_does_not_fit_on_the_disk_leaves_no_half_overlay(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    found = Segmentation(noise, np.zeros((200, 200), np.uint8), ("background", "cat"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(UserError, match=r"x_overlay\.jpg cannot be written \(File too large\)"):
            save(found, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
