"""Your own images and labels, as they lie in a folder: nothing to set.

    python -m deeplab_mnv2.train --config folder:PATH

PATH holds images and label PNGs in two folders, with or without splits (`images/ masks/`,
`train/images train/masks`, `train trainannot`), labels beside their images, VOC's layout, or images
with labelme's JSON files. Splits, classes and the values of labels are found out, and what was
assumed is printed; a `classes.txt` in PATH names the classes, one a line. Starts from the package's
weights: the network knows photographs already, so that a few dozen are enough for a first result.
"""

import voc_small
from deeplab_mnv2 import weights
from deeplab_mnv2.config import Config
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.discovery import discover
from deeplab_mnv2.errors import UserError

# As often as training shows every image, within bounds of the number of steps.
_EPOCHS, _LEAST, _MOST = 60, 300, 3000


def get_config(root: str = "") -> Config:
    if not root:
        raise UserError("Give the folder of your images after a colon: --config folder:PATH.")
    found = discover(root)
    for sentence in found.assumed:
        print(f"folder: {sentence}")
    config = voc_small.get_config()
    config.data.train, config.data.val = found.train, found.val
    config.model.num_classes = len(found.train.class_names)
    config.train.init_weights = str(weights.PACKAGED)
    if found.train.class_names != VOC_CLASSES:
        config.train.init_parts = ("backbone", "aspp")
    config.train.batch_size = 8
    steps = _EPOCHS * len(found.train.open()) // config.train.batch_size
    config.train.total_steps = min(max(steps, _LEAST), _MOST)
    config.train.eval_every = config.train.total_steps // 3
    return config
