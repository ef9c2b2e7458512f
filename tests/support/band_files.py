"""Images of several bands, and files of them."""

from pathlib import Path

import cv2
import numpy as np
import tifffile


def made_bands(bands: int = 5, kind: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (12, 17, bands)).astype(kind)


def write_bands(path: Path, image: np.ndarray) -> Path:
    """Write an image in the form that its suffix and name say."""
    match path.suffix, path.stem:
        case ".npy", _:
            np.save(path, image)
        case ".tif", "one by one":
            planes = image.transpose(2, 0, 1)
            options = {"planarconfig": "separate", "compression": "zlib"}
            tifffile.imwrite(path, planes, photometric="minisblack", **options)
        case ".tif", "pages":
            tifffile.imwrite(path, image.transpose(2, 0, 1), photometric="minisblack")
        case ".tif", _:
            tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
        case ".png", _:
            assert cv2.imwrite(str(path), image[..., [2, 1, 0, *range(3, image.shape[2])]])
    return path
