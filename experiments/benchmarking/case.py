"""A benchmark case: a kind of work, an image size, a batch size and a network."""

import dataclasses
import re

import numpy as np
from flax import nnx

from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab


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
        return "_".join(parts + (["bf16"] if self.half else []))

    def model(self) -> DeepLab:
        """Return the network with random weights, in PyTorch's convention.

        At sizes 32 k + 1 the paddings of PyTorch and TensorFlow are the same.
        """
        config = ModelConfig(
            num_classes=self.classes,
            output_stride=self.output_stride,
            width_multiplier=self.width_multiplier,
            padding="symmetric",
            align_corners=False,
            remat=self.remat,
            dtype="bfloat16" if self.half else "float32",
        )
        return DeepLab(config, rngs=nnx.Rngs(0))

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Return grey levels (B, H, W, 3) and classes (B, H, W), uint8, a tenth unlabelled."""
        rng = np.random.default_rng(0)
        shape = self.batch_size, self.size, self.size
        label = rng.integers(0, self.classes, shape, dtype=np.uint8)
        label[rng.random(shape) < 0.1] = 255
        return rng.integers(0, 256, (*shape, 3), dtype=np.uint8), label


def parse(name: str) -> Case:
    """Return the case of a name: KIND_SIZE_bBATCH[_os8][_wWIDTH][_remat][_bf16], eval or input.

    Raises:
        UserError: the name has another form, or the size is not a multiple of 32 plus one.
    """
    if name in ("eval", "input"):
        return Case(name)
    pattern = r"(forward|train)_(\d+)_b(\d+)(_os8)?(?:_w([\d.]+))?(_remat)?(_bf16)?"
    match = re.fullmatch(pattern, name)
    if match is None:
        raise UserError(
            f"--cases has {name!r}; cases are forward_513_b1, train_257_b4_os8, eval, input."
        )
    kind, size, batch_size, stride, width, remat, half = match.groups()
    if int(size) % 32 != 1:
        raise UserError(f"--cases has {name!r}; sizes are multiples of 32 plus one, such as 513.")
    return Case(
        kind,
        int(size),
        int(batch_size),
        8 if stride else 16,
        float(width or 1),
        remat is not None,
        half is not None,
    )
