"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplab_mnv2.errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file takes the place of `path` unless an error occurs.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); free space there, mend its "
            "permissions or choose another place."
        ) from error
    finally:
        if temporary.is_file():
            temporary.unlink()
