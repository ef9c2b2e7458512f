"""A published detector on real images: the average precision of an independent interpreter."""

import jax
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.data.coco import Coco
from deeplab_mnv2.tasks.detection.anchors import anchors
from deeplab_mnv2.tasks.detection.average_precision import coco_scores
from deeplab_mnv2.tasks.detection.decoding import detect
from deeplab_mnv2.tasks.detection.matches import Detections, Objects, join, match_coco
from deeplab_mnv2.tasks.detection.transforms import resize_legacy


def test_published_persons_have_their_average_precision(shared):
    """On 124 images of COCO with 345 persons, by pycocotools and an own interpreter in float32."""
    model = weights.load_detector(str(shared / "weights/ssdlite_mobilenet_v2_person_frozen.pb"))
    size = model.config.image_size
    graphdef, state = nnx.split(model)
    boxes_around = anchors(size, size)

    @jax.jit
    def run(state: nnx.State, image: jax.Array):
        merged = nnx.merge(graphdef, state, copy=True)
        return detect(*merged(merged.normalize(image)), boxes_around)

    source = Coco(root=str(shared / "coco_sample")).open()
    parts, persons = [], 0
    for index in range(len(source)):
        example = source[index]
        found = jax.device_get(run(state, resize_legacy(example["image"], size)[None]))
        kept = slice(int(found.counts[0]))
        pixels = np.array(example["image"].shape[:2] * 2)
        detections = Detections(
            found.boxes[0, kept] * pixels, found.scores[0, kept], found.classes[0, kept]
        )
        mine = example["label"] == source.class_names.index("person")
        columns = (example[key][mine] for key in ("pixel_boxes", "label", "ignore", "area"))
        parts.append(match_coco(detections, Objects(*columns)))
        persons += mine.sum()
    assert (len(source), persons) == (124, 345)
    scores = coco_scores(join(parts), ["person"])
    # As many digits as are known; another machine may round a box across a threshold.
    for name, wanted, error in (
        ("ap", 0.19956, 1e-4),
        ("ap50", 0.42094, 1e-3),
        ("ap75", 0.16144, 1e-3),
        ("ap_small", 0.003, 1e-3),
        ("ap_medium", 0.128, 1e-3),
        ("ap_large", 0.391, 1e-3),
        ("ar100", 0.348, 1e-3),
    ):
        print(f"{name} {scores[name]:.5f}, not {wanted}")
        assert scores[name] == pytest.approx(wanted, abs=error), name
