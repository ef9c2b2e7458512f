"""COCO-Stuff in its 171 classes of things and stuff, from the archives as they are unpacked.

    python -m deeplab_mnv2.train --config experiments/coco_stuff.py:cocostuff \
        --workdir runs/coco_stuff

The folder holds `images/{train2017,val2017}`, `annotations/{train2017,val2017}` with the pixel maps
(stuffthingmaps_trainval2017.zip) and `labels.txt` (github.com/nightrome/cocostuff), which names the
classes. A pixel map has a class's number less 1, from 0 to 181, and 255 where nothing is labelled;
eleven numbers are those of things that COCO did not label. The score is the mean IoU of the 171
classes over the 5,000 images of val2017. A GPU or TPU. Not run here.
"""

from pathlib import Path

import voc_os16
from deeplab_mnv2.config import Config
from deeplab_mnv2.data.folder import Folder

# Of 1 to 182: street sign, hat, shoe and others, which COCO names and did not label.
_MISSING = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
NUMBERS = tuple(number for number in range(1, 183) if number not in _MISSING)


def get_config(root: str = "cocostuff") -> Config:
    config, names = voc_os16.get_config(), _names(Path(root, "labels.txt"))
    config.data.train, config.data.val = (
        Folder(
            root=root,
            split=split,
            images="images/{split}",
            labels="annotations/{split}",
            lists="",
            names=names,
            values=tuple(number - 1 for number in NUMBERS),
        )
        for split in ("train2017", "val2017")
    )
    config.model.num_classes = len(NUMBERS)
    config.train.total_steps = 100_000
    config.evaluation.pad_sizes = (641,)
    return config


def _names(path: Path) -> tuple[str, ...]:
    """Return the classes' names; numbers where the data set is not there."""
    if not path.is_file():
        return tuple(f"class {number}" for number in NUMBERS)
    # Lines such as `1: person`.
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    names = {int(number): name.strip() for number, name in pairs}
    return tuple(names[number] for number in NUMBERS)
