"""A batch that training left because its loss was not finite, looked at."""

from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.decode import read_arrays
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.inspection.contact_sheet import Tile


def read_batch(path: Path) -> dict[str, np.ndarray]:
    """Return a batch that training left: `image` (B, H, W, C), `label` (B, H, W), `name` (B,).

    Raises:
        UserError: the file is missing, damaged or holds something else.
    """
    batch = read_arrays(path, ("image", "label", "name", "step"))
    image, label, name = batch["image"], batch["label"], batch["name"]
    if (
        image.dtype != np.uint8
        or label.dtype != np.uint8
        or label.ndim != 3
        or image.shape[:-1] != label.shape
        or name.shape != label.shape[:1]
    ):
        raise UserError(
            f"{path} holds image {image.dtype}{image.shape}, label {label.dtype}{label.shape} and "
            f"name {name.shape}, which is no batch; give one that train has left."
        )
    return batch


def print_batch(batch: dict[str, np.ndarray], num_classes: int) -> None:
    """Print what the labels and images of a batch hold."""
    table = Table("example", "label ids", "outside", "void", "grey levels", box=box.SIMPLE)
    for image, label, name in zip(batch["image"], batch["label"], batch["name"], strict=True):
        ids = np.unique(label)
        outside = ids[(ids >= num_classes) & (ids != IGNORE_LABEL)]
        void = f"{100 * (label == IGNORE_LABEL).mean():.1f} %"
        levels = f"{image.min()} to {image.max()}"
        table.add_row(Text(str(name)), _listed(ids), _listed(outside) or "none", void, levels)
    console = Console(highlight=False)
    console.print(f"the batch of step {batch['step']}, {num_classes} classes")
    console.print(table)


def batch_tiles(batch: dict[str, np.ndarray]) -> list[Tile]:
    """Return the examples of a batch as pictures."""
    examples = zip(batch["image"], batch["label"], batch["name"], strict=True)
    return [Tile(image, label, str(name)) for image, label, name in examples]


def _listed(ids: np.ndarray) -> str:
    return ", ".join(map(str, ids.tolist()))
