"""What a network is trained to do: the seam between the tasks and all that they share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh


class Evaluation(Protocol):
    """A data set scored; `result` is the content of `eval.json`."""

    @property
    def result(self) -> dict[str, Any]: ...

    def warnings(self) -> list[str]:
        """Return what a user should know of these scores while a run is in progress."""
        ...

    def shown(self) -> dict[str, np.ndarray]:
        """Return a few pictures (H, W, 3) uint8 by name, for TensorBoard."""
        ...

    def summary(self) -> str:
        """Return the scores in one line."""
        ...

    def conditions(self) -> str:
        """Return in a few words how the images were scored, from the protocol."""
        ...

    def table(self) -> str:
        """Return the scores of each class, a line each."""
        ...

    def write(self, folder: Path) -> None:
        """Write `eval.json` and all that comparisons and reports need, whole or not at all."""
        ...


class Evaluator(Protocol):
    """Scores parameters on a data set; compiled once, however often it is called."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __call__(
        self,
        params: nnx.State,
        batch_stats: nnx.State,
        *,
        pictures: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Evaluation:
        """Return the scores and `pictures` examples; `progress` gets the images done at a time."""
        ...


class Task(Protocol):
    """What training and the commands ask of a task; they know nothing else of it."""

    @property
    def score(self) -> str:
        """The key of `eval.json` by which the best checkpoint is kept."""
        ...

    def network(self, rngs: nnx.Rngs) -> Any:
        """Return the network, in training mode, with random weights."""
        ...

    def augment(self, example: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Return one training example of fixed shapes, `image` among its arrays."""
        ...

    def loss(
        self, network: Any, batch: Mapping[str, Array], step: Array, rngs: nnx.Rngs
    ) -> tuple[Array, Array]:
        """Return the loss of a batch as a sum and what to divide it by, both scalars.

        Apart, so that the parts of an accumulated or sharded batch add up to the loss of the
        batch. No gradient flows through the divisor; where it is 0, the sum is divided by 1.
        """
        ...

    def evaluator(self, network: Any, mesh: Mesh) -> Evaluator:
        """Return what scores the network on the validation data.

        Raises:
            UserError: the data set cannot be opened or read.
        """
        ...
