"""Which gradient of a depthwise kernel is cheaper on a TPU: the grouped convolution's, or sums?

    pip install -e ".[ahead]"
    python -m experiments.tools.kernel_gradient

Compiles both for one v5e chip, for layers of DeepLab with 8 images of 513 x 513 in bfloat16, and
prints the bytes of main memory and the compiler's estimate of the cycles (`tools/hlo.py`).
"""

import functools

import jax
import jax.numpy as jnp

from deeplab_mnv2.cli import command
from deeplab_mnv2.config import TrainConfig
from deeplab_mnv2.models.ops import depthwise
from deeplab_mnv2.models.ops.taps import Window
from deeplab_mnv2.sharding import make_mesh, replicated
from experiments.ahead_of_time import tpus
from experiments.tools import hlo

_TOPOLOGY = "v5e:1x1"
# Side and channels of the input, stride, dilation.
_LAYERS = ((257, 96, 2, 1), (129, 144, 1, 1), (33, 384, 1, 1), (33, 960, 1, 2))
_FORMS = {
    "grouped convolution": depthwise._grouped_kernel_gradient,
    "sums of products": depthwise._summed_kernel_gradient,
}


def main() -> None:
    """Compile and print."""
    whole = replicated(make_mesh(TrainConfig(), tpus(_TOPOLOGY)))
    for side, channels, stride, dilation in _LAYERS:
        print(f"8 x {side} x {side} x {channels}, stride {stride}, dilation {dilation}")
        window, rows = Window(stride, dilation, "same"), -(-side // stride)
        x, kernel, dy = (
            jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=whole)
            for shape in (
                (8, side, side, channels),
                (3, 3, 1, channels),
                (8, rows, rows, channels),
            )
        )
        for name, form in _FORMS.items():
            traced = jax.jit(functools.partial(form, window)).trace(x, kernel, dy)
            compiled = traced.lower(lowering_platforms=("tpu",)).compile()
            program = hlo.instructions(compiled.as_text())
            moved = sum(hlo.traffic(program).values()) / 2**20
            print(f"  {name:20} {moved:7.1f} MiB {hlo.cycles(program) / 1e6:7.2f} M cycles")


if __name__ == "__main__":
    command.run(main)
