"""Write a network in the format of a runtime, and check the file there before it appears.

  python -m deeplab_mnv2.export [--weights FILE] --output FILE \\
      --format safetensors|litert|onnx|stablehlo [--precision float16] [--argmax]

The weights are a file, a run, RUN@best, a folder or hf://owner/name; by default the package's own.
LiteRT and ONNX files take normalised float32 images of --size (height,width) and tell
normalisation and labels in their metadata; StableHLO files take uint8 images of any batch and any
size 32 k + 1, as ONNX files do with --size any. Smaller images are padded, which takes part in
image pooling: choose the size for the images, as evaluate does (config.PAD_SIZES).

A classifier's images are of the side that it is scored at, or --size; how they are scaled and
cropped is in the metadata too. A detector's are scaled to its square; the file finds the boxes,
or with --noboxes returns codes and logits. Their StableHLO files take images of that size alone.
"""

import dataclasses
import importlib
import os
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
from absl import flags
from flax import nnx

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import DetectionEvaluationConfig, ModelConfig, SsdLiteConfig
from deeplab_mnv2.data.folder import Folder
from deeplab_mnv2.data.lists import read_object_names
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.exporting.agreement import Agreement, compare
from deeplab_mnv2.exporting.images import CALIBRATED, CHECKED, preparation, read_or_draw
from deeplab_mnv2.exporting.post_training import quantize
from deeplab_mnv2.exporting.target import PRECISIONS, Network, Run, Target, outputs_of
from deeplab_mnv2.files import replace_atomically
from deeplab_mnv2.tasks.classification.classifier import scaling_of
from deeplab_mnv2.tasks.detection.detector import SHOWN_NMS_IOU
from deeplab_mnv2.weights import native
from deeplab_mnv2.weights.activation_ranges import without_ranges
from deeplab_mnv2.weights.model_weights import from_model

# Beside our own; a module each, with `build` and `load`.
FORMATS = ("litert", "onnx", "stablehlo")
SUFFIXES = {
    "safetensors": "safetensors",
    "litert": "tflite",
    "onnx": "onnx",
    "stablehlo": "stablehlo",
}
# What `--size` is for files that take images of any size.
_ANY = ["any"]
# One cell of the coarsest output stride.
LEAST_SIZE = 32


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
    _check(source, kind, target)
    if target.precision != "int8" and kind != "safetensors":
        # What computes in floats need not be rounded.
        source = without_ranges(source)
    model = written = weights.build(source)
    fit, told = preparation(source, target)
    target = dataclasses.replace(target, scaling=told)
    needed = CALIBRATED if target.precision == "int8" and not source.config.quantized else 0
    images, calibration = read_or_draw(source, target, folder, fit, CHECKED[source.kind], needed)
    if needed:
        written = quantize(model, [model.normalize(image) for image in calibration])
    if kind == "safetensors":
        content = _weights_file(source, written, target)
        run = _network_in(content, source, target)
    else:
        module = _module(kind)
        content = module.build(written, target)
        run = module.load(content, model)
    agreement = compare(model, run, images, target)
    if not agreement.number:
        raise UserError(
            f"{output} is not written: the network finds no box in the images that the file is "
            "checked on; lower --score, or give --calibration FOLDER with photographs of objects."
        )
    if not agreement.suffices(target.precision):
        raise UserError(
            f"{output} is not written: the exported network agrees with the original on only "
            f"{_share(agreement, source, target)}; choose another --precision."
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
        size=_usual_size(source) if given.size in (None, _ANY) else _size(given.size),
        any_size=given.size == _ANY,
        precision=given.precision,
        argmax=given.argmax,
        resize=given.resize,
        box_rules=_box_rules(source),
    )
    folder = Path(given.calibration) if given.calibration else None
    agreement = export(source, given.format, output, target, folder)
    answer, values = ("class", "logits") if target.box_rules is None else ("box", "scores")
    told = "" if agreement.logits is None else f", {values} within {agreement.logits:.2g}"
    print(
        f"{output}: {output.stat().st_size / 2**20:.2f} MiB, same {answer} as the network on "
        f"{_share(agreement, source, target)}{told}, {1000 * agreement.seconds:.0f} ms at "
        f"{target.size[0]} x {target.size[1]} on {os.cpu_count()} cores"
    )


def _check(source: weights.Weights, kind: str, target: Target) -> None:
    """Check what depends on the task.

    Raises:
        UserError: the target asks for what the task or the format has not.
    """
    if target.any_size and kind in ("safetensors", "litert"):
        raise UserError(f"--size any is not for {kind} files; give height and width, or onnx.")
    if source.kind != "segmentation" and not target.resize:
        network = "detector" if source.kind == "detection" else "classifier"
        raise UserError(
            f"--noresize is for segmentation: a {network}'s logits have no size; leave it out."
        )
    if isinstance(source.config, SsdLiteConfig):
        side = source.config.image_size
        if target.size != (side, side):
            raise UserError(
                "--size {},{} is not the size of the detector's images; give {}.".format(
                    *target.size, side
                )
            )
        if target.argmax:
            raise UserError(
                "--argmax is not for detectors, whose boxes have one class; leave it out."
            )


def _box_rules(source: weights.Weights) -> DetectionEvaluationConfig | None:
    """Return by which rules boxes are found, None for a file that does not find any."""
    given = flags.FLAGS
    if source.kind != "detection":
        if not given.boxes:
            raise UserError(f"--noboxes is for detectors, these weights are a {source.kind}'s.")
        return None
    if not given.boxes or given.format == "safetensors":
        return None
    rules = DetectionEvaluationConfig(nms_iou=SHOWN_NMS_IOU, score_threshold=given.score)
    rules.check(source.config.output_stride)
    return rules


def _share(agreement: Agreement, source: weights.Weights, target: Target) -> str:
    """Return on how much the file and its network agree, in words."""
    same = f"{round(agreement.share * agreement.number)} of {agreement.number}"
    if target.box_rules is not None:
        return f"{same} boxes"
    if source.kind == "classification":
        return f"{same} images"
    if source.kind == "detection":
        return f"{agreement.share:.3%} of the anchors"
    return f"{agreement.share:.3%} of the pixels"


def _weights_file(source: weights.Weights, written: Network, target: Target) -> bytes:
    if target.argmax or not target.resize or target.box_rules:
        raise UserError("A weights file holds no output; leave --argmax and --noresize out.")
    named = dataclasses.replace(
        source,
        class_names=target.class_names,
        config=written.config,
        tensors=from_model(written, source.provenance).tensors,
        # Rounded in ranges that were just measured it is another network, which nobody has scored.
        scores=source.scores if written.config.quantized == source.config.quantized else None,
    )
    return native.to_bytes(named, half=target.precision == "float16")


def _network_in(content: bytes, source: weights.Weights, target: Target) -> Run:
    restored = native.from_bytes(content, source.provenance)
    graphdef, state = nnx.split(weights.build(restored))

    @jax.jit
    def run(state: nnx.State, image: jax.Array) -> tuple[jax.Array, ...]:
        return outputs_of(nnx.merge(graphdef, state), image, target)

    return lambda image: tuple(np.asarray(output) for output in run(state, image))


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
    if isinstance(source.config, SsdLiteConfig):
        side = source.config.image_size
    elif isinstance(source.config, ModelConfig):
        # A side that every output stride divides, but for one pixel, and that holds a photograph.
        side = -(-((source.config.long_side or 513) - 1) // 32) * 32 + 1
    else:
        side = scaling_of(source).crop_size
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


def _class_names(file: str | None, source: weights.Weights) -> tuple[str, ...]:
    if not file:
        return source.class_names
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path} does not exist; give --classes a file with one name a line.")
    if source.kind == "detection":
        # One class of objects is enough: background is none.
        names = read_object_names(path)
    else:
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
    flags.DEFINE_string("output", None, "File to write.")
    flags.DEFINE_list("size", None, "Height,width, or a side, or any; by default the network's.")
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "What kernels are stored in.")
    flags.DEFINE_bool("resize", True, "Return logits at the image's size, not the network's.")
    flags.DEFINE_bool("boxes", True, "Detection: find boxes in the file, not codes and logits.")
    flags.DEFINE_float("score", 0.01, "Detection: the file leaves out boxes of no higher score.")
    flags.DEFINE_bool("argmax", False, "Return class ids instead of logits.")
    flags.DEFINE_string("calibration", None, "Folder of training images: int8 ranges, and check.")
    flags.DEFINE_string(
        "classes", None, "File with one class name a line; default the weights' own."
    )
    command.run(main)
