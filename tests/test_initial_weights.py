"""Which parts of a weights file a run starts from, and what it says of the others."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.data.classes import VOC_CLASSES
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.tasks.task_of import task_of
from deeplab_mnv2.training.initial_weights import load_initial_weights
from deeplab_mnv2.weights.model_weights import abstract_model, variables
from deeplab_mnv2.weights.naming import part_of
from tests.support.random_weights import random_weights

TINY = {"width_multiplier": 0.35, "head_channels": 32}


@dataclasses.dataclass
class Named:
    """A data set of which only the names of the classes are asked."""

    class_names: tuple[str, ...]
    split: str = "train"

    def open(self):
        return []

    def digest(self):
        return "0" * 16


@pytest.fixture
def load(config, tmp_path):
    """Return a function that starts a run from a file: what it took, and what it says."""

    def start(file, *, names=VOC_CLASSES, parts=(), **settings):
        path = tmp_path / "start.safetensors"
        weights.save(path, file)
        config.model = dataclasses.replace(config.model, num_classes=len(names), **settings)
        config.data.train = Named(tuple(names))
        config.train.init_weights, config.train.init_parts = str(path), parts
        model = abstract_model(config.model)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), nnx.state(model))
        nnx.update(model, zeros)
        (message, *more) = load_initial_weights(model, config, task_of(config), [])
        # A part was taken whole or not at all.
        same = {}
        for name, variable in variables(model).items():
            equal = np.array_equal(variable[...], file.tensors.get(name, 1))
            assert equal or not np.asarray(variable[...]).any(), name
            same.setdefault(part_of(name), set()).add(equal)
        assert all(len(values) == 1 for values in same.values())
        taken = {part for part, values in same.items() if values == {True}}
        return taken, [message.replace(str(path), "FILE"), *more]

    return start


def segmentation(names=VOC_CLASSES, **settings):
    given = random_weights(num_classes=len(names), **TINY, **settings)
    return dataclasses.replace(given, class_names=tuple(names))


HEAD = {"backbone", "aspp", "classifier"}


def test_a_whole_network_of_the_same_classes_is_taken_whole(load):
    assert load(segmentation()) == (HEAD, ["took the backbone, aspp and classifier of FILE"])
    big = {"atrous_rates": (6, 12, 18), "separable_aspp": True, "decoder": True}
    taken, (message,) = load(segmentation(**big), **big)
    assert taken == {*HEAD, "decoder"}
    assert message == "took the backbone, aspp, decoder and classifier of FILE"


@pytest.mark.parametrize(
    "names",
    [
        (),  # the file does not tell
        [f"class {index}" for index in range(21)],
        [name.upper() for name in VOC_CLASSES],
        [name.replace("pottedplant", "potted plant") for name in VOC_CLASSES],
    ],
    ids=["none", "numbers", "capitals", "spaces"],
)
def test_names_that_do_not_contradict_are_the_same_classes(load, names):
    file = dataclasses.replace(segmentation(), class_names=tuple(names))
    assert load(file)[0] == HEAD


BACKBONE_OF = "took the backbone of FILE; aspp and classifier start at random: "


@pytest.mark.parametrize(
    ("file", "run", "reason"),
    [
        ({}, {"names": ("background", "cat")}, "the file has 21 classes, this run 2"),
        (
            {},
            {"names": (*VOC_CLASSES[:-2], VOC_CLASSES[-1], VOC_CLASSES[-2])},
            "class 19 is 'train' in the file and 'tvmonitor' in this run",
        ),
        ({}, {"head_channels": 64}, "the file has model.head_channels=32, this run 64"),
        ({}, {"align_corners": False}, "the file has model.align_corners=True, this run False"),
        # Of one shape, but not of one meaning.
        (
            {"atrous_rates": (6, 12, 18)},
            {"atrous_rates": (3, 6, 9)},
            "the file has model.atrous_rates=(6, 12, 18), this run (3, 6, 9)",
        ),
    ],
    ids=["number", "order", "channels", "corners", "rates"],
)
def test_another_head_leaves_the_backbone_and_says_why(load, file, run, reason):
    taken, (message,) = load(segmentation(**file), **run)
    assert taken == {"backbone"}
    assert message.startswith(BACKBONE_OF + reason)


def test_a_decoder_that_the_file_lacks_is_named(load):
    taken, (message,) = load(segmentation(), decoder=True)
    assert taken == {"backbone"}
    assert message == (
        "took the backbone of FILE; aspp, decoder and classifier start at random: "
        "the file has model.decoder=False, this run True"
    )


@pytest.mark.parametrize("kind", ["classification", "backbone"])
def test_a_network_of_another_task_gives_its_backbone(load, kind):
    taken, (message,) = load(random_weights(kind, output_stride=32, **TINY))
    assert taken == {"backbone"}
    assert message == f"{BACKBONE_OF}the file holds a {kind} network"


def test_parts_that_are_asked_for_are_taken_or_refused(load):
    taken, (message,) = load(segmentation(), parts=("backbone",))
    assert taken == {"backbone"}
    assert message == f"{BACKBONE_OF}not named in train.init_parts"
    other = ["background", *(f"thing {index}" for index in range(20))]
    assert load(segmentation(), names=other, parts=("backbone", "aspp", "classifier"))[0] == HEAD
    with pytest.raises(UserError, match=r"missing \(aspp"):
        load(random_weights("backbone", output_stride=32, **TINY), parts=("backbone", "aspp"))
    with pytest.raises(UserError, match=r"takes nothing of .*; name some of backbone, aspp, class"):
        load(segmentation(), parts=("decoder",))


def test_logits_of_other_classes_are_not_said_to_be_taken(load):
    taken, messages = load(
        segmentation(), names=("a", "b"), parts=("backbone", "aspp", "classifier")
    )
    assert taken == {"backbone", "aspp"}
    assert messages[0] == "took the backbone and aspp of FILE"
    assert "logits start afresh" in messages[1]


def test_a_backbone_of_another_convention_is_still_refused(load):
    with pytest.raises(UserError, match=r"model\.padding='same'"):
        load(segmentation(), padding="symmetric")
