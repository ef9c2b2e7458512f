"""transformers' MobileNetV2: parity with the real library in both directions."""

import json

import huggingface_hub
import jax.numpy as jnp
import numpy as np
import pytest
from tests.random_weights import random_weights, relative_error

from deeplab_mnv2 import weights
from deeplab_mnv2.errors import UserError

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

# Odd and even, square and not: where TensorFlow's padding and PyTorch's differ.
QUICK = [(65, 97), (64, 96)]
FULL = [(513, 513), (512, 512), (257, 385)]
WIDTHS = [(1.0, 8), (0.5, 1)]


def randomize(model: torch.nn.Module) -> torch.nn.Module:
    """Fill a PyTorch network with seeded values, norm statistics included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 4:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
            elif name.endswith(("running_var", "normalization.weight")):
                tensor.uniform_(0.5, 2.0)
            elif tensor.ndim:
                tensor.uniform_(-0.5, 0.5)
    return model.eval()


def settings(width: float, divisible_by: int, **more) -> transformers.MobileNetV2Config:
    return transformers.MobileNetV2Config(
        depth_multiplier=width, depth_divisible_by=divisible_by, min_depth=divisible_by, **more
    )


def image(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype(np.float32)


def theirs(model: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """Return the logits of a transformers network, channels last."""
    with torch.no_grad():
        logits = model(torch.from_numpy(x.transpose(0, 3, 1, 2))).logits.numpy()
    return logits.transpose(0, 2, 3, 1) if logits.ndim == 4 else logits


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(
    "size", QUICK + [pytest.param(size, marks=pytest.mark.slow) for size in FULL], ids=str
)
@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_segmentation_equals_transformers_both_ways(tmp_path, width, output_stride, size):
    config = settings(*width, output_stride=output_stride, num_labels=21)
    peer = randomize(transformers.MobileNetV2ForSemanticSegmentation(config))
    peer.save_pretrained(tmp_path / "peer")
    x = image(size)
    wanted = theirs(peer, x)

    ours = weights.load(str(tmp_path / "peer"))
    assert ours.config.output_stride == output_stride
    assert relative_error(ours.head_logits(jnp.asarray(x)), wanted) < 1e-4

    weights.to_hugging_face(weights.read(str(tmp_path / "peer")), tmp_path / "back")
    back, info = transformers.MobileNetV2ForSemanticSegmentation.from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    assert not any(info.values())
    assert relative_error(theirs(back.eval(), x), wanted) < 1e-6
