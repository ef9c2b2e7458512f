"""The same network in plain PyTorch, channels last, and transformers' MobileNetV2."""

from collections.abc import Callable
from functools import partial

import jax
import torch
from flax import nnx
from torch import Tensor, nn
from torch.nn import functional

from deeplab_mnv2.config import IGNORE_LABEL, OptimizerConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.layers import SeparableConv
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.tasks.detection.anchors import anchors
from experiments.benchmarking.case import Case
from experiments.benchmarking.torch_detector import Detector, multi_box_loss
from experiments.benchmarking.torch_layers import Block, convolution, layer


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


def eager(case: Case, model: DeepLab | SSDLite) -> Callable[[], object]:
    """Return one iteration of the network in eager mode."""
    return _program(case, _network(model))


def compiled(case: Case, model: DeepLab | SSDLite) -> Callable[[], object]:
    """Return one iteration of the network through `torch.compile`."""
    return _program(case, torch.compile(_network(model)), torch.compile(multi_box_loss))


def hugging_face(case: Case, model: DeepLab | SSDLite) -> Callable[[], object]:
    """Return one iteration of transformers' own segmentation network, with random weights."""
    if isinstance(model, SSDLite):
        raise UserError(f"transformers has no network for {case.name}; name other --peers.")
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


def _program(
    case: Case, network: nn.Module, multi_box: Callable[..., Tensor] = multi_box_loss
) -> Callable[[], object]:
    """Return one iteration on the kind of device that JAX runs on.

    Raises:
        UserError: JAX runs on a GPU that PyTorch cannot use.
    """
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("JAX has a GPU here, PyTorch none; install its CUDA build or name --peers.")
    network = network.to(device)
    batch = {name: torch.from_numpy(array).to(device) for name, array in case.batch().items()}
    image = batch.pop("image").permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def outputs() -> tuple[Tensor, ...]:
        with torch.autocast(device, torch.bfloat16, enabled=case.half):
            found = network((image.float() - 127.5) / 127.5)
        return tuple(output.float() for output in (found if isinstance(found, tuple) else (found,)))

    if case.kind == "forward":
        network.eval()

        def forward() -> Tensor:
            with torch.inference_mode():
                found = tuple(o.permute(0, 2, 3, 1) if o.ndim == 4 else o for o in outputs())
            if device == "cuda":
                torch.cuda.synchronize()
            return found

        return forward
    recipe = OptimizerConfig()
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, 0.9, weight_decay=recipe.weight_decay
    )
    network.train()
    label = batch["label"].long()
    if case.detects:
        around = torch.from_numpy(anchors(case.size, case.size)).to(device)
        loss_of = partial(multi_box, boxes=batch["boxes"], label=label, anchors=around)
    else:
        loss_of = partial(functional.cross_entropy, target=label, ignore_index=IGNORE_LABEL)

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(*outputs())
        loss.backward()
        optimizer.step()
        return loss.item()

    return train


def _network(model: DeepLab | SSDLite) -> nn.Module:
    network = Detector(model) if isinstance(model, SSDLite) else Network(model)
    return network.to(memory_format=torch.channels_last)


def _branch(branch: nnx.Module) -> nn.Module:
    if isinstance(branch, SeparableConv):
        return nn.Sequential(layer(branch.depthwise), layer(branch.pointwise))
    return layer(branch)
