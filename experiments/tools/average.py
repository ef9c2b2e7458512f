"""The mean of several networks' weights, a network as well (model soups, arXiv:2203.05482).

  python -m experiments.tools.average --output mean.safetensors runs/one runs/two runs/three
  python -m deeplab_mnv2.evaluate --config PAGE --weights mean.safetensors --output DIR
  python -m experiments.tools.average --output mean.safetensors --scores DIR runs/one runs/two ...

The networks must have begun as one, its head included, like several seeds of a fine-tuning: then
they lie close together, and their mean costs what one of them does. Norm statistics are averaged
too. Each may be anything that `--weights` takes. The last line keeps the scores in the file.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from deeplab_mnv2 import weights
from deeplab_mnv2.cli import command
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.weights.native import public_source
from deeplab_mnv2.weights.run import scores_in


def mean_of(sources: Sequence[weights.Weights]) -> weights.Weights:
    """Return the weights whose every tensor is the mean over `sources`.

    Raises:
        UserError: they are of different networks or classes, or none is given.
    """
    if not sources:
        raise UserError("Name the weights to average, such as runs/one runs/two.")
    first = sources[0]
    for other in sources[1:]:
        if (other.config, other.class_names) != (first.config, first.class_names):
            raise UserError(
                f"{other.provenance['source']} holds another network than "
                f"{first.provenance['source']}, or other classes; average networks of one page."
            )
    tensors = {
        name: np.mean([source.tensors[name] for source in sources], axis=0, dtype=np.float64)
        for name in first.tensors
    }
    norms = {source.provenance.get("norm") for source in sources}
    if len(norms) > 1:
        raise UserError(
            "Some of these networks have their norm folded into the kernels and some have not; "
            "average networks of one page."
        )
    # Training from the mean calibrates a folded norm, as from one of them.
    norm = {"norm": "folded"} if norms == {"folded"} else {}
    names = ", ".join(public_source(source.provenance["source"]) for source in sources)
    return weights.Weights(
        {name: tensor.astype(np.float32) for name, tensor in tensors.items()},
        first.config,
        {"source": "mean", "mean_of": names, **norm},
        class_names=first.class_names,
        scaling=first.scaling,
    )


def main(arguments: list[str]) -> None:
    """Run the command."""
    if not flags.FLAGS.output:
        raise UserError("Give --output FILE, the file to write.")
    output = Path(flags.FLAGS.output)
    command.require_writable(output.parent, "--output")
    if len({*arguments}) < len(arguments):
        raise UserError("One of the networks is named twice; name each once.")
    mean = mean_of([weights.read(source) for source in arguments])
    if flags.FLAGS.scores:
        mean.scores = scores_in(Path(flags.FLAGS.scores, "eval.json"), mean)
        if mean.scores is None:
            raise UserError(
                f"{flags.FLAGS.scores} has no scores of this mean; evaluate the file that is "
                "written without --scores."
            )
    weights.save(output, mean)
    print(f"{output}: the mean of {len(arguments)} networks")


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "File to write, .safetensors.")
    flags.DEFINE_string("scores", "", "Folder that evaluate wrote for the mean, to keep with it.")
    command.run(main, takes_arguments=True)
