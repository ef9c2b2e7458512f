"""SSDLite in plain PyTorch, and its loss: matching, smooth L1, and the hardest negatives."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_mnv2.config import MultiBox
from deeplab_mnv2.models.mobilenet_v2 import DETECTED_STAGE
from deeplab_mnv2.models.ssdlite import PredictionHead, SSDLite
from deeplab_mnv2.tasks.detection.box_coding import CODE_SCALES
from deeplab_mnv2.tasks.detection.matching import MATCHED
from experiments.benchmarking.torch_layers import Block, convolution, layer

# Plain numbers: torch.compile looks into objects.
_RULES = MultiBox()
_NEGATIVES, _MIN_NEGATIVES = _RULES.negatives, _RULES.min_negatives
_BOX_WEIGHT = _RULES.box_weight


class Detector(nn.Module):
    """SSDLite on MobileNetV2 (B, 3, H, W) -> codes (B, A, 4), logits (B, A, classes + 1)."""

    def __init__(self, model: SSDLite):
        super().__init__()
        stages = model.backbone.stages
        before = [block for stage in stages[:DETECTED_STAGE] for block in stage]
        detected, *others = [block for stage in stages[DETECTED_STAGE:] for block in stage]
        self.start = nn.Sequential(layer(model.backbone.stem), *(Block(b) for b in before))
        # The block that is read before its depthwise filter; it has no shortcut.
        self.expand = layer(detected.expand)
        self.rest = nn.Sequential(
            layer(detected.depthwise),
            layer(detected.project),
            *(Block(block) for block in others),
            layer(model.head),
        )
        self.extras = nn.ModuleList(
            nn.Sequential(layer(extra.reduce), layer(extra.depthwise), layer(extra.expand))
            for extra in model.extras
        )
        self.slots = model.config.num_classes + 1
        self.box_heads = nn.ModuleList(_head(head) for head in model.box_heads)
        self.class_heads = nn.ModuleList(_head(head) for head in model.class_heads)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        first = self.expand(self.start(image))
        x = self.rest(first)
        levels = [first, x]
        for extra in self.extras:
            x = extra(x)
            levels.append(x)
        return _rows(self.box_heads, levels, 4), _rows(self.class_heads, levels, self.slots)


def multi_box_loss(
    codes: Tensor, logits: Tensor, *, boxes: Tensor, label: Tensor, anchors: Tensor
) -> Tensor:
    """Return the loss of a batch of N objects an image, none of them ignored."""
    with torch.no_grad():
        iou = _overlaps(boxes, anchors)  # (B, N, A)
        overlap, owner = iou.max(dim=1)  # (B, A)
        claims = functional.one_hot(iou.argmax(dim=2), iou.shape[2])  # (B, N, A)
        claimed, claimant = claims.max(dim=1)
        matched = (overlap >= MATCHED) | (claimed > 0)
        owner = torch.where(claimed > 0, claimant, owner)
        target = _encode(boxes.gather(1, owner[..., None].expand(-1, -1, 4)), anchors)
        slot = torch.where(matched, label.gather(1, owner) + 1, 0)
        wanted = functional.one_hot(slot, logits.shape[-1]).float()
    classes = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(-1)
    with torch.no_grad():
        hardness = torch.where(matched, -torch.inf, classes)
        rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
        count = (_NEGATIVES * matched.sum(1, keepdim=True)).clamp(min=_MIN_NEGATIVES)
        counted = matched | (rank < count)
    distance = functional.smooth_l1_loss(codes, target, reduction="none").sum(-1)
    total = (classes * counted).sum() + _BOX_WEIGHT * (distance * matched).sum()
    return total / matched.sum().clamp(min=1)


def _head(head: PredictionHead) -> nn.Sequential:
    return nn.Sequential(layer(head.depthwise), convolution(head.predict))


def _rows(heads: nn.ModuleList, levels: list[Tensor], values: int) -> Tensor:
    """Return all levels' predictions as rows (B, A, values)."""
    rows = []
    for head, x in zip(heads, levels, strict=True):
        found = head(x).permute(0, 2, 3, 1)
        rows.append(found.reshape(found.shape[0], -1, values))
    return torch.cat(rows, 1)


def _overlaps(boxes: Tensor, anchors: Tensor) -> Tensor:
    low = torch.maximum(boxes[:, :, None, :2], anchors[None, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], anchors[None, None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, anchors)]
    return common / (areas[0][:, :, None] + areas[1] - common)


def _encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    sizes = [b[..., 2:] - b[..., :2] for b in (boxes, anchors)]
    centres = [(b[..., 2:] + b[..., :2]) / 2 for b in (boxes, anchors)]
    shift = (centres[0] - centres[1]) / sizes[1]
    codes = torch.cat([shift, (sizes[0] / sizes[1]).log()], -1)
    return codes * torch.tensor(CODE_SCALES, device=codes.device)
