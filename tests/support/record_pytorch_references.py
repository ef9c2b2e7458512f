"""Records what timm and torchvision compute, for test_weights_pytorch.py.

Run where both libraries import: python -m tests.support.record_pytorch_references
"""

import json
import zlib
from pathlib import Path

import numpy as np

REFERENCES = Path(__file__).with_name("pytorch_references.json")
TIMM = ("mobilenetv2_050", "mobilenetv2_100", "mobilenetv2_140")
# Even and odd, not square: where the padding rules differ and where they agree.
SIZES = ((64, 96), (65, 97))


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the tensor of a name, drawn from a generator seeded by it."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        return random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
    low, high = (0.5, 1.5) if name.endswith(("weight", "running_var")) else (-0.5, 0.5)
    return random.uniform(low, high, shape).astype(np.float32)


def image(size: tuple[int, int]) -> np.ndarray:
    """Return an image (1, H, W, 3) in the normalised range."""
    return np.random.default_rng(0).normal(0, 1, (1, *size, 3)).astype(np.float32)


def excerpt(features: np.ndarray) -> dict[str, object]:
    """Return shape, mean and every 7th value of an array, channels last."""
    flat = features.reshape(-1)
    return {
        "shape": list(features.shape),
        "mean": float(flat.astype(np.float64).mean()),
        "largest": float(np.abs(flat).max()),
        "values": [round(float(v), 6) for v in flat[: 7 * 60 : 7]],
    }


def main() -> None:
    import timm  # noqa: PLC0415 - absent where the tests run
    import torch  # noqa: PLC0415
    import torchvision  # noqa: PLC0415

    def fill(model: torch.nn.Module) -> dict[str, list[int]]:
        state = {k: v for k, v in model.state_dict().items() if not k.endswith("_tracked")}
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        values = {name: torch.from_numpy(value(name, shape)) for name, shape in shapes.items()}
        model.load_state_dict(values, strict=False)
        model.eval()
        return {name: list(shape) for name, shape in shapes.items()}

    def run(forward: torch.nn.Module, size: tuple[int, int]) -> dict[str, object]:
        with torch.no_grad():
            out = forward(torch.from_numpy(image(size).transpose(0, 3, 1, 2))).numpy()
        return excerpt(out.transpose(0, 2, 3, 1) if out.ndim == 4 else out)

    references: dict[str, object] = {
        "versions": {m.__name__: m.__version__ for m in (timm, torch, torchvision)}
    }
    for name in TIMM:
        outputs = {}
        for stride in (8, 16, 32):
            model = timm.create_model(name, pretrained=False, output_stride=stride)
            shapes = fill(model)
            features = torch.nn.Sequential(model.conv_stem, model.bn1, model.blocks)
            for size in SIZES:
                outputs[f"{stride} {size[0]} {size[1]}"] = run(features, size)
        references[name] = {"shapes": shapes, "features": outputs}
    model = torchvision.models.mobilenet_v2(weights=None)
    references["mobilenet_v2"] = {
        "shapes": fill(model),
        "logits": {f"{h} {w}": run(model, (h, w)) for h, w in SIZES},
    }
    REFERENCES.write_text(json.dumps(references) + "\n")


if __name__ == "__main__":
    main()
