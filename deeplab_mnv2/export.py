"""Write a network in the format of a runtime, and check the file there before it appears.

  python -m deeplab_mnv2.export [--weights FILE] --output FILE \\
      --format safetensors|litert|onnx|stablehlo [--precision float16] [--argmax]

The weights are a file, a run, RUN@best, a folder or hf://owner/name; by default the package's own.
LiteRT and ONNX files take normalised float32 images of --size and tell normalisation and
labels in their metadata; StableHLO files take uint8 images of any batch and any size 32 k + 1.
"""

import importlib
import os
from pathlib import Path
from types import ModuleType

import numpy as np
from absl import flags

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import ModelConfig
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting import native
from deeplab_mnv2.exporting.agreement import LEAST_AGREEMENT, Agreement, compare
from deeplab_mnv2.exporting.target import PRECISIONS, Target, draw_images, read_images
from deeplab_mnv2.files import replace_atomically

# Beside our own; a module each, with `build` and `load`.
FORMATS = ("litert", "onnx", "stablehlo")
# Images that the file is checked on, and that the ranges of int8 come from.
CHECKED, CALIBRATED = 8, 100


def export(
    source: weights.Weights, kind: str, output: Path, target: Target, folder: Path | None = None
) -> Agreement:
    """Write a network as `kind`, "safetensors" or one of `FORMATS`; return how well it agrees.

    The file appears once it has passed its check. `folder` holds training images, for the
    ranges of int8 and for the check; without one, the check is on drawn scenes.

    Raises:
        UserError: a package is missing, a setting does not fit the format, the file cannot be
            written, or it computes something else than the network.
    """
    model = weights.build_deeplab(source)
    images, calibration = _images(model.config, target, folder)
    if kind == "safetensors":
        content = native.build(source, target)
        run = native.load(content)
    else:
        module = _module(kind)
        content = module.build(model, target, calibration)
        run = module.load(content, model)
    agreement = compare(model, run, images, target)
    if agreement.masks < LEAST_AGREEMENT[target.precision]:
        raise UserError(
            f"{output} is not written: the exported network agrees with the original on only "
            f"{agreement.masks:.2%} of the pixels; choose another --precision."
        )
    with replace_atomically(output) as temporary:
        temporary.write_bytes(content)
    return agreement


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    if not given.output:
        raise UserError("Give --output FILE, the file to write.")
    source = weights.read(command.weights_source(str(weights.PACKAGED)))
    output = Path(given.output)
    command.require_writable(output.parent, "--output")
    target = Target(
        class_names=_class_names(given.classes, source),
        size=given.size,
        precision=given.precision,
        argmax=given.argmax,
        resize=given.resize,
    )
    folder = Path(given.calibration) if given.calibration else None
    agreement = export(source, given.format, output, target, folder)
    difference = "" if agreement.logits is None else f", logits within {agreement.logits:.2g}"
    print(
        f"{output}: {output.stat().st_size / 2**20:.2f} MiB, same class as the network on "
        f"{agreement.masks:.3%} of the pixels{difference}, {1000 * agreement.seconds:.0f} ms at "
        f"{target.size} x {target.size} on {os.cpu_count()} cores"
    )


def _images(
    config: ModelConfig, target: Target, folder: Path | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the images to check on and those to calibrate with, (1, S, S, 3) uint8 each."""
    is_integer = target.precision == "int8"
    if folder is None:
        if is_integer:
            raise UserError("int8 needs --calibration FOLDER, with images of the training split.")
        return draw_images(CHECKED, target.size, config), []
    found = read_images(folder, CHECKED + CALIBRATED * is_integer, target.size, config)
    # Ranges come from other images than the check, where there are enough.
    step = max(1, len(found) // CHECKED)
    return found[::step], [image for i, image in enumerate(found) if i % step] or found


def _module(kind: str) -> ModuleType:
    try:
        return importlib.import_module(f"deeplab_mnv2.exporting.{kind}")
    except ModuleNotFoundError as error:
        raise UserError(
            f"--format {kind} needs the package {error.name}, which is not installed; install "
            f"it with pip install 'deeplab_mnv2[{kind}]'."
        ) from error


def _class_names(file: str, source: weights.Weights) -> tuple[str, ...]:
    if not file:
        return source.class_names
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path} does not exist; give --classes a file with one name a line.")
    names = Folder(root=str(path.parent), classes=path.name).class_names
    if len(names) != source.config.num_classes:
        raise UserError(
            f"{path} names {len(names)} classes, but the network has {source.config.num_classes}."
        )
    return names


if __name__ == "__main__":
    # Here, not above: commands share flag names, and a program may import several of them.
    command.define_weights()
    flags.DEFINE_enum("format", "safetensors", ("safetensors", *FORMATS), "What to write.")
    flags.DEFINE_string("output", "", "File to write.")
    flags.DEFINE_integer("size", 513, "Side of the square images.", lower_bound=1)
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "What kernels are stored in.")
    flags.DEFINE_bool("resize", True, "Return logits at the image's size, not the network's.")
    flags.DEFINE_bool("argmax", False, "Return class ids instead of logits.")
    flags.DEFINE_string("calibration", "", "Folder of training images: int8 ranges, and check.")
    flags.DEFINE_string("classes", "", "File with one class name a line; default the weights' own.")
    command.run(main)
