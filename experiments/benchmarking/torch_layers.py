"""Our layers in PyTorch, with our weights."""

import numpy as np
import torch
from flax import nnx
from torch import Tensor, nn

from deeplab_mnv2.models.layers import Conv, ConvNormAct
from deeplab_mnv2.models.mobilenet_v2 import InvertedResidual

_ACTIVATIONS = {None: nn.Identity, nnx.relu: nn.ReLU, nnx.relu6: nn.ReLU6}


def convolution(conv: Conv) -> nn.Conv2d:
    """Return the layer with our weights and PyTorch's padding."""
    size, _, _, channels = conv.kernel.shape
    copy = nn.Conv2d(
        channels if conv.depthwise else conv.kernel.shape[2],
        channels,
        size,
        stride=conv.stride,
        padding=conv.dilation * (size - 1) // 2,
        dilation=conv.dilation,
        groups=channels if conv.depthwise else 1,
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        copy.weight.copy_(_tensor(conv.kernel).permute(3, 2, 0, 1))
        if conv.bias is not None:
            copy.bias.copy_(_tensor(conv.bias))
    return copy


def layer(layer: ConvNormAct) -> nn.Sequential:
    """Return convolution, batch norm and activation with our weights."""
    ours = layer.norm
    norm = nn.BatchNorm2d(ours.num_features, ours.epsilon, 1 - ours.momentum)
    with torch.no_grad():
        for theirs, value in (
            (norm.weight, ours.scale),
            (norm.bias, ours.bias),
            (norm.running_mean, ours.mean),
            (norm.running_var, ours.var),
        ):
            theirs.copy_(_tensor(value))
    return nn.Sequential(convolution(layer.conv), norm, _ACTIVATIONS[layer.activation]())


class Block(nn.Module):
    """Expand, depthwise, project, and the shortcut."""

    def __init__(self, block: InvertedResidual):
        super().__init__()
        parts = (block.expand, block.depthwise, block.project)
        self.layers = nn.Sequential(*(layer(part) for part in parts if part is not None))
        self.has_shortcut = block.shortcut == "bottleneck"

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.has_shortcut else self.layers(x)


def _tensor(variable: nnx.Variable) -> Tensor:
    return torch.from_numpy(np.array(variable[...]))
