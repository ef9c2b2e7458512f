"""Weights set on a model: what fits is set exactly, what does not is named and changes nothing."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.mobilenet_v2 import make_divisible
from deeplab_mnv2.weights.model_weights import abstract_model, check, variables
from deeplab_mnv2.weights.naming import BLOCKS, read_width
from tests.support.random_weights import random_weights

TINY = {"width_multiplier": 0.35, "head_channels": 32}


def model_of(given: weights.Weights, **changes) -> DeepLab:
    """Return a model of the weights' config with zeros in it."""
    config = dataclasses.replace(given.config, **changes)
    model = abstract_model(config)
    nnx.update(model, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), nnx.state(model)))
    return model


def values(model: DeepLab) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable[...]) for name, variable in variables(model).items()}


def test_fill_sets_every_tensor_and_from_model_returns_them():
    given = random_weights(**TINY)
    model = model_of(given)
    assert weights.fill(model, given) == []
    found = weights.from_model(model, {"source": "test"})
    assert (found.kind, found.config) == (given.kind, given.config)
    assert found.tensors.keys() == given.tensors.keys()
    for name, array in given.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)


def test_names_are_those_of_the_models_state():
    model = model_of(random_weights(decoder=True, atrous_rates=(6,), **TINY))
    flat = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    assert {".".join(map(str, path)) for path, _ in flat} == variables(model).keys()


def test_fill_of_one_part_leaves_the_rest():
    given = random_weights("classification", output_stride=32, num_classes=1001, **TINY)
    model = model_of(random_weights(**TINY))
    assert weights.fill(model, given, parts=("backbone",)) == []
    for name, array in values(model).items():
        wanted = given.tensors[name] if name.startswith("backbone.") else 0
        np.testing.assert_array_equal(array, wanted)


def test_another_number_of_classes_leaves_the_logits_and_says_so():
    given = random_weights(num_classes=21, **TINY)
    model = model_of(given, num_classes=5)
    (message,) = weights.fill(model, given)
    assert "logits start afresh" in message
    assert "21" in message
    assert "5" in message
    found = values(model)
    assert not found["classifier.kernel"].any()
    np.testing.assert_array_equal(
        found["aspp.project.conv.kernel"], given.tensors["aspp.project.conv.kernel"]
    )


def damaged(given: weights.Weights, **changes) -> weights.Weights:
    tensors = {name: a for name, a in (given.tensors | changes).items() if a is not None}
    return dataclasses.replace(given, tensors=tensors)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aspp.project.conv.kernel": None}, r"1 tensor missing \(aspp\.project\.conv\.kernel\)"),
        ({"aspp.extra": np.zeros(3)}, r"1 tensor left over \(aspp\.extra\)"),
        (
            {"backbone.stem.norm.mean": np.zeros(3)},
            r"backbone\.stem\.norm\.mean is \(3,\), not \(16,\)",
        ),
        ({f"aspp.extra{i}": np.zeros(3) for i in range(9)}, r"9 tensors left over .*, \.\.\.\)"),
    ],
    ids=["missing", "left over", "shape", "many"],
)
def test_differing_tensors_are_named_and_nothing_is_set(changes, words):
    given = random_weights(**TINY)
    model = model_of(given)
    for refuse in (check, lambda broken: weights.fill(model, broken)):
        with pytest.raises(UserError, match=words):
            refuse(damaged(given, **changes))
    assert not any(array.any() for array in values(model).values())


def test_values_that_are_not_finite_are_refused():
    given = random_weights(**TINY)
    broken = np.full_like(given.tensors["classifier.bias"], np.nan)
    with pytest.raises(UserError, match=r"classifier\.bias holds values that are not finite"):
        check(damaged(given, **{"classifier.bias": broken}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("padding", "symmetric"),
        ("backbone_epsilon", 1e-5),
        ("head_epsilon", 1e-3),
        ("align_corners", False),
        ("image_mean", (123.675, 116.28, 103.53)),
        ("linear_bottleneck", False),
        ("shortcut", "none"),
        ("width_multiplier", 0.5),
    ],
)
def test_another_convention_is_refused_with_the_field_and_both_values(field, value):
    given = random_weights(**TINY)
    model = model_of(given, **{field: value})
    with pytest.raises(UserError, match=f"model.{field}=") as error:
        weights.fill(model, given)
    assert repr(value) in str(error.value)
    assert repr(getattr(given.config, field)) in str(error.value)
    assert not any(array.any() for array in values(model).values())


def test_backbone_alone_does_not_care_for_the_heads_convention():
    given = random_weights(**TINY)
    model = model_of(given, align_corners=False, head_epsilon=1e-3, head_channels=64, decoder=True)
    assert weights.fill(model, given, parts=("backbone",)) == []


def test_unknown_part_is_refused():
    given = random_weights(**TINY)
    with pytest.raises(UserError, match="'neck' is no part"):
        weights.fill(model_of(given), given, parts=("neck",))


def test_build_takes_another_output_stride():
    given = random_weights(output_stride=16, **TINY)
    assert weights.build(given).config.output_stride == 16
    assert weights.build(given, output_stride=8).config.output_stride == 8
    with pytest.raises(UserError, match="output_stride"):
        weights.build(given, output_stride=4)


@pytest.mark.parametrize("divisible_by", [8, 1])
@pytest.mark.parametrize("width", [0.25, 0.35, 0.5, 0.75, 0.63, 1.1, 1.3, 1.4])
def test_width_is_read_from_channels(width, divisible_by):
    base = [32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320]
    layers = ["backbone.stem", *(f"{block}.project" for block in BLOCKS)]
    tensors = {
        f"{layer}.conv.kernel": np.zeros((1, 1, 1, make_divisible(channels * width, divisible_by)))
        for layer, channels in zip(layers, base, strict=True)
    }
    found = read_width(tensors, "file")
    # Another width may round to the same channels, but then it is the same network.
    assert [make_divisible(c * found[0], found[1]) for c in base] == [
        array.shape[-1] for array in tensors.values()
    ]
    if width in (0.35, 0.5, 0.75, 1.3, 1.4):
        assert found == (width, divisible_by)
    tensors[f"{BLOCKS[3]}.project.conv.kernel"] = np.zeros((1, 1, 1, 7))
    with pytest.raises(UserError, match="of any width"):
        read_width(tensors, "file")


def test_networks_of_one_shape_do_not_share_their_weights():
    given = random_weights(width_multiplier=0.35, head_channels=32)
    first = weights.build(given)
    before = {name: np.asarray(variable[...]) for name, variable in variables(first).items()}
    for array in given.tensors.values():
        array += 1
    weights.build(given)
    for name, variable in variables(first).items():
        np.testing.assert_array_equal(variable[...], before[name], err_msg=name)
