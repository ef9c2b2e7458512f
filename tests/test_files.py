"""A file that another program never sees half written."""

import pytest

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.files import replace_atomically


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
