"""Segment or classify photographs, or find objects in them, by what the weights are for.

  python -m deeplab_mnv2.predict --output DIR [--weights FILE] IMAGE...

FILE is also a run, RUN@best, a folder or hf://owner/name; by default it is the package's own,
which segments. IMAGE is a file, a folder, a pattern in quotes ('*.jpg'), or - for a list on
standard input. Segmentation leaves NAME.png, a palette PNG of class ids, NAME_overlay.jpg and, with
the share of each class, predictions.csv in the output folder; NAME keeps the folders that tell
images apart. Classification leaves predictions.csv, the five likeliest classes of each image;
detection NAME_overlay.jpg, detections.csv and, in COCO's format, detections.json.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from absl import flags
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.data.lists import split_lines
from deeplab_mnv2.data.photographs import find_photographs
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.tasks.classification.classifier import Classifier, scaling_of
from deeplab_mnv2.tasks.classification.predictions import (
    classify,
    print_predictions,
    write_predictions,
)
from deeplab_mnv2.tasks.detection.detector import SHOWN_SCORE, Detector
from deeplab_mnv2.tasks.detection.predictions import find_objects
from deeplab_mnv2.tasks.segmentation.predictions import SUFFIXES, segment
from deeplab_mnv2.tasks.segmentation.segmenter import LONG_SIDE, Segmenter


def find_images(arguments: list[str], output: Path) -> tuple[dict[Path, Path], list[str]]:
    """Return the result of each image, a path without suffix, and a sentence for each miss.

    A folder is searched to its depths, linked folders too, hidden files and the output folder
    within it not (`data.photographs`). Results keep the
    path below the folder or below the fixed part of the pattern that was given; files that
    would share a result keep the path below their common folder, and the suffix if need be.

    Raises:
        UserError: a result would overwrite an image.
    """
    misses: list[str] = []
    roots: dict[Path, Path] = {}
    for argument in arguments:
        known = len(misses)
        found = list(find_photographs(argument, misses))
        if not found and len(misses) == known:
            misses.append(f"{argument or repr(argument)} names no image; check the path.")
        for image, root in found:
            if image != Path(argument) and _is_result(image, root, output):
                continue
            roots.setdefault(*(Path(os.path.abspath(path)) for path in (image, root)))
    names = {image: _below(image, root).with_suffix("") for image, root in roots.items()}
    if shared := _shared(names):
        common = Path(os.path.commonpath([image.parent for image in shared]))
        names |= {image: _below(image, common).with_suffix("") for image in shared}
        names |= {image: _below(image, common) for image in _shared(names)}
    results = {image: output / name for image, name in names.items()}
    # Links keep their own names, but what they lead to is not to be overwritten either.
    given = {image.resolve() for image in roots}
    for image, result in results.items():
        for suffix in SUFFIXES:
            if (overwritten := result.with_name(result.name + suffix).resolve()) in given:
                raise UserError(
                    f"The results of {image} would overwrite {overwritten}; choose another "
                    "--output."
                )
    return results, misses


def main(arguments: list[str]) -> None:
    """Run the command."""
    given = flags.FLAGS
    if "-" in arguments:
        arguments = [a for a in arguments if a != "-"] + _listed()
    if not arguments:
        raise UserError("No image is given; name files, folders or patterns, or - for a list.")
    if not given.output:
        raise UserError("Give --output DIR, the folder for the results.")
    output = Path(given.output)
    results, misses = find_images(arguments, output)
    failures = []
    if results:
        command.require_writable(output, "--output")
        source = weights.read(command.weights_source(str(weights.PACKAGED)))
        begin = time.perf_counter()
        columns = TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns) as progress:
            task = progress.add_task("", total=len(results))
            failures = _predict(source, results, output, lambda _: progress.advance(task))
        seconds = time.perf_counter() - begin
        done = len(results) - len(failures)
        print(f"{done} image{'s' * (done != 1)} in {seconds:.1f} s; see {printable(output)}")
    for sentence in (*misses, *failures):
        print(f"error: {sentence}", file=sys.stderr)
    if misses or failures:
        sys.exit(1)


def _predict(
    source: weights.Weights,
    results: dict[Path, Path],
    output: Path,
    on_done: Callable[[Path], None],
) -> list[str]:
    """Write the results of what the weights are for; return a sentence for each damaged image."""
    given = flags.FLAGS
    names = tuple(given.class_names) or source.class_names
    if source.kind != "segmentation" and given.probabilities:
        raise UserError("--probabilities is for segmentation; leave it out.")
    if source.kind == "classification":
        network = weights.build_classifier(source)
        classifier = Classifier(network, names, scaling=scaling_of(source))
        found, failures = classify(classifier, list(results), on_done)
        write_predictions(found, output / "predictions.csv")
        print_predictions(found)
        return failures
    if source.kind == "detection":
        detector = Detector(weights.build_detector(source), names, least_score=given.score)
        return find_objects(detector, results, output, on_done)
    segmenter = Segmenter(weights.build_deeplab(source), names, long_side=given.long_side)
    return segment(segmenter, results, output, probabilities=given.probabilities, on_done=on_done)


def _listed() -> list[str]:
    try:
        lines = split_lines(sys.stdin.buffer.read(), "surrogateescape")
    except ValueError as error:
        raise UserError(f"The list on standard input is no text ({error}); use UTF-8.") from error
    return [line for line in lines if line.strip()]


def _is_result(image: Path, root: Path, output: Path) -> bool:
    """Return whether an image that was found below a folder is in the output folder within it."""
    place = output.resolve()
    return root.resolve() in place.parents and image.resolve().is_relative_to(place)


def _below(image: Path, root: Path) -> Path:
    return image.relative_to(root) if image.is_relative_to(root) else Path(image.name)


def _shared(names: dict[Path, Path]) -> list[Path]:
    """Return the images whose name another image has too, upper and lower case alike."""
    counts = Counter(str(name).lower() for name in names.values())
    return [image for image, name in names.items() if counts[str(name).lower()] > 1]


if __name__ == "__main__":
    # Here, not above: commands share flag names, and a program may import several of them.
    command.define_weights()
    flags.DEFINE_string("output", "", "Folder for the results.")
    flags.DEFINE_bool(
        "probabilities", False, "Also write NAME.npz: `probabilities` (H, W, classes), float16."
    )
    flags.DEFINE_integer(
        "long_side",
        LONG_SIDE,
        "Longer photographs are scaled down to this for the network; 0: not, as evaluate scores.",
    )
    flags.DEFINE_float("score", SHOWN_SCORE, "Detection: boxes of this score or more are shown.")
    flags.DEFINE_list("class_names", [], "What the classes are, where the weights do not say.")
    command.run(main, takes_arguments=True)
