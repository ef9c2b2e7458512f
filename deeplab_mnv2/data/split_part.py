"""Parts of a split: "train[:90%]" and the rest of it, "train[90%:]"."""

import hashlib
import re
from collections.abc import Sequence

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.errors import UserError

_SPLIT = re.compile(r"(?P<name>[^\[\]]*)(\[(?P<low>\d{1,3})?%?:((?P<high>\d{1,3})%)?\])?")


def part_of(data_set: Section, split: str) -> tuple[str, int, int]:
    """Return the split that a data set's `split` names, and which percent of it, from and to.

    Raises:
        UserError: it has brackets that are no part.
    """
    match = _SPLIT.fullmatch(split)
    low, high = (int(match["low"] or 0), int(match["high"] or 100)) if match else (0, 0)
    data_set.require(
        0 <= low < high <= 100,
        "split",
        "the name of a split, or a part of it such as train[:90%] and train[90%:]",
    )
    assert match is not None  # else the part is empty
    return match["name"].strip("/"), low, high


def chosen_part(names: Sequence[bytes], low: int, high: int) -> list[int]:
    """Return the places of the examples of a part, chosen by chance but always the same.

    By a digest of the names: photographs of one scene are neighbours by name, so the last ones are
    no fair sample.

    Raises:
        UserError: there are too few examples for it.
    """
    digests = [hashlib.sha256(name).digest() for name in names]
    order = sorted(range(len(names)), key=digests.__getitem__)
    chosen = sorted(order[len(order) * low // 100 : len(order) * high // 100])
    if names and not chosen:
        raise UserError(
            f"Of {len(names)} examples none are in the part from {low} % to {high} %; add "
            "examples, or choose another split."
        )
    return chosen
