"""Copy-paste: what one image shows of a class, pasted into another."""

import cv2
import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL

# Unlabelled pixels this near to an object are taken to be its outline, and come along.
_OUTLINE = 8
# Random scale, where the object then fits into the image.
_SCALES = (0.5, 2.0)


def paste(
    image: np.ndarray,
    label: np.ndarray,
    other_image: np.ndarray,
    other_label: np.ndarray,
    rng: np.random.Generator,
    *,
    flip: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return image (H, W, C) and label (H, W) with all that the other one has of a class on top.

    Without labels of instances, all objects of the class together are what Ghiasi et al. paste
    (arXiv:2012.07177): of a class drawn among those of `other_label`, at a random scale, with
    `flip` in half of the cases flipped, at a place where they lie in the image whole. Where there
    is only background, nothing is pasted.
    """
    classes = np.setdiff1d(other_label, (0, IGNORE_LABEL))
    if not classes.size:
        return image, label
    part = other_label == rng.choice(classes)
    near = cv2.dilate(part.astype(np.uint8), np.ones((2 * _OUTLINE + 1,) * 2, np.uint8)) > 0
    part |= near & (other_label == IGNORE_LABEL)
    left, top, width, height = cv2.boundingRect(part.astype(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    low, high = np.log(_SCALES)
    scale = np.exp(rng.uniform(low, high))
    scale = min(scale, label.shape[0] / height, label.shape[1] / width)
    new_height, new_width = max(1, int(height * scale)), max(1, int(width * scale))
    size = new_width, new_height
    # OpenCV drops the axis of a single channel.
    piece = cv2.resize(other_image[box], size).reshape(new_height, new_width, -1)
    # Class 0 never is pasted, so here it is what stays as it was.
    piece_label = cv2.resize((other_label * part)[box], size, interpolation=cv2.INTER_NEAREST)
    # Drawn in any case, so that all else is the same without.
    if rng.random() < 0.5 and flip:
        piece, piece_label = piece[:, ::-1], piece_label[:, ::-1]
    top = int(rng.integers(label.shape[0] - new_height, endpoint=True))
    left = int(rng.integers(label.shape[1] - new_width, endpoint=True))
    place = np.s_[top : top + new_height, left : left + new_width]
    image, label = image.copy(), label.copy()
    image[place] = np.where(piece_label[..., None], piece, image[place])
    label[place] = np.where(piece_label, piece_label, label[place])
    return image, label
