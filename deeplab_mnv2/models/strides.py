"""The output stride of a feature extractor: dilation in the place of its last strides."""

from collections.abc import Sequence

from deeplab_mnv2.config import BackboneConfig


def strides_and_dilations(
    stages: Sequence[tuple[int, int]], config: BackboneConfig
) -> list[list[tuple[int, int]]]:
    """Return the (stride, dilation) of every block, a list for each stage.

    `stages` holds the paper's blocks and stride of each, whose first block has it. The strides of
    the stem and of the second stage are `config.early_strides`. Strides beyond
    `config.output_stride` become dilation. The block that loses its stride still reads the finer
    grid it was trained for, so it keeps the old dilation; only the blocks after it are dilated.
    """
    early, second = config.early_strides
    reached, dilation = early, 1
    plan = []
    for number, (blocks, stride) in enumerate(stages):
        stride = second if number == 1 else stride
        if reached < config.output_stride:
            plan.append([(stride, dilation)])
            reached *= stride
        else:
            plan.append([(1, dilation)])
            dilation *= stride
        plan[-1] += [(1, dilation)] * (blocks - 1)
    return plan
