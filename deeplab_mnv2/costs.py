"""Count the parameters and multiply-adds of the paper's networks, or of an experiment's.

  python -m deeplab_mnv2.costs                    the papers' tables, counted and as printed
  python -m deeplab_mnv2.costs --config FILE      every layer of an experiment's network

Nothing is trained or scored here: scores are the published ones.
"""

import dataclasses
from collections.abc import Iterator

from absl import flags

from deeplab_mnv2.cli import command
from deeplab_mnv2.config import Config, SsdLiteConfig
from deeplab_mnv2.models.costs import cost_table, layer_costs, receptive_field
from deeplab_mnv2.report.published_costs import Row, Table, tables
from deeplab_mnv2.weights.model_weights import abstract_model

_MEBIBYTE = 2**20
_LEGEND = """\
Counted for one image, with 1,000 classes or VOC's 21. Norm, activations and resizing do not count,
as in the papers. A network with "-" is not built here; its figures are as published.
padded: dilated layers on maps padded to a multiple of their dilation, as TensorFlow 1 ran them."""


@dataclasses.dataclass(frozen=True)
class Count:
    """What a row's network has, and what an image takes, all its passes together.

    `padded` is the sum of `LayerCost.padded_multiply_adds`.
    """

    parameters: int
    multiply_adds: int
    padded: int


def count(row: Row) -> Count | None:
    """Return the costs of a row's network, read off the traced program; None without one."""
    if row.model is None:
        return None
    network = abstract_model(row.model)
    programs = [layer_costs(network, (size, size)) for size in row.sizes]
    layers = [cost for costs in programs for cost in costs]
    return Count(
        parameters=sum(cost.parameters for cost in programs[0]),
        multiply_adds=row.passes * sum(cost.multiply_adds for cost in layers),
        padded=row.passes * sum(cost.padded_multiply_adds for cost in layers),
    )


def describe(config: Config) -> str:
    """Return every layer of an experiment's network at its image size, and what they add up to.

    A detector's images have a size; of the other networks it is that of the training crops.

    Raises:
        UserError: a setting of the network, or the crop size, is out of range.
    """
    config.model.check()
    config.data.check()
    network, size = abstract_model(config.model), config.data.crop_size
    if isinstance(config.model, SsdLiteConfig):
        size = config.model.image_size
    costs = layer_costs(network, (size, size))
    outputs = [cost.output_bytes / _MEBIBYTE for cost in costs]
    largest, field = outputs.index(max(outputs)), receptive_field(costs)
    return (
        f"{cost_table(network, (size, size))}\n"
        f"outputs of these layers: {sum(outputs):,.1f} MiB for one image in float32, the largest "
        f"{costs[largest].name} with {outputs[largest]:,.1f} MiB\n"
        f"receptive field of a feature of the backbone: {field} x {field} pixels; what the head "
        "pools or dilates comes on top"
    )


def main() -> None:
    """Run the command."""
    if command.is_experiment_given():
        print(describe(flags.FLAGS.config))
        return
    for table in tables():
        # One by one: tracing all of them takes half a minute.
        for line in _lines(table):
            print(line, flush=True)
        print()
    print(_LEGEND)


def _lines(table: Table) -> Iterator[str]:
    yield f"{table.source}; {table.score}"
    yield _line(
        "network", "input", "parameters", "printed", "mult-adds", "padded", "printed", "score"
    )
    notes = []
    for row in table.rows:
        sizes = "-".join(map(str, sorted({*row.sizes[:1], *row.sizes[-1:]})))
        parameters, multiply_adds, padded = "-", "-", ""
        if (found := count(row)) is not None:
            parameters, multiply_adds = f"{found.parameters:,}", _short(found.multiply_adds)
            padded = _short(found.padded) if found.padded != found.multiply_adds else ""
        counted = parameters, row.parameters, multiply_adds, padded
        line = _line(row.network, sizes, *counted, row.multiply_adds, row.score)
        if row.note:
            notes.append(row.note)
            line += f" [{len(notes)}]"
        yield line
    yield from (f"  [{number}] {note}" for number, note in enumerate(notes, start=1))
    if table.note:
        yield f"  {table.note}"


def _line(network: str, *columns: str) -> str:
    widths = (8, 11, 8, 10, 9, 9, 6)
    cells = (f"{column:>{width}}" for column, width in zip(columns, widths, strict=True))
    return f"  {network:27}{' '.join(cells)}"


def _short(multiply_adds: int) -> str:
    if multiply_adds >= 1e9:
        return f"{multiply_adds / 1e9:.5g} G"
    return f"{multiply_adds / 1e6:.1f} M"


if __name__ == "__main__":
    command.define_config()
    # Without an experiment the papers' networks are counted.
    command.run(main, default_config=command.QUICKSTART)
