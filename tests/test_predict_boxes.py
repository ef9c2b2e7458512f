"""The predict command with a detector's weights."""

import csv
import json
from pathlib import Path

import pytest
from flax import nnx
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.config import SsdLiteConfig
from deeplab_mnv2.data.shapes_boxes import ShapesBoxes
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.tasks.detection.predictions import image_ids


def test_commands_take_a_detector(command_line, tmp_path):
    network = SSDLite(
        SsdLiteConfig(num_classes=20, width_multiplier=0.35, image_size=96), rngs=nnx.Rngs(0)
    )
    made = weights.from_model(network, {"source": "a test"}, ShapesBoxes().class_names)
    weights.save(tmp_path / "d.safetensors", made)
    for index in range(2):
        image = ShapesBoxes(split="val", length=2, size=96).open()[index]["image"]
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    output = tmp_path / "out"
    status, told = command_line(
        "predict", "--weights", str(tmp_path / "d.safetensors"), "--output", str(output),
        "--score", "0.1", str(tmp_path / "0.png"), str(tmp_path / "1.png"),
    )  # fmt: skip
    assert status == 0, told
    assert (output / "0_overlay.jpg").exists()
    rows = (output / "detections.csv").read_text().splitlines()
    entries = json.loads((output / "detections.json").read_text())
    assert len(rows) == len(entries) + 1
    assert all(entry["score"] >= 0.1 for entry in entries)
    head, *rows = csv.reader(rows)
    assert {row[head.index("image_id")] for row in rows} == {"0", "1"}
    assert {entry["image_id"] for entry in entries} == {0, 1}
    status, told = command_line(
        "predict", "--weights", str(tmp_path / "d.safetensors"), "--output", str(output),
        "--probabilities", str(tmp_path / "0.png"),
    )  # fmt: skip
    assert status == 2
    assert "--probabilities is for segmentation" in told


@pytest.mark.parametrize(
    ("images", "numbers"),
    [
        (["000139.jpg", "7.jpg"], [139, 7]),
        # Two photographs of one number, and one that has none: numbered as they come.
        (["x/1.jpg", "y/1.jpg"], [1, 2]),
        (["2.jpg", "cat.jpg"], [1, 2]),
    ],
)
def test_photographs_have_numbers_of_their_own(images, numbers):
    assert list(image_ids([Path(image) for image in images]).values()) == numbers
