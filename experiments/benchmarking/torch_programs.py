"""The same network in plain PyTorch, channels last, and transformers' MobileNetV2."""

from collections.abc import Callable

import jax
import numpy as np
import torch
from flax import nnx
from torch import Tensor, nn
from torch.nn import functional

from deeplab_mnv2.config import IGNORE_LABEL, OptimizerConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.layers import Conv, ConvNormAct, SeparableConv
from deeplab_mnv2.models.mobilenet_v2 import InvertedResidual
from experiments.benchmarking.case import Case

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


class Network(nn.Module):
    """DeepLab on MobileNetV2 (B, 3, H, W) -> logits (B, classes, H, W)."""

    def __init__(self, model: DeepLab):
        super().__init__()
        backbone, aspp = model.backbone, model.aspp
        self.backbone = nn.Sequential(
            layer(backbone.stem), *(Block(block) for stage in backbone.stages for block in stage)
        )
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), layer(aspp.image_pool))
        self.branches = nn.ModuleList(_branch(branch) for branch in aspp.branches)
        self.head = nn.Sequential(
            layer(aspp.project), nn.Dropout(model.config.dropout), convolution(model.classifier)
        )
        self.align_corners = model.config.align_corners

    def forward(self, image: Tensor) -> Tensor:
        x = self.backbone(image)
        pooled = self.image_pool(x).expand(-1, -1, *x.shape[2:])
        x = self.head(torch.cat([pooled, *(branch(x) for branch in self.branches)], 1))
        return functional.interpolate(
            x, image.shape[2:], mode="bilinear", align_corners=self.align_corners
        )


def eager(case: Case, model: DeepLab) -> Callable[[], object]:
    """Return one iteration of the network in eager mode."""
    return _program(case, Network(model).to(memory_format=torch.channels_last))


def compiled(case: Case, model: DeepLab) -> Callable[[], object]:
    """Return one iteration of the network through `torch.compile`."""
    network = Network(model).to(memory_format=torch.channels_last)
    return _program(case, torch.compile(network))


def hugging_face(case: Case, _: DeepLab) -> Callable[[], object]:
    """Return one iteration of transformers' own segmentation network, with random weights."""
    from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation  # noqa: PLC0415

    config = MobileNetV2Config(
        image_size=case.size, output_stride=case.output_stride, num_labels=case.classes
    )

    class Upsampled(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = MobileNetV2ForSemanticSegmentation(config)

        def forward(self, image: Tensor) -> Tensor:
            logits = self.network(image).logits
            return functional.interpolate(logits, image.shape[2:], mode="bilinear")

    return _program(case, Upsampled().to(memory_format=torch.channels_last))


def _program(case: Case, network: nn.Module) -> Callable[[], object]:
    """Return one iteration on the kind of device that JAX runs on.

    Raises:
        UserError: JAX runs on a GPU that PyTorch cannot use.
    """
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("JAX has a GPU here, PyTorch none; install its CUDA build or name --peers.")
    network = network.to(device)
    image, label = (torch.from_numpy(array).to(device) for array in case.batch())
    image = image.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    label = label.long()

    def logits() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=case.half):
            return network((image.float() - 127.5) / 127.5).float()

    if case.kind == "forward":
        network.eval()

        def forward() -> Tensor:
            with torch.inference_mode():
                output = logits().permute(0, 2, 3, 1)
            if device == "cuda":
                torch.cuda.synchronize()
            return output

        return forward
    recipe = OptimizerConfig()
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, 0.9, weight_decay=recipe.weight_decay
    )
    network.train()

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(logits(), label, ignore_index=IGNORE_LABEL)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train


def _branch(branch: nnx.Module) -> nn.Module:
    if isinstance(branch, SeparableConv):
        return nn.Sequential(layer(branch.depthwise), layer(branch.pointwise))
    return layer(branch)


def _tensor(variable: nnx.Variable) -> Tensor:
    return torch.from_numpy(np.array(variable[...]))
