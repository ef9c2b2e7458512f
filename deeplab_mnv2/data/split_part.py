"""Parts of a split: "train[:90%]" is the first 90 % of train, "train[90%:]" the rest."""

import hashlib
import re
from collections.abc import Sequence

_SPLIT = re.compile(r"(?P<name>[^\[\]]*)(\[(?P<low>\d{1,3})?%?:((?P<high>\d{1,3})%)?\])?")


def part_of(split: str) -> tuple[str, int, int] | None:
    """Return the split and which percent of it are meant, from and to; None for no such text."""
    match = _SPLIT.fullmatch(split)
    if match is None:
        return None
    low, high = int(match["low"] or 0), int(match["high"] or 100)
    return (match["name"].strip("/"), low, high) if 0 <= low < high <= 100 else None


def chosen_part(names: Sequence[bytes], low: int, high: int) -> list[int]:
    """Return the places of the examples of a part, chosen by chance but always the same.

    By a digest of the names: photographs of one scene are neighbours by name, so the last ones are
    no fair sample.
    """
    digests = [hashlib.sha256(name).digest() for name in names]
    order = sorted(range(len(names)), key=digests.__getitem__)
    return sorted(order[len(order) * low // 100 : len(order) * high // 100])
