"""Write a network in the format of a runtime, and check the file there before it appears.

  python -m deeplab_mnv2.export [--weights FILE] --output FILE \\
      --format safetensors|litert|onnx|stablehlo [--precision float16] [--argmax]

The weights are a file, a run, RUN@best, a folder or hf://owner/name; by default the package's own.
LiteRT and ONNX files take normalised float32 images of --size (height,width) and tell
normalisation and labels in their metadata; StableHLO files take uint8 images of any batch and any
size 32 k + 1. Smaller images are padded, which takes part in image pooling: choose the size for the
images, as evaluate does (config.PAD_SIZES).

A classifier's images are of the side that it is scored at, or --size; how they are scaled and
cropped is in the metadata too. Its StableHLO file takes images of that size alone.
"""

import dataclasses
import importlib
import os
from functools import partial
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
from absl import flags
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import ClassificationEvaluationConfig
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.agreement import Agreement, compare
from deeplab_mnv2.exporting.target import (
    PRECISIONS,
    Fit,
    Network,
    Run,
    Target,
    draw_images,
    padded,
    read_images,
)
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.models.classifier import Classifier
from deeplab_mnv2.tasks.classification.classifier import scaling_of
from deeplab_mnv2.tasks.classification.transforms import centre
from deeplab_mnv2.weights import native
from deeplab_mnv2.weights.naming import SCALING

# Beside our own; a module each, with `build` and `load`.
FORMATS = ("litert", "onnx", "stablehlo")
SUFFIXES = {
    "safetensors": "safetensors",
    "litert": "tflite",
    "onnx": "onnx",
    "stablehlo": "stablehlo",
}
# One cell of the coarsest output stride.
LEAST_SIZE = 32
# Images that the file is checked on, and that the ranges of int8 come from. A mask is checked at
# each of its pixels, a classifier's image is one answer alone.
CHECKED, CALIBRATED = {"segmentation": 8, "classification": 32}, 100


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
    model = _network(source)
    fit = partial(padded, size=target.size, mean_pixel=model.config.mean_pixel)
    if isinstance(model, Classifier):
        scaling = _scaling(source, target)
        fit = partial(centre, config=scaling, mean_pixel=model.config.mean_pixel)
        told = {name: getattr(scaling, name) for name in SCALING}
        target = dataclasses.replace(target, scaling=told)
    images, calibration = _images(target, folder, fit, CHECKED[source.kind])
    if kind == "safetensors":
        content = _weights_file(source, target)
        run = _network_in(content, source)
    else:
        module = _module(kind)
        content = module.build(model, target, calibration)
        run = module.load(content, model)
    agreement = compare(model, run, images, target)
    if not agreement.suffices(target.precision):
        raise UserError(
            f"{output} is not written: the exported network agrees with the original on only "
            f"{_share(agreement, source)}; choose another --precision."
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
    output = _file(given.output, given.format)
    command.require_writable(output.parent, "--output")
    target = Target(
        class_names=_class_names(given.classes, source),
        size=_usual_size(source) if given.size is None else _size(given.size),
        precision=given.precision,
        argmax=given.argmax,
        resize=given.resize,
    )
    folder = Path(given.calibration) if given.calibration else None
    agreement = export(source, given.format, output, target, folder)
    difference = "" if agreement.logits is None else f", logits within {agreement.logits:.2g}"
    print(
        f"{output}: {output.stat().st_size / 2**20:.2f} MiB, same class as the network on "
        f"{_share(agreement, source)}{difference}, {1000 * agreement.seconds:.0f} ms at "
        f"{target.size[0]} x {target.size[1]} on {os.cpu_count()} cores"
    )


def _network(source: weights.Weights) -> Network:
    if source.kind == "classification":
        return weights.build_classifier(source)
    return weights.build_deeplab(source)


def _scaling(source: weights.Weights, target: Target) -> ClassificationEvaluationConfig:
    """Return how the images of a classifier are scaled and cropped to the target's size.

    At another size than it is scored at, images are scaled in proportion: it sees the same part.

    Raises:
        UserError: the target does not fit a classifier.
    """
    height, width = target.size
    if height != width:
        raise UserError(
            f"--size {height},{width} is not square, as a classifier's images are; give one side."
        )
    if not target.resize:
        raise UserError(
            "--noresize is for segmentation: a classifier's logits have no size; leave it out."
        )
    scaling = scaling_of(source)
    scaling.check(source.config.output_stride)
    resize = round(scaling.resize * height / scaling.crop_size)
    return dataclasses.replace(scaling, resize=resize, crop_size=height)


def _share(agreement: Agreement, source: weights.Weights) -> str:
    """Return on how much the file and its network agree, in words."""
    if source.kind == "classification":
        return f"{round(agreement.share * agreement.number)} of {agreement.number} images"
    return f"{agreement.share:.3%} of the pixels"


def _images(
    target: Target, folder: Path | None, fit: Fit, checked: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the images to check on and those to calibrate with, (1, H, W, 3) uint8 each."""
    is_integer = target.precision == "int8"
    if folder is None:
        if is_integer:
            raise UserError("int8 needs --calibration FOLDER, with images of the training split.")
        return draw_images(checked, max(target.size), fit), []
    found = read_images(folder, checked + CALIBRATED * is_integer, fit)
    # Ranges come from other images than the check, where there are enough.
    step = max(1, len(found) // checked)
    return found[::step], [image for i, image in enumerate(found) if i % step] or found


def _weights_file(source: weights.Weights, target: Target) -> bytes:
    if target.precision == "int8":
        raise UserError("Weights files are float32 or float16; set --format litert for int8.")
    if target.argmax or not target.resize:
        raise UserError("A weights file holds no output; leave --argmax and --noresize out.")
    named = dataclasses.replace(source, class_names=target.class_names)
    return native.to_bytes(named, half=target.precision == "float16")


def _network_in(content: bytes, source: weights.Weights) -> Run:
    restored = native.from_bytes(content, source.provenance)
    graphdef, state = nnx.split(_network(restored))

    @jax.jit
    def run(state: nnx.State, image: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, state)
        return model(model.normalize(image))

    return lambda image: np.asarray(run(state, image))


def _file(name: str, kind: str) -> Path:
    """Return the file to write.

    Raises:
        UserError: a folder is named.
    """
    path = Path(name)
    if path.is_dir() or name.endswith(("/", os.sep)):
        raise UserError(
            f"--output {name} is a folder; name the file, such as "
            f"{path / ('model.' + SUFFIXES[kind])}."
        )
    return path


def _usual_size(source: weights.Weights) -> tuple[int, int]:
    side = scaling_of(source).crop_size if source.kind == "classification" else 513
    return side, side


def _size(text: list[str]) -> tuple[int, int]:
    """Return height and width of "513" or "256,512".

    Raises:
        UserError: it is something else.
    """
    numbers = [int(n) for n in text if n.strip().isdecimal()]
    if len(numbers) != len(text) or len(numbers) not in (1, 2) or min(numbers) < LEAST_SIZE:
        raise UserError(
            f"--size {','.join(text)} is no size; give a side, or height and width such as "
            f"256,512, each of {LEAST_SIZE} pixels or more."
        )
    return numbers[0], numbers[-1]


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
    flags.DEFINE_list(
        "size",
        None,
        "Height,width of the images, such as 256,512; or one side. Default 513, a classifier's its "
        "own.",
    )
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "What kernels are stored in.")
    flags.DEFINE_bool("resize", True, "Return logits at the image's size, not the network's.")
    flags.DEFINE_bool("argmax", False, "Return class ids instead of logits.")
    flags.DEFINE_string("calibration", "", "Folder of training images: int8 ranges, and check.")
    flags.DEFINE_string("classes", "", "File with one class name a line; default the weights' own.")
    command.run(main)
