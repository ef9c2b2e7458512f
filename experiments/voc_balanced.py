"""`voc_small_float` with rare classes as often as common ones.

Of the 2,677 images that were available nearly 1,700 show cats or dogs, and some twenty each a
train, a bus, an aeroplane. Classes that fewer than a tenth of the images show are repeated in
proportion to their rarity, and what an image shows of a class is pasted into every second other
one, so that repeated objects come in other scenes; in random colours. A Jaccard index beside the
cross entropy counts all classes alike.

Chosen on 250 images held out of trainaug, six or more of each class, after 500 steps:

    settings                                                                mIoU
    `voc_small_float`                                                       33.3
    Jaccard index, random colours, repeat_threshold 0.35, repeat_power 0.5  38.6
    Jaccard index, random colours, 0.1 and 1.0, paste 0.5                   42.3

The last one scored at 0.75 of the size, which training shows more often than the whole, has 45.0;
at 0.625 it has 43.7. (On val 0.75 and 1.25 had been tried before that.) Its background's bias
lowered by 0.5 makes 42.6 of 42.3, by 1.0 42.0: what is missed is not missed by a threshold.

    python -m deeplab_mnv2.train --config experiments/voc_balanced.py:VOC2012 \
        --workdir runs/voc_balanced --weights mobilenet_v2_imagenet_float.pt
    python -m deeplab_mnv2.evaluate --config experiments/voc_balanced.py:VOC2012 \
        --weights runs/voc_balanced --scales 0.75 --output runs/voc_balanced_075
"""

import voc_small_float
from deeplab_mnv2.config import Config, CrossEntropy, Jaccard, Sum, Term


def get_config(folder: str = "") -> Config:
    return balanced(voc_small_float.get_config(folder))


def balanced(config: Config) -> Config:
    """Return a config of VOC with its classes balanced, of 1,600 steps."""
    config.data.repeat_threshold, config.data.repeat_power = 0.1, 1.0
    config.data.paste = 0.5
    config.data.photometric = True
    config.loss = Sum((Term(CrossEntropy()), Term(Jaccard())))
    config.train.total_steps = 1600
    config.train.eval_every = 1600
    return config
