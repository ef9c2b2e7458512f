"""Pictures of labels and predictions."""

import base64
import io

import numpy as np
from PIL import Image

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.data.voc_classes import voc_palette


def colourize(label: np.ndarray) -> np.ndarray:
    """Return class ids (H, W) in VOC's colours (H, W, 3) uint8."""
    return voc_palette()[label]


def overlay(image: np.ndarray, label: np.ndarray, *, opacity: float = 0.6) -> np.ndarray:
    """Return the image (H, W, 3) uint8 with its classes painted over; background stays bare."""
    painted = (1 - opacity) * image + opacity * colourize(label)
    bare = (label == 0) | (label == IGNORE_LABEL)
    return np.where(bare[..., None], image, painted.astype(np.uint8))


def errors(image: np.ndarray, label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return a dimmed image (H, W, 3) with wrong pixels red and unlabelled ones white."""
    dimmed = (image // 2).astype(np.uint8)
    wrong = (label != prediction) & (label != IGNORE_LABEL)
    dimmed[wrong] = (230, 40, 40)
    dimmed[label == IGNORE_LABEL] = (255, 255, 255)
    return dimmed


def data_uri(picture: np.ndarray, *, height: int = 0) -> str:
    """Return a picture (H, W, 3) as a JPEG `data:` address, scaled down to `height` pixels."""
    image = Image.fromarray(picture)
    if height and image.height > height:
        image = image.resize((round(image.width * height / image.height), height))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
