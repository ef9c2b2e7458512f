"""Cityscapes in its 19 classes, from the two archives as they are unpacked.

    python -m deeplab_mnv2.train --config experiments/cityscapes.py:cityscapes \
        --workdir runs/cityscapes

The folder holds `leftImg8bit/` and `gtFine/` (leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip
of cityscapes-dataset.com). Labels are `labelIds`: the 19 that are scored become classes, the others
are unlabelled, so the official script that writes `labelTrainIds` is not needed. Crops and steps
are TensorFlow DeepLab's (crop 769, 90,000 steps); batch 16 takes a GPU or TPU. Not run here.
"""

import voc_os16
from deeplab_mnv2.config import Config
from deeplab_mnv2.data.folder import Folder

# What cityscapesScripts scores (helpers/labels.py), by label id.
CLASSES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
# Ids end at 33.
OTHERS = tuple(value for value in range(34) if value not in CLASSES)


def get_config(root: str = "cityscapes") -> Config:
    config = voc_os16.get_config()
    config.data.train, config.data.val = (
        Folder(
            root=root,
            split=split,
            images="leftImg8bit/{split}",
            labels="gtFine/{split}",
            lists="",
            image_pattern="{name}_leftImg8bit",
            label_pattern="{name}_gtFine_labelIds.png",
            names=tuple(CLASSES.values()),
            values=tuple(CLASSES),
            unlabelled=OTHERS,
        )
        for split in ("train", "val")
    )
    config.data.crop_size = 769
    config.model.num_classes = len(CLASSES)
    config.train.total_steps = 90_000
    config.evaluation.batch_size = 2
    config.evaluation.pad_sizes = (2049,)
    return config
