"""COCO's outlines are filled as COCO fills them, or refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deeplab_mnv2.data.coco_masks import CocoMasks
from deeplab_mnv2.data.coco_outlines import fill_polygon, fill_runs, run_lengths
from deeplab_mnv2.data.discovery import discover
from deeplab_mnv2.errors import UserError

HEIGHT, WIDTH = 8, 10
# Columns 2 to 5, rows 1 to 3: edges lie between pixels.
SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]


def annotation(number: int, segmentation: Any, **more) -> dict[str, Any]:
    entry = {"id": number, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 12}
    return entry | {"segmentation": segmentation} | more


def write(root: Path, *annotations: Any, file: str = "annotations/instances_val.json") -> CocoMasks:
    """Write one image, 7, in the folder `val`, and what is said of it."""
    (root / "val").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(root / "val/a.jpg")
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "categories": [{"id": 5, "name": "dog"}, {"id": 1, "name": "cat"}],
        "images": [{"id": 7, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return CocoMasks(root=str(root), split="val")


def label_of(root: Path, *annotations: Any) -> np.ndarray:
    return write(root, *annotations).open()[0]["label"]


def test_a_polygon_has_the_pixels_whose_centres_it_holds():
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[1:4, 2:6] = True
    corners = np.reshape(SQUARE, (-1, 2))
    # In either direction, and from any corner.
    for points in (corners, corners[::-1], np.roll(corners, 1, axis=0)):
        assert (fill_polygon(points, HEIGHT, WIDTH) == expected).all()


def test_a_polygon_beyond_the_image_is_cut():
    points = np.array([[-5, -5], [30, -5], [30, 30], [-5, 30]])
    assert fill_polygon(points, HEIGHT, WIDTH).all()
    assert not fill_polygon(points + 100, HEIGHT, WIDTH).any()


def test_runs_go_down_the_columns():
    mask = fill_runs({"counts": [9, 3, 68], "size": [HEIGHT, WIDTH]}, HEIGHT, WIDTH)
    assert np.argwhere(mask).tolist() == [[1, 1], [2, 1], [3, 1]]
    # As `maskApi` writes 9, 3, 68 and, differing from the last but one, 9 again.
    assert run_lengths("93T2") == [9, 3, 68]
    assert run_lengths("93T26") == [9, 3, 68, 9]


# Of NumPy's in pycocotools.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(4))
def test_pixels_are_those_of_pycocotools(seed):
    mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed (parity)")
    rng = np.random.default_rng(seed)
    for digits in (0, 1, 2, 8) * 25:
        height, width = rng.integers(5, 80, 2).tolist()
        points = rng.uniform(-6, 86, (rng.integers(3, 9), 2)).round(digits)
        theirs = mask.frPyObjects([points.ravel().tolist()], height, width)[0]
        decoded = mask.decode(theirs).astype(bool)
        assert (fill_polygon(points, height, width) == decoded).all()
        runs = {"counts": theirs["counts"].decode(), "size": [height, width]}
        assert (fill_runs(runs, height, width) == decoded).all()


def test_smaller_objects_are_seen_and_crowds_lie_below(tmp_path):
    whole = [0, 0, 10, 0, 10, 8, 0, 8]
    crowd = {"counts": [0, 80], "size": [HEIGHT, WIDTH]}
    label = label_of(
        tmp_path,
        annotation(1, [SQUARE], area=12),
        annotation(2, [whole], category_id=5, area=80),
        annotation(3, crowd, iscrowd=1, area=1),
    )
    # The categories in the order of their ids, after the background.
    assert np.unique(label[1:4, 2:6]).tolist() == [1]
    assert (label == 2).sum() == 80 - 12
    label = label_of(
        tmp_path, annotation(3, crowd, iscrowd=1, area=1), annotation(2, [SQUARE], category_id=5)
    )
    assert (label == 2).sum() == 12
    assert (label == 1).sum() == 80 - 12


def test_several_parts_and_missing_areas(tmp_path):
    parts = [SQUARE, [8, 6, 10, 6, 10, 8, 8, 8]]
    entry = annotation(1, parts)
    small = annotation(2, [[2, 1, 3, 1, 3, 2, 2, 2]], category_id=5)
    del entry["area"], small["area"]
    label = label_of(tmp_path, small, entry)
    assert (label == 1).sum() == 12 + 4 - 1
    assert label[1, 2] == 2


def test_chosen_categories(tmp_path):
    data = write(tmp_path, annotation(1, [SQUARE]), annotation(2, [SQUARE], category_id=5))
    assert data.class_names == ("background", "cat", "dog")
    data.names = ("dog",)
    assert data.class_names == ("background", "dog")
    assert np.unique(data.open()[0]["label"]).tolist() == [0, 1]
    data.names = ("cow",)
    with pytest.raises(UserError, match=r"has no category 'cow'; it has cat, dog"):
        data.open()


def test_the_digest_is_of_the_outlines(tmp_path):
    before = write(tmp_path, annotation(1, [SQUARE])).digest()
    assert before == write(tmp_path, annotation(1, [SQUARE])).digest()
    moved = [2, 1, 6, 1, 6, 4, 2, 4.5]
    assert before != write(tmp_path, annotation(1, [moved])).digest()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (annotation(1, []), "annotation 0, cannot be drawn: it has no outline"),
        (annotation(1, [[1, 2, 3, 4]]), "no three points"),
        (annotation(1, [[1, 2, 3, 4, 5]]), "no three points"),
        (annotation(1, [[1, 2, 3, 4, 5, "6"]]), "no number"),
        (annotation(1, [[1, 2, 3, 4, 5, 1e300]]), "no number"),
        (annotation(1, [[1, 2, 3, 4, 5, 9e8]]), "no number"),
        (annotation(1, [3]), "no three points"),
        (annotation(1, "abc"), "it has no outline"),
        (annotation(1, {"counts": [3], "size": [HEIGHT, WIDTH]}), "do not fill the image"),
        (annotation(1, {"counts": [80], "size": [WIDTH, HEIGHT]}), r"of the size \[10, 8\]"),
        (annotation(1, {"counts": [-1, 81], "size": [HEIGHT, WIDTH]}), "do not fill"),
        (annotation(1, {"counts": ["a"], "size": [HEIGHT, WIDTH]}), "no whole numbers"),
        (annotation(1, {"counts": "9\n", "size": [HEIGHT, WIDTH]}), "its counts hold"),
        (annotation(1, {"counts": "T", "size": [HEIGHT, WIDTH]}), "middle of a number"),
        (annotation(1, {}), "it has no outline"),
        (annotation(1, [SQUARE], category_id=9), "category_id 9, which the file does not list"),
    ],
)
def test_what_cannot_be_filled_is_refused(tmp_path, entry, message):
    data = write(tmp_path, entry)
    with pytest.raises(UserError, match=message):
        data.open()[0]


def test_areas_that_are_none_do_not_matter(tmp_path):
    assert label_of(tmp_path, annotation(1, [SQUARE], area=10**400)).sum() == 12
    assert label_of(tmp_path, annotation(1, [SQUARE], area="x")).sum() == 12


def test_more_classes_than_ids_are_refused(tmp_path):
    data = write(tmp_path, annotation(1, [SQUARE]))
    path = tmp_path / data.annotations.replace("{split}", "val")
    content = json.loads(path.read_text())
    content["categories"] = [{"id": n, "name": f"thing {n}"} for n in range(1, 256)]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="There are 256 classes, but no more than 254"):
        data.open()


def test_the_digest_is_of_long_outlines_whole(tmp_path):
    angles = np.linspace(0, 6, 800)
    ring = np.stack([5 + 3 * np.cos(angles), 4 + 3 * np.sin(angles)], axis=1).ravel()
    before = write(tmp_path, annotation(1, [ring.tolist()])).digest()
    ring[800] += 0.25
    assert write(tmp_path, annotation(1, [ring.tolist()])).digest() != before


def test_files_for_detection_alone_are_refused(tmp_path):
    entry = annotation(1, [SQUARE], bbox=[2, 1, 4, 3])
    del entry["segmentation"]
    with pytest.raises(UserError, match="it has no outline; draw it again, or use"):
        write(tmp_path, entry).open()


def test_large_photographs_are_scaled_down(tmp_path):
    data = write(tmp_path, annotation(1, [SQUARE]))
    data.long_side = 5
    example = data.open()[0]
    assert example["image"].shape == (4, 5, 3)
    assert example["label"].shape == (4, 5)


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_{split}.json", "{split}"),
        ("annotations/instances_{split}2017.json", "{split}2017"),
        ("{split}/_annotations.coco.json", "{split}"),
        ("{split}.json", "images/{split}"),
        ("labels/{split}.json", "images"),
        ("annotations/instances_{split}.json", "images/{split}"),
    ],
)
def test_layouts_of_splits_are_found(tmp_path, annotations, images):
    for split in ("train", "val"):
        write(tmp_path / "x", annotation(1, [SQUARE]))
        for place, source in (
            (annotations, "x/annotations/instances_val.json"),
            (f"{images}/a.jpg", "x/val/a.jpg"),
        ):
            target = tmp_path / "data" / place.replace("{split}", split)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((tmp_path / source).read_bytes())
    found = discover(str(tmp_path / "data"))
    assert found.train.class_names == ("background", "cat", "dog")
    assert [len(one.open()) for one in (found.train, found.val)] == [1, 1]
    assert found.val.open()[0]["label"].sum() == 12


def test_one_file_is_split_by_chance(tmp_path):
    write(tmp_path, annotation(1, [SQUARE]), file="result.json")
    path = tmp_path / "result.json"
    content = json.loads(path.read_text())
    content["images"] = [
        content["images"][0] | {"id": 7 + n, "file_name": f"{n}.jpg"} for n in range(10)
    ]
    path.write_text(json.dumps(content))
    (tmp_path / "images").mkdir()
    for n in range(10):
        (tmp_path / f"images/{n}.jpg").write_bytes((tmp_path / "val/a.jpg").read_bytes())
    found = discover(str(tmp_path))
    assert [len(one.open()) for one in (found.train, found.val)] == [8, 2]
    # As CVAT names and places it.
    path = path.rename(tmp_path / "instances_default.json")
    (tmp_path / "images").rename(tmp_path / "default")
    (tmp_path / "images").mkdir()
    (tmp_path / "default").rename(tmp_path / "images/default")
    assert len(discover(str(tmp_path)).train.open()) == 8
    path.rename(tmp_path / "result.json")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"does not hold 0\.jpg, which .*result\.json lists"):
        discover(str(tmp_path))
