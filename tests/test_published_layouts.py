"""Pages of published data sets, on small folders in exactly the layout that is unpacked."""

import cv2
import numpy as np
import pytest

from deeplab_mnv2.cli import experiment
from deeplab_mnv2.errors import UserError


def write(root, image: str, label: str, values: list[int]) -> None:
    """Write an image of 8 x 8 for each value, and its label."""
    for name in (image, label):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(np.repeat(np.array([values], np.uint8), 8, axis=0), 8, axis=1)
    cv2.imwrite(str(root / image), np.full((*labels.shape, 3), 90, np.uint8))
    cv2.imwrite(str(root / label), labels)


def classes(data_set, index: int = 0) -> list[int]:
    """Return the classes of a label, from left to right."""
    return data_set.open()[index]["label"][0, ::8].tolist()


def test_ade20k(tmp_path):
    rows = "".join(f"{i}\t0.1\t{i}\t{i}\tname {i}, other\n" for i in range(1, 151))
    (tmp_path / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + rows)
    for split, prefix in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        name = f"{split}/{prefix}"
        write(tmp_path, f"images/{name}.jpg", f"annotations/{name}.png", [0, 1, 150])
    _, config = experiment.load(f"ade20k:{tmp_path}")
    config.check()
    for data_set in (config.data.train, config.data.val):
        assert classes(data_set) == [255, 0, 149]
        assert data_set.class_names[::149] == ("name 1", "name 150")
    assert config.model.num_classes == 150


def test_pets(tmp_path):
    for name in ("Abyssinian_100", "american_bulldog_2", "left_out_3"):
        image, label = f"images/{name}.jpg", f"annotations/trimaps/{name}.png"
        write(tmp_path, image, label, [1, 2, 3] if name[0] == "A" else [2, 2])
    # A file of another system's, which the archive has beside each trimap.
    (tmp_path / "annotations/trimaps/._Abyssinian_100.png").write_bytes(b"no image")
    # Name, class, species and breed.
    (tmp_path / "annotations/trainval.txt").write_text("Abyssinian_100 1 1 1\n")
    (tmp_path / "annotations/test.txt").write_text("american_bulldog_2 2 2 1\n")
    _, config = experiment.load(f"pets:{tmp_path}")
    config.check()
    assert classes(config.data.train) == [1, 0, 255]
    assert classes(config.data.val) == [0, 0]
    assert [len(split.open()) for split in (config.data.train, config.data.val)] == [1, 1]


def test_coco_stuff(tmp_path):
    lines = ["0: unlabeled", *(f"{number}: name {number}" for number in range(1, 183))]
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    for split in ("train2017", "val2017"):
        # Person, 12 whose number is missing before it, the last one, nothing.
        name = f"{split}/000000000139"
        write(tmp_path, f"images/{name}.jpg", f"annotations/{name}.png", [0, 12, 181, 255])
    _, config = experiment.load(f"coco_stuff:{tmp_path}")
    config.check()
    names = config.data.val.class_names
    assert len(names) == config.model.num_classes == 171
    found = classes(config.data.val)
    assert found == [0, 11, 170, 255]
    assert [names[index] for index in found[:3]] == ["name 1", "name 13", "name 182"]


def test_values_that_no_class_has_are_refused(tmp_path):
    """11 is the number of the street sign, less 1, which is not labelled."""
    write(tmp_path, "images/val2017/a.jpg", "annotations/val2017/a.png", [0, 11])
    _, config = experiment.load(f"coco_stuff:{tmp_path}")
    with pytest.raises(UserError, match=r"a\.png.*11"):
        classes(config.data.val)
