"""Whether the images of a folder are photographs, and how many bands they have if not."""

from collections.abc import Iterable
from pathlib import Path

from deeplab_mnv2.data.bands import bands_of
from deeplab_mnv2.errors import UserError


def find_bands(files: Iterable[Path]) -> int:
    """Return how many bands images have, 0 for photographs; PNGs are passed over.

    Raises:
        UserError: they differ, or one is damaged.
    """
    found: dict[int, Path] = {}
    for path in files:
        # Photographs, or the labels beside images.
        if path.suffix.lower() != ".png":
            found.setdefault(bands_of(path), path)
    if len(found) > 1:
        kinds = [
            f"{path} has {f'{bands} bands' if bands else 'those of a photograph'}"
            for bands, path in found.items()
        ]
        raise UserError(f"{' but '.join(kinds[:2])}; keep images of one kind in a folder.")
    return next(iter(found), 0)
