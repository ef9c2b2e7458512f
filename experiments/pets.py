"""Oxford-IIIT Pets: the pet against its background, from the two archives as they are unpacked.

    python -m deeplab_mnv2.train --config experiments/pets.py:oxford-iiit-pet --workdir runs/pets

The folder holds `images/` and `annotations/` (images.tar.gz, annotations.tar.gz). Of the trimaps'
values 1 is the pet, 2 the background and 3 the border between them, which is unlabelled. 3,680
images of trainval to train on, 3,669 of test to score. Starts from the package's weights, which
know cats and dogs. Not run here.
"""

import voc_small
from deeplab_mnv2 import weights
from deeplab_mnv2.config import Config
from deeplab_mnv2.data.folder import Folder


def get_config(root: str = "oxford-iiit-pet") -> Config:
    config = voc_small.get_config()
    config.data.train, config.data.val = (
        Folder(
            root=root,
            split=split,
            images="images",
            labels="annotations/trimaps",
            lists="annotations/{split}.txt",
            names=("background", "pet"),
            values=(2, 1),
            unlabelled=(3,),
            long_side=513,
        )
        for split in ("trainval", "test")
    )
    config.data.repeat_threshold = 0.0
    config.model.num_classes = 2
    config.train.init_weights = str(weights.PACKAGED)
    config.train.init_parts = ("backbone", "aspp")
    config.evaluation.pad_sizes = (513,)
    return config
