"""Which images of an evaluation are kept as pictures."""

from collections.abc import Iterable, Mapping


def chosen_pictures(
    candidates: Mapping[str, Iterable[int]], number: int
) -> dict[int, tuple[str, ...]]:
    """Return up to `number` indices of images, each with the groups that it was chosen for.

    `candidates` has the indices of each group; groups take theirs one after the other.
    """
    groups: dict[int, tuple[str, ...]] = {}
    for group, indices in candidates.items():
        for index in indices:
            if len(groups) >= number:
                return groups
            groups[index] = (*groups.get(index, ()), group)
    return groups
