"""Our network, and the same one as JAX users write it: with `nnx.Conv` and `nnx.BatchNorm`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from deeplab_mnv2.config import (
    IGNORE_LABEL,
    Config,
    DataConfig,
    DetectionDataConfig,
    DetectionEvaluationConfig,
    MultiBox,
    OptimizerConfig,
    SsdLiteConfig,
    TrainConfig,
)
from deeplab_mnv2.data.shapes import Shapes
from deeplab_mnv2.data.shapes_boxes import ShapesBoxes
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models.deeplab import DeepLab
from deeplab_mnv2.models.layers import Conv, ConvNormAct, SeparableConv
from deeplab_mnv2.models.mobilenet_v2 import InvertedResidual
from deeplab_mnv2.models.ssdlite import SSDLite
from deeplab_mnv2.sharding import make_mesh
from deeplab_mnv2.tasks.task_of import task_of
from deeplab_mnv2.training.optimizer import make_optimizer
from deeplab_mnv2.training.state import create_state
from deeplab_mnv2.training.step import make_train_step
from experiments.benchmarking.case import Case

# Length of the schedule; it does not affect the time of a step.
_STEPS = 30_000


@dataclasses.dataclass
class Program:
    """A compiled program and its inputs; a call runs it once and waits for the result."""

    executable: Any
    inputs: tuple[Any, ...]
    # The first input is donated; the first output replaces it in the next call.
    carries_state: bool

    def __call__(self) -> Any:
        output = jax.block_until_ready(self.executable(*self.inputs))
        if self.carries_state:
            self.inputs = (output[0], *self.inputs[1:])
            return output[1]
        return output

    @property
    def bytes_moved(self) -> float:
        """Bytes read and written by all operations, as the compiler counts them."""
        return self.executable.cost_analysis().get("bytes accessed", float("nan"))

    @property
    def peak_bytes(self) -> int:
        """Bytes of arguments, results and temporaries; aliased buffers count once."""
        memory = self.executable.memory_analysis()
        return (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )


def ours(case: Case, model: DeepLab | SSDLite) -> Program:
    """Return the forward pass, or the training step of `deeplab_mnv2.train`."""
    batch = jax.tree.map(jnp.asarray, case.batch())
    if case.kind == "forward":
        model.eval()
        # Weights are constants of the program, as in `Segmenter` and the inference runtimes.
        forward = jax.jit(lambda image: model(model.normalize(image)))
        inputs = (batch["image"],)
        return Program(forward.lower(*inputs).compile(), inputs, False)
    train = TrainConfig(batch_size=case.batch_size)
    if isinstance(model.config, SsdLiteConfig):
        boxes = DetectionDataConfig(
            train=ShapesBoxes(split="train"), val=ShapesBoxes(split="val"), crop_size=case.size
        )
        config = Config(
            boxes,
            model.config,
            loss=MultiBox(),
            train=train,
            evaluation=DetectionEvaluationConfig(),
        )
    else:
        scenes = DataConfig(train=Shapes(split="train"), val=Shapes(split="val"))
        config = Config(scenes, model.config, train=train)
    optimizer = make_optimizer(config.optimizer, _STEPS, nnx.state(model, nnx.Param))
    graphdef, state = create_state(model, optimizer, config.train)
    mesh = make_mesh(config.train)
    step = make_train_step(graphdef, optimizer, task_of(config), config.train, mesh, state)
    # Compiled once: the state is returned with the sharding it came with.
    return Program(step.lower(state, batch).compile(), (state, batch), True)


def plain(case: Case, model: DeepLab | SSDLite) -> Program:
    """Return the same for the plain network, with Optax's loss and the same update rule."""
    if not isinstance(model, DeepLab):
        raise UserError(f"There is no plain JAX network for {case.name}; name other --peers.")
    image, label = (jnp.asarray(array) for array in case.batch().values())
    network = PlainNetwork(model)
    if case.kind == "forward":
        network.eval()
        graphdef, state = nnx.split(network)

        def forward(state: nnx.State, image: Array) -> Array:
            return nnx.merge(graphdef, state, copy=True)((image - 127.5) / 127.5)

        inputs = state, image
        return Program(jax.jit(forward).lower(*inputs).compile(), inputs, False)
    recipe = OptimizerConfig()
    optimizer = optax.chain(
        optax.add_decayed_weights(recipe.weight_decay), optax.sgd(recipe.learning_rate, 0.9)
    )
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)

    def train(state: Any, image: Array, label: Array) -> tuple[Any, Array]:
        params, rest, opt_state = state

        def loss(params: nnx.State) -> tuple[Array, nnx.State]:
            network = nnx.merge(graphdef, params, rest, copy=True)
            logits = network((image - 127.5) / 127.5)
            labelled = label != IGNORE_LABEL
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, jnp.where(labelled, label, 0).astype(jnp.int32)
            )
            _, _, rest_after = nnx.split(network, nnx.Param, ...)
            return jnp.sum(losses, where=labelled) / jnp.sum(labelled), rest_after

        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), rest, opt_state), value

    inputs = (params, rest, optimizer.init(params)), image, label
    step = jax.jit(train, donate_argnums=0)
    return Program(step.lower(*inputs).compile(), inputs, True)


class PlainLayer(nnx.Module):
    """`nnx.Conv` (grouped where depthwise), `nnx.BatchNorm` and activation, with our weights."""

    def __init__(self, layer: ConvNormAct):
        self.conv = _convolution(layer.conv)
        ours = layer.norm
        self.norm = nnx.BatchNorm(
            ours.num_features,
            epsilon=ours.epsilon,
            momentum=ours.momentum,
            dtype=layer.conv.dtype,
            rngs=nnx.Rngs(0),
        )
        nnx.update(self.norm, nnx.state(ours))
        self.activation: Callable[[Array], Array] = layer.activation or _identity

    def __call__(self, x: Array) -> Array:
        return self.activation(self.norm(self.conv(x)))


class PlainBlock(nnx.Module):
    """Expand, depthwise, project, and the shortcut."""

    def __init__(self, block: InvertedResidual):
        parts = (block.expand, block.depthwise, block.project)
        self.layers = nnx.List([PlainLayer(part) for part in parts if part is not None])
        self.has_shortcut = block.shortcut == "bottleneck"

    def __call__(self, x: Array) -> Array:
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + y if self.has_shortcut else y


class PlainNetwork(nnx.Module):
    """DeepLab on MobileNetV2 (B, H, W, 3) -> logits (B, H, W, classes)."""

    def __init__(self, model: DeepLab):
        backbone, aspp = model.backbone, model.aspp
        blocks = (PlainBlock(block) for stage in backbone.stages for block in stage)
        self.backbone = nnx.List([PlainLayer(backbone.stem), *blocks])
        self.image_pool = PlainLayer(aspp.image_pool)
        self.branches = nnx.List([nnx.List(_layers(branch)) for branch in aspp.branches])
        self.project = PlainLayer(aspp.project)
        self.dropout = nnx.Dropout(model.config.dropout, rngs=nnx.Rngs(0))
        self.classifier = _convolution(model.classifier)

    def __call__(self, image: Array) -> Array:
        x = image
        for block in self.backbone:
            x = block(x)
        pooled = self.image_pool(jnp.mean(x, (1, 2), keepdims=True))
        branches = [jnp.broadcast_to(pooled, (*x.shape[:3], pooled.shape[-1]))]
        for layers in self.branches:
            y = x
            for layer in layers:
                y = layer(y)
            branches.append(y)
        x = self.dropout(self.project(jnp.concatenate(branches, -1)))
        x = self.classifier(x).astype(jnp.float32)
        return jax.image.resize(x, (*image.shape[:3], x.shape[-1]), "linear", antialias=False)


def _convolution(conv: Conv) -> nnx.Conv:
    size, _, _, channels = conv.kernel.shape
    pad = conv.dilation * (size - 1) // 2
    copy = nnx.Conv(
        channels if conv.depthwise else conv.kernel.shape[2],
        channels,
        (size, size),
        strides=conv.stride,
        padding=((pad, pad), (pad, pad)),
        kernel_dilation=conv.dilation,
        feature_group_count=channels if conv.depthwise else 1,
        use_bias=conv.bias is not None,
        dtype=conv.dtype,
        rngs=nnx.Rngs(0),
    )
    copy.kernel[...] = conv.kernel[...]
    return copy


def _layers(branch: nnx.Module) -> list[PlainLayer]:
    if isinstance(branch, SeparableConv):
        return [PlainLayer(branch.depthwise), PlainLayer(branch.pointwise)]
    return [PlainLayer(branch)]


def _identity(x: Array) -> Array:
    return x
