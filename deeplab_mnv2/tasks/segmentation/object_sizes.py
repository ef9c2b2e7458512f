"""The objects of a label by size, and the scores on them."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from deeplab_mnv2.config import IGNORE_LABEL
from deeplab_mnv2.evaluation.ratios import json_number, mean_present, ratio

# COCO's areas in pixels (arXiv:1405.0312, its detection evaluation): below, small and medium.
AREAS = (32**2, 96**2)
SIZES = ("small", "medium", "large")


def object_sizes(label: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the size of each pixel's object and the number of objects by size and class.

    An object is a region of one class, connected over edges and corners; touching instances
    are one, unless void parts them as in VOC. `label` (H, W) uint8 gives (H, W) uint8 indices
    into `SIZES`, 0 where unlabelled, and (3, num_classes) int64.
    """
    sizes = np.zeros(label.shape, np.uint8)
    objects = np.zeros((len(SIZES), num_classes), np.int64)
    for class_id in np.flatnonzero(np.bincount(label.ravel(), minlength=256)):
        if class_id == IGNORE_LABEL:
            continue
        mask = (label == class_id).view(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        box = np.s_[top : top + height, left : left + width]
        _, regions, stats, _ = cv2.connectedComponentsWithStats(mask[box], connectivity=8)
        size = np.digitize(stats[:, cv2.CC_STAT_AREA], AREAS).astype(np.uint8)
        objects[:, class_id] = np.bincount(size[1:], minlength=len(SIZES))
        size[0] = 0  # region 0 is everything else
        sizes[box] += size[regions]
    return sizes, objects


def object_size_scores(
    confusions: np.ndarray, sizes: np.ndarray, objects: np.ndarray, class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the scores on small, medium and large objects, ready for JSON.

    From `confusions` (N, C, C), `sizes` (N, 3, C, 2), pixels by image, size of their object,
    class and whether they are wrong or right, and `objects` (3, C). A false positive belongs to
    no object; each image's are shared among its objects of that class by their areas, as in the
    instance-level IoU of arXiv:2310.19252. So IoU of a class at a size is right pixels over
    the objects' pixels and their share. A class named "background" is no object.

    `max_area` in pixels (exclusive, None for the largest), number of `objects` and their
    `pixels`, number of `classes` that have any, and over these `miou` and `mean_accuracy`.
    """
    thing = np.array([name != "background" for name in class_names])
    area = sizes.sum(axis=-1)  # (N, 3, C)
    false_positives = confusions.sum(axis=1) - np.diagonal(confusions, axis1=1, axis2=2)  # (N, C)
    share = ratio(area, area.sum(axis=1, keepdims=True))
    charged = np.nansum(share * false_positives[:, None], axis=0)  # (3, C)
    right, pixels = sizes[..., 1].sum(axis=0), area.sum(axis=0)
    iou = np.where(pixels > 0, ratio(right, pixels + charged), np.nan)[:, thing]
    accuracy = ratio(right, pixels)[:, thing]
    return {
        size: {
            "max_area": max_area,
            "objects": int(objects[row, thing].sum()),
            "pixels": int(pixels[row, thing].sum()),
            "classes": int((pixels[row, thing] > 0).sum()),
            "miou": json_number(mean_present(iou[row])),
            "mean_accuracy": json_number(mean_present(accuracy[row])),
        }
        for row, (size, max_area) in enumerate(zip(SIZES, (*AREAS, None), strict=True))
    }
