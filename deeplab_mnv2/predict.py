"""Segment or classify photographs, or find objects in them, by what the weights are for.

  python -m deeplab_mnv2.predict --output DIR [--weights FILE] IMAGE...

FILE is also a run, RUN@best, a folder or hf://owner/name; by default it is the package's own,
which segments. IMAGE is a file, a folder, a pattern in quotes ('*.jpg'), or - for a list on
standard input. Segmentation leaves NAME.png, a palette PNG of class ids, NAME_overlay.jpg and, with
the share of each class, predictions.csv in the output folder; NAME keeps the folders that tell
images apart. Of a video, camera:0 or a stream (Ctrl-C ends it) it leaves NAME_overlay.mp4 and, for
each class of each frame, NAME.csv. Classification leaves predictions.csv, the five likeliest
classes; detection NAME_overlay.jpg, detections.csv and, in COCO's format, detections.json. Results
never replace a photograph or a video that was given, or a file that lies beside one.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from absl import flags
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.data.bands import suffixes_for
from deeplab_mnv2.data.lists import split_lines
from deeplab_mnv2.errors import UserError, printable
from deeplab_mnv2.tasks.classification.classifier import Classifier
from deeplab_mnv2.tasks.classification.predictions import (
    classify,
    print_predictions,
    write_predictions,
)
from deeplab_mnv2.tasks.detection.detector import SHOWN_SCORE, Detector
from deeplab_mnv2.tasks.detection.predictions import find_objects
from deeplab_mnv2.tasks.inputs import Inputs, find_inputs
from deeplab_mnv2.tasks.segmentation.predictions import SUFFIXES, segment, write_submission
from deeplab_mnv2.tasks.segmentation.segmenter import Segmenter
from deeplab_mnv2.tasks.segmentation.video import frame_count, segment_video

# What is written of each image, by what the weights are for.
_WRITTEN = {"segmentation": SUFFIXES, "detection": ("_overlay.jpg",)}
# Flags that are for one task alone.
_ONLY_FOR = {
    **dict.fromkeys(("probabilities", "scales", "flip", "submission", "long_side"), "segmentation"),
    "score": "detection",
}


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
    source = weights.read(command.weights_source(str(weights.PACKAGED)))
    inputs = find_inputs(arguments, output, suffixes_for(source.config), _written(source.kind))
    _check_flags(source.kind, inputs)
    results, videos, misses = inputs.images, inputs.videos, inputs.misses
    failures = []
    if results or videos:
        command.require_writable(output, "--output")
        columns = TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        begin = time.perf_counter()
        with Progress(*columns) as progress:
            if results:
                task = progress.add_task("", total=len(results))
                failures = _predict(source, results, output, lambda _: progress.advance(task))
            if videos:
                failures += _predict_videos(source, videos, progress)
        done = len(results) + len(videos) - len(failures)
        name = "file" if videos else "image"
        print(
            f"{done} {name}{'s' * (done != 1)} in {time.perf_counter() - begin:.1f} s; "
            f"see {printable(output)}"
        )
    for sentence in (*misses, *failures):
        print(f"error: {sentence}", file=sys.stderr)
    if misses or failures:
        sys.exit(1)


def _written(kind: str) -> tuple[str, ...]:
    endings = _WRITTEN.get(kind, ())
    return tuple(each for each in endings if each != ".npz" or flags.FLAGS.probabilities)


def _check_flags(kind: str, inputs: Inputs) -> None:
    """Refuse flags of no effect or out of range, and a submission that would not be whole."""
    given = flags.FLAGS
    for flag, task in _ONLY_FOR.items():
        if kind != task and given[flag].present:
            raise UserError(f"--{flag} is for {task}; leave it out.")
    command.numbers("scales", given.scales)
    for flag in ("probabilities", "submission"):
        if inputs.videos and given[flag].present:
            raise UserError(f"--{flag} is for photographs alone; leave it out, or the videos.")
    if given.submission:
        if inputs.misses:
            raise UserError(f"{given.submission} is not written: {inputs.misses[0]}")
        names = Counter(result.name for result in inputs.images.values())
        for name in (name for name, count in names.items() if count > 1):
            raise UserError(
                f"{given.submission} is not written: several photographs are called {name}, and "
                "the server knows them by their names; rename them."
            )


def _predict(
    source: weights.Weights,
    results: dict[Path, Path],
    output: Path,
    on_done: Callable[[Path], None],
) -> list[str]:
    """Write the results of what the weights are for; return a sentence for each damaged image."""
    given = flags.FLAGS
    names = tuple(given.class_names)
    if source.kind == "classification":
        classifier = Classifier.from_weights(source, names)
        found, failures = classify(classifier, list(results), on_done)
        write_predictions(found, output / "predictions.csv")
        print_predictions(found)
        return failures
    if source.kind == "detection":
        detector = Detector.from_weights(source, names, least_score=given.score)
        return find_objects(detector, results, output, on_done)
    failures = segment(
        _segmenter(source), results, output, probabilities=given.probabilities, on_done=on_done
    )
    if given.submission:
        if failures:
            raise UserError(f"{given.submission} is not written: {failures[0]}")
        labels = [result.with_name(f"{result.name}.png") for result in results.values()]
        write_submission(labels, Path(given.submission))
    return failures


def _segmenter(source: weights.Weights) -> Segmenter:
    given = flags.FLAGS
    return Segmenter.from_weights(
        source,
        tuple(given.class_names),
        long_side=given.long_side,
        scales=command.numbers("scales", given.scales),
        flip=given.flip,
    )


def _predict_videos(
    source: weights.Weights, videos: dict[str, Path], progress: Progress
) -> list[str]:
    """Write the results of each video; return a sentence for each that cannot be read whole.

    Raises:
        UserError: the weights are not for segmentation.
    """
    if source.kind != "segmentation":
        raise UserError(f"Videos are for segmentation, these weights are for {source.kind}.")
    segmenter = _segmenter(source)
    failures = []
    for video, result in videos.items():
        task = progress.add_task("", total=frame_count(video))
        try:
            segment_video(segmenter, video, result, partial(progress.advance, task))
        except UserError as error:
            failures.append(str(error))
    return failures


def _listed() -> list[str]:
    try:
        lines = split_lines(sys.stdin.buffer.read(), "surrogateescape")
    except ValueError as error:
        raise UserError(f"The list on standard input is no text ({error}); use UTF-8.") from error
    return [line for line in lines if line.strip()]


if __name__ == "__main__":
    # Here, not above: commands share flag names, and a program may import several of them.
    command.define_weights()
    flags.DEFINE_string("output", None, "Folder for the results.")
    flags.DEFINE_bool(
        "probabilities", False, "Also write NAME.npz: `probabilities` (H, W, classes), float16."
    )
    flags.DEFINE_integer(
        "long_side",
        None,
        "Longer photographs are scaled down to this for the network, by default to its own "
        "model.long_side; 0: not.",
        lower_bound=0,
    )
    flags.DEFINE_list("scales", ["1"], "Segmentation: scales to average, such as 0.75,1,1.25.")
    flags.DEFINE_bool("flip", False, "Segmentation: average with the mirror image.")
    flags.DEFINE_string(
        "submission", None, "Also write the labels as an archive for VOC's server, such as voc.tgz."
    )
    flags.DEFINE_float("score", SHOWN_SCORE, "Detection: boxes of this score or more are shown.")
    flags.DEFINE_list("class_names", [], "What the classes are, where the weights do not say.")
    command.run(main, takes_arguments=True)
