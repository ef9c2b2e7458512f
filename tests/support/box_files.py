"""Small data sets of boxes in each format that is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from deeplab_mnv2.config import DataSet
from deeplab_mnv2.data.coco import Coco
from deeplab_mnv2.data.voc_boxes import VocBoxes
from deeplab_mnv2.data.yolo import Yolo
from deeplab_mnv2.tasks.detection.transforms import check_example

_NAMES = ("train_0", "train_1")
_OBJECT = """<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>9</xmax><ymax>7.5</ymax></bndbox></object>"""


def write_coco(folder: Path) -> Path:
    _write_images(folder / "train")
    path = folder / "annotations/instances_train.json"
    path.parent.mkdir()
    images = [
        {"id": 3 * i, "file_name": f"{name}.jpg", "width": 24, "height": 17}
        for i, name in enumerate(_NAMES)
    ]
    annotation = {"image_id": 0, "category_id": 5, "area": 20.5, "iscrowd": 0}
    annotations = [{**annotation, "id": i, "bbox": [i, 2, 5.5, 6]} for i in range(3)]
    categories = [{"id": 5, "name": "cat"}, {"id": 9, "name": "kite"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def write_voc(folder: Path, *, target: str) -> Path:
    _write_images(folder / "JPEGImages")
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    size = "<size><width>24</width><height>17</height></size>"
    for name in _NAMES:
        objects = "".join(map(_OBJECT.format, (1, 4)))
        (folder / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(_NAMES))
    return folder / target


def write_yolo(folder: Path, *, target: str) -> Path:
    _write_images(folder / "images/train")
    (folder / "labels/train").mkdir(parents=True)
    for name in _NAMES:
        (folder / f"labels/train/{name}.txt").write_text("0 0.5 0.5 0.25 0.3\n1 0.1 0.2 0.1 0.2\n")
    (folder / "classes.txt").write_text("cat\nkite\n")
    return folder / target


def read_boxes(path: Path, *, of: Callable[..., DataSet], above: int) -> list[Any]:
    """Read a data set as training does; whatever it says is an example must be one."""
    data_set = of(root=str(path.parents[above]), split="train")
    data_set.digest()
    source, classes = data_set.open(), len(data_set.class_names)
    examples = [source[index] for index in range(len(source))]
    for example in examples:
        check_example(example, classes)
    return examples


def _write_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in _NAMES:
        Image.new("RGB", (24, 17)).save(folder / f"{name}.jpg")


# What is damaged below the root, and how many folders that is down.
FORMATS: dict[str, tuple[Callable[..., DataSet], Callable[..., Path], dict[str, str], int]] = {
    "coco boxes": (Coco, write_coco, {}, 1),
    "voc boxes": (VocBoxes, write_voc, {"target": "Annotations/train_0.xml"}, 1),
    "voc boxes list": (VocBoxes, write_voc, {"target": "ImageSets/Main/train.txt"}, 2),
    "yolo boxes": (Yolo, write_yolo, {"target": "labels/train/train_0.txt"}, 2),
    "yolo classes": (Yolo, write_yolo, {"target": "classes.txt"}, 0),
}
