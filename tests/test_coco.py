"""Boxes in COCO's format, as exporters write them and with the mistakes they make."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.config import DataSet
from deeplab_mnv2.data.boxes import objects_of
from deeplab_mnv2.data.classes import COCO_CATEGORY_IDS, COCO_CLASSES
from deeplab_mnv2.data.coco import Coco
from deeplab_mnv2.errors import UserError
from tests.support import mutations


def content() -> dict[str, Any]:
    """Two images, of which the one with the higher id comes first, and two classes."""
    box = {"image_id": 7, "category_id": 30, "bbox": [2.5, 1, 4, 3], "area": 7.25, "iscrowd": 0}
    return {
        "images": [
            {"id": 9, "file_name": "b.png", "width": 8, "height": 10},
            {"id": 7, "file_name": "a.png", "width": 20, "height": 10},
        ],
        "annotations": [
            {**box, "id": 0, "segmentation": [[1, 2, 3, 4]]},
            {**box, "id": 1, "category_id": 4, "iscrowd": 1},
            {**box, "id": 2, "bbox": [15, 5, 10, 10]},
            {**box, "id": 3, "bbox": [5, 5, 0, 3]},
        ],
        "categories": [{"id": 30, "name": "kite"}, {"id": 4, "name": "cat"}],
    }


def write(root: Path, value: Any) -> Coco:
    (root / "annotations").mkdir(exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    (root / "annotations/instances_val.json").write_text(text)
    (root / "val").mkdir(exist_ok=True)
    Image.new("RGB", (8, 10)).save(root / "val/b.png")
    Image.new("RGB", (20, 10)).save(root / "val/a.png")
    return Coco(root=str(root), split="val")


def test_reads_cocos_format_in_the_order_of_ids(tmp_path):
    data_set: DataSet = write(tmp_path, content())
    source = write(tmp_path, content()).open()
    assert data_set.class_names == ("cat", "kite")
    assert source.category_ids == (4, 30)
    assert source.image_ids == (7, 9)
    assert len(source) == 2
    example = source[0]
    assert example["name"] == "a.png"
    np.testing.assert_allclose(example["pixel_boxes"][0], [1, 2.5, 4, 6.5])
    # Clipped to the image where the network sees it, and whole where it is scored.
    np.testing.assert_allclose(
        example["boxes"], [[0.1, 0.125, 0.4, 0.325], [0.1, 0.125, 0.4, 0.325], [0.5, 0.75, 1, 1]]
    )
    np.testing.assert_allclose(example["pixel_boxes"][2], [5, 15, 15, 25])
    assert example["label"].tolist() == [1, 0, 1]
    assert example["ignore"].tolist() == [False, True, False]
    assert example["area"].tolist() == [7.25] * 3
    types = {"boxes": "float32", "label": "int64", "ignore": "bool", "area": "float64"}
    assert {key: str(example[key].dtype) for key in types} == types
    assert source.empty_boxes == 1
    assert source[-1]["boxes"].shape == (0, 4)
    assert pickle.loads(pickle.dumps(source))[-2]["name"] == "a.png"
    for index in (2, -3):
        with pytest.raises(IndexError):
            source[index]


def test_objects_of_an_example_are_in_pixels(tmp_path):
    source = write(tmp_path, content()).open()
    example = source[0]
    exact = objects_of(example)
    np.testing.assert_array_equal(exact.boxes, source.annotation(0).boxes)
    del example["pixel_boxes"]
    clipped = objects_of(example).boxes
    np.testing.assert_allclose(clipped[:2], exact.boxes[:2], atol=1e-5)
    np.testing.assert_allclose(clipped[2], [5, 15, 10, 20], atol=1e-5)


def test_area_and_crowd_may_be_missing(tmp_path):
    value = content()
    for entry in value["annotations"]:
        del entry["area"], entry["iscrowd"]
    objects = write(tmp_path, value).open().annotation(0)
    assert objects.area.tolist() == [12, 12, 100]
    assert not objects.ignore.any()


def test_ids_of_annotations_do_not_matter(tmp_path):
    before = write(tmp_path, content()).digest()
    value = content()
    for entry in value["annotations"]:
        del entry["id"]
    assert write(tmp_path, value).digest() == before


def test_digest_follows_names_boxes_and_labels(tmp_path):
    digests = {write(tmp_path, content()).digest()}
    for change in (
        lambda v: v["images"][0].update(file_name="c.png"),
        lambda v: v["annotations"][0].update(bbox=[2.5, 1, 4, 3.5]),
        lambda v: v["annotations"][0].update(category_id=4),
        lambda v: v["annotations"][0].update(image_id=9),
        lambda v: v["annotations"][0].update(iscrowd=1),
        lambda v: v["categories"][0].update(name="drake"),
    ):
        value = content()
        change(value)
        digests.add(write(tmp_path, value).digest())
    assert len(digests) == 7
    assert all(len(digest) == 16 for digest in digests)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("annotations", {"image_id": 8}, "image_id 8, which the file does not list"),
        ("annotations", {"category_id": 1}, "category_id 1, which the file does not list"),
        ("annotations", {"image_id": "7"}, "image_id 7; it must be a whole number"),
        ("annotations", {"bbox": [1, 2, 3]}, "must be four numbers"),
        ("annotations", {"bbox": [1, 2, 3, float("nan")]}, "must be four numbers"),
        ("annotations", {"bbox": [1, 2, 3, 10**400]}, "must be four numbers"),
        ("annotations", {"bbox": [5, 5, -3, 2]}, "negative size"),
        ("annotations", {"area": -1}, "area -1"),
        ("annotations", {"iscrowd": 2}, "iscrowd 2"),
        ("images", {"file_name": "../a.png"}, "outside the folder"),
        ("images", {"file_name": "/a.png"}, "outside the folder"),
        ("images", {"file_name": None}, "no file_name"),
        ("images", {"id": 7}, "the id 7, as another"),
        ("images", {"id": 2**70}, "63 bits"),
        ("images", {"width": "wide"}, "no number of pixels"),
        ("categories", {"id": 4}, "id or name of another"),
        ("categories", {"name": ""}, "no name"),
    ],
)
def test_mistakes_are_named(tmp_path, key, change, message):
    value = content()
    value[key][0].update(change)
    with pytest.raises(UserError, match=message) as caught:
        write(tmp_path, value).open()
    singular = {"categories": "category"}.get(key, key[:-1])
    assert f"instances_val.json, {singular} " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"images": ' + "1" * 5000 + "}", "not valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "no list of categories"),
        ('{"categories": [], "images": [], "annotations": []}', "holds no categories"),
        ('{"categories": [1], "images": [], "annotations": []}', "category 0, is no JSON object"),
    ],
)
def test_what_is_no_coco_file(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, text).open()


def test_missing_files_are_named(tmp_path):
    data_set = write(tmp_path, content())
    (tmp_path / "val/a.png").unlink()
    with pytest.raises(UserError, match=r"a\.png does not exist"):
        data_set.open()[0]
    with pytest.raises(UserError, match=r"instances_test\.json does not exist"):
        Coco(root=str(tmp_path), split="test").open()
    with pytest.raises(UserError, match="set the data set's images"):
        Coco(root=str(tmp_path), split="val", images="photos").open()


def test_an_image_of_another_size_is_refused(tmp_path):
    data_set = write(tmp_path, content())
    Image.new("RGB", (10, 20)).save(tmp_path / "val/a.png")
    with pytest.raises(UserError, match=r"is 10 x 20 pixels, but .* has it as 20 x 10"):
        data_set.open()[0]


def test_a_file_that_changed_is_read_again(tmp_path):
    data_set = write(tmp_path, content())
    assert len(data_set.open()) == 2
    value = content()
    value["images"].append({"id": 1, "file_name": "a.png"})
    write(tmp_path, value)
    assert len(data_set.open()) == 3


def test_damage_is_refused_in_words_or_harmless(tmp_path):
    sound, rng = json.dumps(content()).encode(), np.random.default_rng(0)
    outcomes = set()
    for number in range(150):
        damaged = mutations.mutate_json(sound, rng).decode(errors="replace")
        root = tmp_path / str(number)
        root.mkdir()
        data_set = write(root, damaged)
        try:
            source = data_set.open()
            for index in range(len(source)):
                source[index]
            outcomes.add("read")
        except UserError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_real_coco(shared):
    data_set = Coco(root=str(shared / "coco_sample"))
    source = data_set.open()
    assert data_set.class_names == COCO_CLASSES
    assert source.category_ids == COCO_CATEGORY_IDS
    assert len(source) == 124
    assert sum(len(source.annotation(index).label) for index in range(124)) == 869
    example = source[0]
    assert example["boxes"].shape == example["pixel_boxes"].shape == (1, 4)
    assert COCO_CLASSES[example["label"][0]] == "bear"
