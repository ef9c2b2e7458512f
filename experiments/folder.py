"""Your own images and labels, as they lie in a folder: nothing to set.

    python -m deeplab_mnv2.train --config folder:PATH

PATH holds images and label PNGs in two folders, with or without splits (`images/ masks/`,
`train/images train/masks`, `train trainannot`), labels beside their images, VOC's layout, or
outlines of labelme's, of YOLO's or in COCO's format. Images of other bands than red, green and
blue are read from TIFF and `.npy` (`deeplab_mnv2.data.bands`). Splits, classes and the values of
labels are found out, and what was assumed is printed; a `classes.txt` in PATH names the classes,
one a line.
Starts from the package's weights: the network knows photographs already, so that a few dozen are
enough for a first result.
"""

import numpy as np

import voc_small
from deeplab_mnv2 import weights
from deeplab_mnv2.config import Config, EvaluationConfig, Source
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.data.discovery import discover
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError

# As often as training shows every image, within bounds of the number of steps.
_EPOCHS, _LEAST, _MOST = 60, 300, 3000


def get_config(root: str = "") -> Config:
    if not root:
        raise UserError("Give the folder of your images after a colon: --config folder:PATH.")
    found = discover(root)
    for sentence in found.assumed:
        print(f"folder: {sentence}")
    config, source = voc_small.get_config(), found.train.open()
    images = _some_images(source)
    config.data.train, config.data.val = found.train, found.val
    config.model.num_classes = len(found.train.class_names)
    config.train.init_weights = str(weights.PACKAGED)
    if found.train.class_names != VOC_CLASSES:
        config.train.init_parts = ("backbone", "aspp")
    if isinstance(found.train, Folder) and found.train.bands:
        _take_bands(config, found.train.bands, images)
    # Sizes that fit the images, whatever VOC's are.
    config.evaluation = EvaluationConfig()
    config.data.crop_size = min(config.data.crop_size, _side(images))
    config.train.batch_size = 8
    steps = _EPOCHS * len(source) // config.train.batch_size
    config.train.total_steps = min(max(steps, _LEAST), _MOST)
    config.train.eval_every = config.train.total_steps // 3
    return config


def _take_bands(config: Config, bands: int, images: list[np.ndarray]) -> None:
    """Make a network for images of bands, whose range of values is measured."""
    model = config.model
    model.in_channels, model.image_mean, model.image_std = bands, (127.5,) * bands, (127.5,) * bands
    # The first layers have never seen such images.
    config.train.freeze = ()
    if any(image.dtype != np.uint8 for image in images):
        ends = [np.nanpercentile(image, (0.1, 99.9)) for image in images]
        low, high = np.min(ends, axis=0)[0], np.max(ends, axis=0)[1]
        model.value_range = float(f"{low:.3g}"), float(f"{high:.3g}")
        first, last = model.value_range
        print(f"folder: values from {first:g} to {last:g} become the grey levels 0 to 255")


def _some_images(source: Source) -> list[np.ndarray]:
    """Return a few images from all over a data set."""
    chosen = np.linspace(0, len(source) - 1, min(9, len(source))).astype(int).tolist()
    return [source[index]["image"] for index in chosen]


def _side(images: list[np.ndarray]) -> int:
    """Return the longer side of usual images, rounded up to what a crop can have."""
    longest = np.median([max(image.shape[:2]) for image in images])
    return 16 * int(np.ceil((longest - 1) / 16)) + 1
