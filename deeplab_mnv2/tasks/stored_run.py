"""What comparisons ask of an evaluation that was read back, whatever its task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deeplab_mnv2.errors import UserError
from deeplab_mnv2.evaluation.bootstrap import Interval


def require_stored(folder: Path, name: str) -> Path:
    """Return a file that an evaluation leaves in its folder.

    Raises:
        UserError: it is not there.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(
            f"{folder} holds no {name}; give a folder that train or evaluate has finished."
        )
    return path


def unreadable_scores(folder: Path) -> UserError:
    """Return what to tell the user of scores that are damaged."""
    return UserError(f"The scores in {folder} cannot be read; evaluate it again.")


def two_evaluations(folder: Path, name: str) -> UserError:
    """Return what to tell the user of a file that is not of the `eval.json` beside it."""
    return UserError(f"eval.json and {name} in {folder} are of two evaluations; evaluate it again.")


class StoredRun(Protocol):
    """What an evaluation found in each image, read from its folder."""

    @property
    def names(self) -> list[str]:
        """The names of the images, in order."""
        ...

    @property
    def class_names(self) -> list[str]: ...

    @property
    def score(self) -> str:
        """The key of the main score in `eval.json`."""
        ...

    @property
    def title(self) -> str:
        """What people call the main score."""
        ...

    @property
    def by_class(self) -> str:
        """The key of each class's score in `eval.json`."""
        ...

    @property
    def class_title(self) -> str:
        """What people call a class's score."""
        ...

    def has_same_labels(self, other: Any) -> bool:
        """Return whether another run of the same images was scored against the same labels."""
        ...

    def scores(self) -> np.ndarray:
        """Return the main score and each class's, (1 + C,), NaN for what has none."""
        ...

    def difference_intervals(
        self, first: Sequence[Any], second: Sequence[Any], *, samples: int
    ) -> list[Interval | None]:
        """Return the intervals of the differences in these scores; see `evaluation.bootstrap`."""
        ...
