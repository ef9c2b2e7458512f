"""A page in the browser that shows what a network makes of your photographs.

  python -m deeplab_mnv2.demo [--weights FILE] [--port 7860]

By default the network is the package's own. Needs pip install 'deeplab_mnv2[demo]'. The page is
served to this machine alone, and nothing is sent elsewhere.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.files import optional_module
from deeplab_mnv2.tasks.classification.classifier import Classifier
from deeplab_mnv2.tasks.detection.detector import Detector
from deeplab_mnv2.tasks.segmentation.segmenter import Segmenter

_TITLES = {
    "segmentation": "The class of each pixel",
    "classification": "What the photograph shows",
    "detection": "The objects in the photograph",
}
# From a photograph (H, W, 3) uint8 to a picture of what was found, and shares by name.
Answer = Callable[[np.ndarray], tuple[Image.Image, dict[str, float]]]


def answer_of(source: weights.Weights) -> Answer:
    """Return what a network makes of a photograph.

    The shares are of the pixels, for segmentation; probabilities of the likeliest classes, for
    classification; and the score of the surest object of each class, for detection.

    Raises:
        UserError: the weights are a backbone alone.
    """
    if source.kind == "classification":
        classifier = Classifier.from_weights(source)
        return lambda photo: (Image.fromarray(photo), dict(classifier(photo).top()))
    if source.kind == "detection":
        return partial(_objects, Detector.from_weights(source))
    return partial(_pixels, Segmenter.from_weights(source))


def _objects(detector: Detector, photo: np.ndarray) -> tuple[Image.Image, dict[str, float]]:
    found = detector(photo)
    # The surest comes last, so that it is the one that stays.
    pairs = zip(found.classes[::-1], found.scores.tolist()[::-1], strict=True)
    return found.overlay(), dict(pairs)


def _pixels(segmenter: Segmenter, photo: np.ndarray) -> tuple[Image.Image, dict[str, float]]:
    found = segmenter(photo)
    return found.overlay(legend=True), found.classes()


def make_page(answer: Answer, title: str) -> Any:
    """Return the page, a `gradio.Interface`.

    Raises:
        UserError: Gradio is not installed.
    """
    gradio = optional_module("gradio", extra="demo")

    def respond(photo: np.ndarray | None) -> tuple[Image.Image | None, dict[str, float]]:
        # The page asks when its photograph is taken away, too.
        return (None, {}) if photo is None else answer(photo)

    return gradio.Interface(
        respond,
        gradio.Image(label="Photograph", type="numpy", image_mode="RGB"),
        [gradio.Image(label="Found", format="png"), gradio.Label(label="Classes")],
        title=title,
        live=True,
        flagging_mode="never",
        analytics_enabled=False,
    )


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    # Before Gradio is imported: it asks for its newest version over the network otherwise.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    source = weights.read(command.weights_source(str(weights.PACKAGED)))
    page = make_page(answer_of(source), _TITLES[source.kind])
    page.launch(server_name="127.0.0.1", server_port=given.port, share=False, inbrowser=True)


if __name__ == "__main__":
    # Here, not above: commands share flag names, and a program may import several of them.
    command.define_weights()
    flags.DEFINE_integer("port", 7860, "Where the page is: http://127.0.0.1:PORT.")
    command.run(main)
