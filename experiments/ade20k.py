"""ADE20K's scene parsing in its 150 classes, from the archive as it is unpacked.

    python -m deeplab_mnv2.train --config experiments/ade20k.py:ADEChallengeData2016 \
        --workdir runs/ade20k

The folder (ADEChallengeData2016.zip of the MIT Scene Parsing Benchmark) holds
`images/{training,validation}`, `annotations/{training,validation}` and `objectInfo150.txt`, which
names the classes. Label 0 is whatever else there is: it is unlabelled, and the score is the mean
IoU of the 150 classes over the 2,000 images of validation. Crops of 513, 150,000 steps of 16: a GPU
or TPU. Not run here.
"""

from pathlib import Path

import voc_os16
from deeplab_mnv2.config import Config
from deeplab_mnv2.data.folder import Folder

CLASSES = 150
_NAMES = "objectInfo150.txt"


def get_config(root: str = "ADEChallengeData2016") -> Config:
    config, names = voc_os16.get_config(), _names(Path(root, _NAMES))
    config.data.train, config.data.val = (
        Folder(
            root=root,
            split=split,
            images="images/{split}",
            labels="annotations/{split}",
            lists="",
            names=names,
            values=tuple(range(1, CLASSES + 1)),
            unlabelled=(0,),
        )
        for split in ("training", "validation")
    )
    config.model.num_classes = CLASSES
    config.train.total_steps = 150_000
    config.evaluation.batch_size = 2
    return config


def _names(path: Path) -> tuple[str, ...]:
    """Return the first name of each class; numbers where the data set is not there."""
    if not path.is_file():
        return tuple(f"class {number}" for number in range(1, CLASSES + 1))
    # A line of titles, then a line a class: its name is the last column, its synonyms follow.
    _, *lines = path.read_text().splitlines()
    return tuple(line.split("\t")[-1].split(",")[0].strip() for line in lines[:CLASSES])
