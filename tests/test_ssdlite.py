"""SSDLite: the paper's counts, the order of what it predicts, where its levels come from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.config import SsdLiteConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.costs import layer_costs
from deeplab_mnv2.models.ssdlite import BOXES_PER_CELL, SSDLite
from deeplab_mnv2.tasks.detection.anchors import anchors, grids
from tests.support.networks import apply
from tests.support.random_weights import random_weights

TINY = SsdLiteConfig(num_classes=2, width_multiplier=0.35, image_size=64)


def abstract(config: SsdLiteConfig) -> SSDLite:
    return nnx.eval_shape(lambda: SSDLite(config, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("settings", "size", "parameters", "millions"),
    [
        # Table 6 of the paper: 4.3 M and 0.8 B.
        ({"num_classes": 80}, 320, 4_337_013, 788.8),
        ({"num_classes": 80}, 300, 4_337_013, 734.6),
        ({"num_classes": 90}, 320, 4_500_543, 804.4),
        ({"num_classes": 90}, 300, 4_500_543, 749.5),
        ({"num_classes": 20}, 320, 3_355_833, 695.4),
        # As many as a published file for persons has.
        ({"num_classes": 1}, 300, 3_045_126, 617.0),
        ({"separable": False}, 320, 17_000_501, 1870.3),
    ],
)
def test_counts_of_whole_networks(settings, size, parameters, millions):
    costs = layer_costs(abstract(SsdLiteConfig(**settings)), (size, size))
    assert sum(cost.parameters for cost in costs) == parameters
    found = sum(cost.multiply_adds for cost in costs) / 1e6
    assert found == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("separable", "parameters", "millions"),
    # Table 5 of the paper: 2.1 M, and 14.8 M with 1.25 B.
    [(True, 2_113_141, 177.6), (False, 14_776_629, 1259.1)],
)
def test_counts_of_the_prediction_layers(separable, parameters, millions):
    parts = ("extras", "box_heads", "class_heads")
    costs = layer_costs(abstract(SsdLiteConfig(separable=separable)), (320, 320))
    costs = [cost for cost in costs if cost.name.startswith(parts)]
    assert sum(cost.parameters for cost in costs) == parameters
    found = sum(cost.multiply_adds for cost in costs) / 1e6
    assert found == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("size", [(300, 300), (320, 320), (64, 100), (33, 33)])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_there_are_as_many_predictions_as_anchors(size, padding):
    model = abstract(dataclasses.replace(TINY, padding=padding))
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    codes, logits = nnx.eval_shape(lambda model, image: model(image), model, image)
    number = len(anchors(*size))
    assert (codes.shape, logits.shape) == ((2, number, 4), (2, number, 3))
    assert (codes.dtype, logits.dtype) == (jnp.float32, jnp.float32)


@pytest.mark.parametrize(
    ("width", "channels"),
    [
        (1.0, [1280, 512, 256, 256, 128]),
        (0.35, [448, 179, 89, 89, 44]),
        (0.1, [128, 51, 25, 25, 16]),
    ],
)
def test_levels_narrow_with_the_network(width, channels):
    model = abstract(SsdLiteConfig(width_multiplier=width))
    layers = [model.head, *(extra.expand for extra in model.extras)]
    assert [layer.conv.kernel.shape[-1] for layer in layers] == channels


def build(**changes) -> SSDLite:
    """Return a random network, in evaluation mode."""
    settings = {"width_multiplier": 0.35, "num_classes": 2, "image_size": 64, **changes}
    return weights.build(random_weights("detection", **settings))


@pytest.mark.usefixtures("one_block_a_stage")
class TestSmallNetwork:
    def test_predictions_are_ordered_by_level_cell_and_box(self):
        model = build()
        # With kernels of 0 each head predicts its biases, the same in each cell.
        for heads in (model.box_heads, model.class_heads):
            for level, head in enumerate(heads):
                shape = head.predict.bias.shape
                head.predict.kernel[...] = jnp.zeros(head.predict.kernel.shape)
                head.predict.bias[...] = 1000.0 * level + jnp.arange(shape[0])
        codes, logits = apply(model, jnp.zeros((1, 64, 64, 3)))
        start = 0
        for level, ((rows, columns), boxes) in enumerate(
            zip(grids(64, 64), BOXES_PER_CELL, strict=True)
        ):
            for found, values in ((codes, 4), (logits, 3)):
                of_cell = 1000.0 * level + np.arange(boxes * values).reshape(boxes, values)
                wanted = np.tile(of_cell, (rows * columns, 1))
                np.testing.assert_array_equal(found[0, start : start + len(wanted)], wanted)
            start += rows * columns * boxes
        assert start == codes.shape[1]

    @pytest.mark.parametrize("separable", [True, False])
    def test_cells_are_ordered_by_row_and_column(self, separable):
        model = build(image_size=320, separable=separable)
        image = jnp.zeros((1, 320, 320, 3))
        changed = image.at[:, 240:256, 80:96].set(1.0)  # row 15, column 5
        difference = apply(model, changed)[0] - apply(model, image)[0]
        by_cell = np.abs(difference[0, :1200]).reshape(20, 20, -1).sum(axis=-1)
        # The cell sees what changed, its mirror image sees nothing of it.
        assert by_cell[5, 15] == 0 < by_cell[15, 5]

    def test_remat_changes_nothing(self):
        image = jnp.linspace(-1, 1, 64 * 64 * 3).reshape(1, 64, 64, 3)
        found = [apply(build(remat=remat), image) for remat in (False, True)]
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)

    def test_the_detected_map_is_that_of_the_expansion(self):
        model = build().backbone
        graphdef, state = nnx.split(model)
        image = jnp.linspace(-1, 1, 64 * 64 * 3).reshape(1, 64, 64, 3)

        @jax.jit
        def run(state: nnx.State, image: jax.Array) -> tuple[jax.Array, jax.Array]:
            merged = nnx.merge(graphdef, state, copy=True)
            points = merged.endpoints(image)
            expanded = merged.stages[5][0].expand(points["stage5"])
            return points["detected"], expanded

        found, wanted = run(state, image)
        assert found.shape == (1, 4, 4, model.detected_channels)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)

    def test_class_bias_is_where_class_logits_start_and_boxes_do_not(self):
        config = dataclasses.replace(TINY, class_bias=-4.6)
        model = SSDLite(config, rngs=nnx.Rngs(0))
        for heads, value in ((model.class_heads, -4.6), (model.box_heads, 0)):
            for head in heads:
                np.testing.assert_allclose(head.predict.bias[...], value, rtol=1e-6)

    def test_predictions_start_with_the_papers_spread(self):
        model = SSDLite(TINY, rngs=nnx.Rngs(0))
        for layer in (model.extras[0].reduce.conv, model.class_heads[1].predict):
            # A normal of 0.03, cut off at two deviations.
            assert np.std(layer.kernel[...]) == pytest.approx(0.03 * 0.88, rel=0.05)


def test_the_detected_map_has_576_channels():
    assert abstract(SsdLiteConfig()).backbone.detected_channels == 576


@pytest.mark.parametrize(
    "settings",
    [
        {"num_classes": 0},
        {"output_stride": 16},
        {"early_strides": (1, 1)},
        {"image_size": 32},
        {"class_bias": -21.0},
        {"head_epsilon": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(UserError, match=rf"model\.{name}="):
        SsdLiteConfig(**settings).check()
