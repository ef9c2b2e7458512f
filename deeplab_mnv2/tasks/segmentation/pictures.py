"""The images of an evaluation that are worth looking at, kept in `pictures.zip`."""

import dataclasses
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_mnv2.data.decode import DAMAGE
from deeplab_mnv2.data.encode import encoded
from deeplab_mnv2.data.palette import voc_palette
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.chosen_pictures import chosen_pictures
from deeplab_mnv2.tasks.segmentation.metrics import miou


@dataclasses.dataclass
class Picture:
    """One scored example: `image` (H, W, 3), `label` and `prediction` (H, W), all uint8.

    `confusion` (C, C) is its own; `groups` says why it was chosen, if that is known.
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    confusion: np.ndarray
    groups: tuple[str, ...] = ()

    @property
    def miou(self) -> float:
        return float(miou(self.confusion))


def choose(confusions: np.ndarray, number: int) -> dict[int, tuple[str, ...]]:
    """Return indices of the worst, the best and random images, a third each, with their groups.

    `confusions` (N, C, C). The random ones come from an order that depends on N alone, so runs
    over a split share them. Images in which nothing is labelled are left out.
    """
    values = miou(confusions)
    scored = [int(i) for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    third = min(number // 3, len(scored))
    drawn = np.random.default_rng(0).permutation(len(values))
    candidates = {
        "worst": scored[:third],
        "best": scored[len(scored) - third :],
        "random": drawn[~np.isnan(values[drawn])].tolist(),
    }
    return chosen_pictures(candidates, number)


def save(pictures: list[Picture], path: Path) -> None:
    """Write a zip of NAME/image.jpg and the class ids NAME/label.png and NAME/prediction.png."""
    with zipfile.ZipFile(path, "w") as archive:  # its members are compressed already
        for picture in pictures:
            image = encoded(Image.fromarray(picture.image), "JPEG", quality=90)
            archive.writestr(f"{picture.name}/image.jpg", image)
            for kind in ("label", "prediction"):
                ids = Image.fromarray(getattr(picture, kind))
                ids.putpalette(voc_palette().tobytes())
                archive.writestr(f"{picture.name}/{kind}.png", encoded(ids, "PNG"))


def load(path: Path, confusions: Mapping[str, np.ndarray]) -> dict[str, Picture]:
    """Return the pictures of `save` by name, each with its confusion matrix; none without a file.

    Raises:
        UserError: the file is damaged, or holds an image that has no confusion matrix.
    """
    if not path.exists():
        return {}
    pictures = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if not member.endswith("/image.jpg"):
                    continue
                name = member.removesuffix("/image.jpg")
                image, label, prediction = (
                    np.asarray(Image.open(io.BytesIO(archive.read(f"{name}/{file}"))))
                    for file in ("image.jpg", "label.png", "prediction.png")
                )
                if not image.shape == (*label.shape, 3) == (*prediction.shape, 3):
                    raise ValueError(f"{name} has pictures of different sizes")
                pictures[name] = Picture(name, image, label, prediction, confusions[name])
    except (*DAMAGE, zipfile.BadZipFile, zlib.error, KeyError, RuntimeError) as error:
        raise UserError(
            f"{path} does not hold the pictures of this run ({str(error)[:100]}); evaluate it "
            "again."
        ) from error
    return pictures
