"""A benchmark case: a kind of work, an image size, a batch size and a network."""

import dataclasses
import re

import numpy as np
from flax import nnx

from deeplab_mnv2.config import ModelConfig, SsdLiteConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.ssdlite import SSDLite

# Objects in each image of a detector's batch.
_OBJECTS = 8


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table, such as `train_257_b4` or `forward_513_b1_os8`."""

    kind: str  # "forward", "train", "eval" or "input"
    size: int = 513
    batch_size: int = 1
    output_stride: int = 16
    width_multiplier: float = 1.0
    remat: bool = False
    # Activations and products in bfloat16; weights and sums stay in float32.
    half: bool = False
    # SSDLite, not DeepLab.
    detects: bool = False
    classes: int = 21

    @property
    def name(self) -> str:
        """The name that `parse` reads."""
        if self.kind in ("eval", "input"):
            return self.kind
        parts = [self.kind, str(self.size), f"b{self.batch_size}"]
        parts += ["os8"] if self.output_stride == 8 else []
        parts += [f"w{self.width_multiplier}"] if self.width_multiplier != 1 else []
        parts += ["remat"] if self.remat else []
        parts += ["bf16"] if self.half else []
        return "_".join(parts + (["ssdlite"] if self.detects else []))

    def model(self) -> DeepLab | SSDLite:
        """Return the network with random weights, in PyTorch's convention.

        At sizes 32 k + 1 the paddings of PyTorch and TensorFlow are the same.
        """
        common = {
            "width_multiplier": self.width_multiplier,
            "padding": "symmetric",
            "remat": self.remat,
            "dtype": "bfloat16" if self.half else "float32",
        }
        if self.detects:
            config = SsdLiteConfig(num_classes=self.classes - 1, image_size=self.size, **common)
            return SSDLite(config, rngs=nnx.Rngs(0))
        config = ModelConfig(
            num_classes=self.classes,
            output_stride=self.output_stride,
            align_corners=False,
            **common,
        )
        return DeepLab(config, rngs=nnx.Rngs(0))

    def batch(self) -> dict[str, np.ndarray]:
        """Return `image` (B, H, W, 3) uint8 and what the loss takes besides.

        `label` (B, H, W) uint8, a tenth unlabelled; for a detector `boxes` (B, N, 4) float32,
        `label` (B, N) int32, `ignore` and `valid` (B, N) bool.
        """
        rng = np.random.default_rng(0)
        shape = self.batch_size, self.size, self.size
        if self.detects:
            objects = self.batch_size, _OBJECTS
            low = rng.uniform(0, 0.7, (*objects, 2))
            high = low + rng.uniform(0.1, 0.3, (*objects, 2))
            found = {
                "boxes": np.concatenate([low, high], axis=-1).astype(np.float32),
                "label": rng.integers(0, self.classes - 1, objects, dtype=np.int32),
                "ignore": np.zeros(objects, bool),
                "valid": np.ones(objects, bool),
            }
        else:
            label = rng.integers(0, self.classes, shape, dtype=np.uint8)
            label[rng.random(shape) < 0.1] = 255
            found = {"label": label}
        return {"image": rng.integers(0, 256, (*shape, 3), dtype=np.uint8), **found}


def parse(name: str) -> Case:
    """Return the case of a name, eval or input or as `Case.name` puts it together.

    Raises:
        UserError: the name has another form, or the size is not a multiple of 32 plus one.
    """
    if name in ("eval", "input"):
        return Case(name)
    pattern = r"(forward|train)_(\d+)_b(\d+)(_os8)?(?:_w([\d.]+))?(_remat)?(_bf16)?(_ssdlite)?"
    match = re.fullmatch(pattern, name)
    if match is None:
        raise UserError(
            f"--cases has {name!r}; cases are forward_513_b1, train_257_b4_os8, "
            f"train_300_b32_ssdlite, eval, input."
        )
    kind, size, batch_size, stride, width, remat, half, detects = match.groups()
    if not detects and int(size) % 32 != 1:
        raise UserError(f"--cases has {name!r}; sizes are multiples of 32 plus one, such as 513.")
    return Case(
        kind,
        int(size),
        int(batch_size),
        8 if stride else 16,
        float(width or 1),
        remat is not None,
        half is not None,
        detects is not None,
    )
