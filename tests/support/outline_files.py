"""Files of outlines, sound ones, for what damages them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplab_mnv2.config import DataSet
from deeplab_mnv2.data.coco_masks import CocoMasks
from deeplab_mnv2.data.labelme import Labelme
from deeplab_mnv2.data.yolo_masks import YoloMasks

_HEIGHT, _WIDTH = 12, 16
_TRIANGLE = [2.0, 1.5, 9.0, 2.0, 5.0, 8.0]


def write_labelme(folder: Path) -> Path:
    """Write one image with an outline of each kind that needs nothing else."""
    Image.new("RGB", (_WIDTH, _HEIGHT), "blue").save(folder / "a.jpg")
    points = np.reshape(_TRIANGLE, (-1, 2)).tolist()
    shapes = [
        {"label": "cat", "points": points, "shape_type": "polygon"},
        {"label": "dog", "points": [[3, 3], [7, 6]], "shape_type": "rectangle"},
        {"label": "cat", "points": [[8, 8], [9, 9]], "shape_type": "circle"},
    ]
    path = folder / "a.json"
    size = {"imageHeight": _HEIGHT, "imageWidth": _WIDTH}
    path.write_text(json.dumps({"shapes": shapes, "imagePath": "a.jpg", **size}))
    return path


def labelme(path: Path) -> Labelme:
    return Labelme(root=str(path.parent), folder=".", names=("background", "cat", "dog"))


def write_coco_masks(folder: Path) -> Path:
    """Write one image with a polygon, and with run lengths as a list and as text."""
    Image.new("RGB", (_WIDTH, _HEIGHT), "blue").save(folder / "a.jpg")
    size = [_HEIGHT, _WIDTH]
    annotations = [
        {"image_id": 1, "category_id": category, "area": 20, "iscrowd": 0, "segmentation": what}
        for category, what in (
            (2, [_TRIANGLE]),
            (4, {"size": size, "counts": [100, 12, 80]}),
            (2, {"size": size, "counts": "T3<d2"}),
        )
    ]
    image = {"id": 1, "file_name": "a.jpg", "height": _HEIGHT, "width": _WIDTH}
    categories = [{"id": 2, "name": "cat"}, {"id": 4, "name": "dog"}]
    path = folder / "coco.json"
    path.write_text(
        json.dumps({"images": [image], "annotations": annotations, "categories": categories})
    )
    return path


def coco_masks(path: Path) -> CocoMasks:
    return CocoMasks(root=str(path.parent), annotations=path.name, images=".")


def write_yolo_masks(folder: Path) -> Path:
    """Write one image with two outlines."""
    Image.new("RGB", (_WIDTH, _HEIGHT), "blue").save(folder / "a.jpg")
    (folder / "data.yaml").write_text("names: [cat, dog]\n")
    path = folder / "a.txt"
    path.write_text("0 0.1 0.1 0.9 0.2 0.5 0.75\n1 0.25 0.5 0.5 0.5 0.5 1 0.25 1\n")
    return path


def yolo_masks(path: Path) -> YoloMasks:
    return YoloMasks(root=str(path.parent), images=".", labels=".")


def read_outlines(path: Path, *, of: Callable[[Path], DataSet]) -> list[Any]:
    """Read a data set as training does; whatever it says is an example must be one."""
    data_set = of(path)
    data_set.digest()
    source, classes = data_set.open(), len(data_set.class_names)
    examples = [source[index] for index in range(len(source))]
    for example in examples:
        assert example["image"].shape[:2] == example["label"].shape
        assert example["label"].dtype == np.uint8
        assert {*np.unique(example["label"]).tolist()} <= {*range(classes), 255}
    return examples
