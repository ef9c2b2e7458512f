"""The colours of class ids, PASCAL VOC's, in which every data set is shown."""

import numpy as np


def voc_palette() -> np.ndarray:
    """Return VOC's colour of every label, (256, 3) uint8 RGB; `VOClabelcolormap` of its devkit.

    Every three bits of the label add one bit to red, green and blue, highest bit first, so that
    neighbouring labels get distant colours.
    """
    labels = np.arange(256, dtype=np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    for significance in (7, 6, 5):
        for channel in range(3):
            palette[:, channel] |= (labels & 1) << significance
            labels >>= 1
    return palette
