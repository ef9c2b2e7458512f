"""The counts beside the published ones, the receptive field, and the command."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from deeplab_mnv2.config import DeepLabConfig
from deeplab_mnv2.costs import count
from deeplab_mnv2.models.backbone import make_backbone
from deeplab_mnv2.models.costs import LayerCost, layer_costs, receptive_field
from deeplab_mnv2.report.published_costs import Row, tables
from deeplab_mnv2.weights.model_weights import abstract_model
from tests.support.networks import apply


def counted(source: str) -> list[Row]:
    """Return the rows of a source's table that are built here."""
    (table,) = (table for table in tables() if table.source.startswith(source))
    return [row for row in table.rows if row.model is not None]


def name(row: Row) -> str:
    return f"{row.network} {row.sizes[0]}"


def number(printed: str) -> float:
    """Return what "2.75 G" stands for."""
    digits, unit = printed.split()
    return float(digits) * {"M": 1e6, "G": 1e9}[unit]


@pytest.mark.parametrize("row", counted("TF-slim"), ids=name)
def test_every_published_mobilenet_v2_has_its_printed_costs(row):
    costs = layer_costs(abstract_model(row.model), (row.sizes[0],) * 2)
    without_norm = sum(math.prod(cost.kernel) for cost in costs) + row.model.num_classes
    assert f"{without_norm / 1e6:.2f} M" == row.parameters
    assert f"{sum(cost.multiply_adds for cost in costs) // 10**6} M" == row.multiply_adds


@pytest.mark.parametrize("row", counted("MobileNetV1 paper"), ids=name)
def test_every_published_mobilenet_v1_has_its_printed_costs(row):
    found = count(row)
    assert f"{found.parameters / 1e6:.1f} M" == row.parameters
    assert found.multiply_adds == pytest.approx(number(row.multiply_adds), abs=1e6)


@pytest.mark.parametrize("row", counted("MobileNetV2 paper, Table 4"), ids=name)
def test_the_papers_table_agrees_but_for_the_wide_networks_parameters(row):
    found = count(row)
    assert found.multiply_adds == pytest.approx(number(row.multiply_adds), rel=0.012)
    agrees = found.parameters == pytest.approx(number(row.parameters), rel=0.035)
    assert agrees == (row.network != "MobileNetV2 (1.4)")


@pytest.mark.parametrize("row", counted("MobileNetV2 paper, Table 7"), ids=name)
def test_deeplab_has_the_papers_costs_where_padding_is_computed_too(row):
    found = count(row)
    assert f"{found.parameters / 1e6:.2f} M" == row.parameters
    agrees = found.padded == pytest.approx(number(row.multiply_adds), rel=0.005)
    assert agrees == (row.network != "V1, ASPP, stride 8")
    assert found.multiply_adds < found.padded


def test_padding_completes_the_coarser_maps_of_a_dilated_layer():
    cost = LayerCost("aspp", (3, 3, 1, 1), 1, 6, (33, 37, 1), 9, 9 * 33 * 37)
    assert cost.padded_multiply_adds == 9 * 36 * 42


@pytest.mark.parametrize(
    ("version", "field", "output_stride"), [(1, 315, 32), (2, 491, 16), (2, 491, 32)]
)
def test_the_receptive_field_is_where_the_gradient_is(version, field, output_stride):
    config = DeepLabConfig(
        version=version, output_stride=output_stride, width_multiplier=0.1, padding="symmetric"
    )
    backbone = make_backbone(config, rngs=nnx.Rngs(0))
    backbone.eval()
    for path, value in nnx.to_flat_state(nnx.state(backbone, nnx.Param)):
        if path[-1] == "kernel":
            # Averages clip nothing, and all that is seen has a gradient above 0.
            value.set_value(jnp.full(value.shape, 1 / math.prod(value.shape[:3])))

    def middle(image):
        features = apply(backbone, image)
        return features[0, features.shape[1] // 2, features.shape[2] // 2].sum()

    gradient = np.asarray(jax.grad(middle)(jnp.full((1, 545, 545, 3), 1e-3)))[0].sum(-1)
    for pixels in np.nonzero(gradient):
        assert np.ptp(pixels) + 1 == field
    assert receptive_field(layer_costs(abstract_model(config), (65, 65))) == field


def test_the_command_describes_an_experiments_network(command_line):
    code, said = command_line("costs", "--config.model.width_multiplier=0.35")
    assert code == 0
    assert "backbone.stages.6.0.project" in said
    assert "total at" in said
    assert "491 x 491 pixels" in said
    code, said = command_line("costs", "--config.model.version=3")
    assert (code, said) == (2, "error: model.version=3 is out of range; it must be 1 or 2.\n")


def test_a_detector_is_described_at_the_size_of_its_images(command_line):
    code, said = command_line("costs", "--config=ssdlite_shapes", "--config.model.image_size=320")
    assert code == 0
    assert "total at 320 x 320" in said


@pytest.mark.slow
def test_the_command_prints_the_papers_tables(command_line):
    code, said = command_line("costs")
    assert code == 0
    assert "3,504,872    3.4 M    300.8 M" in said
    assert "  NasNet-A                        224           -    5.3 M          - " in said
    assert "11,145,301  11.15 M   12.761 G  14.227 G   14.25 G  75.29" in said
    assert "0.35 G" in said
