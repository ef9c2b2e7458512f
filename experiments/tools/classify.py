"""ImageNet classification with MobileNetV2, and its top-1 on a folder of labelled photographs.

Photographs are scaled to a short side of 256, and the central 224 x 224 is classified. File names
begin with the number of the ImageNet class, then its name: 0207_n02099601_golden_retriever.jpg.

    python -m experiments.tools.classify --weights tf2_mobilenet_v2_1.0_224_ptq.tflite FOLDER
"""

import re
from pathlib import Path

import cv2
import jax
import numpy as np
from absl import flags
from flax import nnx
from rich.progress import track

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.data.decode import read_image
from deeplab_mnv2.data.photographs import is_image
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.classifier import Classifier

SIZE, SHORT_SIDE = 224, 256
_NAME = re.compile(r"(?P<label>\d+)_(?:n\d{8}_)?(?P<words>.+)")


@nnx.jit
def top_5(model: Classifier, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the probabilities and the ImageNet classes (0 to 999) of the five likeliest.

    `image` is (B, 224, 224, 3) in grey levels; both results are (B, 5).
    """
    probabilities = jax.nn.softmax(model(model.normalize(image)))
    # In models of 1,001 classes the first is the background.
    return jax.lax.top_k(probabilities[:, -1000:], 5)


def central_crop(image: np.ndarray) -> np.ndarray:
    """Return the central (224, 224, 3) of an image scaled to a short side of 256."""
    height, width = image.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    size = max(SIZE, round(width * scale)), max(SIZE, round(height * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (image.shape[0] - SIZE) // 2, (image.shape[1] - SIZE) // 2
    return image[top : top + SIZE, left : left + SIZE]


def main(arguments: list[str]) -> None:
    """Print the five likeliest classes of a few photographs, and top-1 and top-5 of all."""
    given = flags.FLAGS
    if len(arguments) != 1 or not given.weights:
        raise UserError("Give --weights FILE and one folder of photographs.")
    paths = [path for path in sorted(Path(arguments[0]).glob("[!.]*")) if is_image(path)]
    named = [(path, match) for path in paths if (match := _NAME.match(path.stem))]
    if not named:
        raise UserError(f"{arguments[0]} holds no photograph named like 0207_golden_retriever.jpg.")
    model = weights.load_classifier(given.weights)
    words = {int(match["label"]): match["words"].replace("_", " ") for _, match in named}
    ranks = []
    for index, (path, match) in enumerate(track(named, description="classifying")):
        probabilities, classes = top_5(model, central_crop(read_image(path))[None])
        found = [int(name) for name in classes[0]]
        label = int(match["label"])
        ranks.append(found.index(label) if label in found else 5)
        if given.show and index % max(1, len(named) // given.show) == 0:
            likeliest = zip(found, probabilities[0], strict=True)
            listed = ", ".join(f"{words.get(c, f'class {c}')} {p:.2f}" for c, p in likeliest)
            print(f"{words[label]}: {listed}")
    hits = np.asarray(ranks)
    print(f"top-1 {np.mean(hits == 0):.3f}, top-5 {np.mean(hits < 5):.3f} on {len(hits)} images")


if __name__ == "__main__":
    flags.DEFINE_string("weights", "", "ImageNet classifier: a file, a folder or hf://owner/name.")
    flags.DEFINE_integer("show", 10, "Photographs whose five likeliest classes are printed.")
    command.run(main, takes_arguments=True)
