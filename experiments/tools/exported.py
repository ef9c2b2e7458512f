"""The score of an exported file on a data set, in its own runtime, by the rules of `evaluate`.

  python -m experiments.tools.exported --config experiments/voc_qat.py:VOC2012 \\
      --weights runs/voc_qat@best --file voc_int8.tflite --output runs/voc_int8

`--weights` is what the file was exported from. Leaves what `evaluate` leaves, so that `compare`
takes it, and tells on how many pixels the classes of file and network agree, how far their logits
are apart, and how long the file takes for an image.
"""

import importlib
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from jax import Array
from rich.progress import Progress

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.config import EvaluationConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.sharding import make_mesh
from deeplab_mnv2.tasks.segmentation.counting import histograms
from deeplab_mnv2.tasks.segmentation.evaluator import SegmentationEvaluator

_RUNTIMES = {".tflite": "litert", ".onnx": "onnx"}


class FileScorer:
    """Predicts with an exported file and counts as the evaluator does; compares as it goes."""

    def __init__(self, path: Path, model: DeepLab, config: EvaluationConfig):
        if path.suffix not in _RUNTIMES:
            raise UserError(f"{path} is no file of {' or '.join(_RUNTIMES)}; give such a --file.")
        # Not above: each needs a package of its own.
        runtime = importlib.import_module(f"deeplab_mnv2.exporting.{_RUNTIMES[path.suffix]}")
        self._run = runtime.load(path.read_bytes(), model)
        self._logits = jax.jit(lambda image: model(model.normalize(image)))
        self._count = jax.jit(
            lambda prediction, confidence, batch: histograms(
                prediction, confidence, batch, config, model.config.num_classes
            )
        )
        self.same: list[float] = []
        self.apart: list[float] = []
        self.seconds: list[float] = []

    def __call__(self, _params: Any, _stats: Any, batch: dict[str, Array]) -> tuple[Array, Any]:
        """Return the predictions (B, H, W) of a batch and the histograms of `make_scorer`."""
        found = [self._logits_of(image[None]) for image in np.asarray(batch["image"])]
        probability = jax.nn.softmax(jnp.concatenate(found))
        prediction = jnp.argmax(probability, axis=-1)
        counts = self._count(prediction, jnp.max(probability, axis=-1), batch)
        return prediction.astype(jnp.uint8), counts

    def _logits_of(self, image: np.ndarray) -> Array:
        began = time.perf_counter()
        (logits,) = self._run(image)
        self.seconds.append(time.perf_counter() - began)
        expected = np.asarray(self._logits(image))
        self.same.append(float(np.mean(logits.argmax(-1) == expected.argmax(-1))))
        self.apart.append(float(np.abs(logits - expected).max()))
        return jnp.asarray(logits)

    def _cache_size(self) -> int:
        return self._count._cache_size()  # type: ignore[attr-defined]


def main() -> None:
    """Run the command."""
    given = flags.FLAGS
    config = given.config
    model = weights.build_deeplab(weights.read(command.weights_source(str(weights.PACKAGED))))
    scorer = FileScorer(Path(given.file), model, config.evaluation)
    # One image at a time, as the file takes them.
    config.evaluation.batch_size = 1
    evaluator = SegmentationEvaluator(
        model,
        config.data.val,
        config.evaluation,
        threads=1,
        mesh=make_mesh(config.train),
        scorer=scorer,
    )
    output = Path(given.output or "runs/exported")
    command.require_writable(output, "--output")
    _, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    with Progress() as progress:
        task = progress.add_task("evaluating", total=len(evaluator))
        evaluation = evaluator(
            params, statistics, progress=lambda images: progress.advance(task, images)
        )
    evaluation.write(output)
    print(f"{evaluation.table()}\n{evaluation.summary()}; see {output / 'eval.json'}")
    print(
        f"same class as the network on {100 * np.mean(scorer.same):.3f} % of the pixels, logits "
        f"within {max(scorer.apart):.3g} ({_step_of(model)}); "
        f"{1000 * np.median(scorer.seconds):.1f} ms an image"
    )


def _step_of(model: DeepLab) -> str:
    if model.logits_range is None:
        return "a network without steps"
    return f"steps of {float(model.logits_range.step):.3g}"


if __name__ == "__main__":
    command.define_config()
    command.define_weights()
    flags.DEFINE_string("file", None, "The exported file, .tflite or .onnx.")
    flags.DEFINE_string("output", "", "Folder for the results; default runs/exported.")
    command.run(main)
