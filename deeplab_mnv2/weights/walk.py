"""The network in a graph, found by walking it, whatever its tensors are called."""

from typing import Any

import numpy as np
from flax import nnx

from deeplab_mnv2.config import BackboneConfig
from deeplab_mnv2.errors import UserError
from deeplab_mnv2.models import layers
from deeplab_mnv2.models.mobilenet_v2 import STAGES
from deeplab_mnv2.weights.graph import Add, Concat, Conv, Graph, Pool, Resize, Tensor
from deeplab_mnv2.weights.model_weights import Weights, abstract_model
from deeplab_mnv2.weights.naming import BLOCKS, CONFIGS, Kind, is_logits, read_width, unfolded

_NORM_FIELDS = ("scale", "bias", "mean", "var")


def from_graph(graph: Graph, provenance: dict[str, str]) -> Weights:
    """Return the weights in a graph.

    Where norm was folded into the convolutions, the folded bias comes back as a norm layer that
    adds it, which is exact for inference (`calibrate` makes it fit for training).

    Raises:
        UserError: the graph is not a network of this family.
    """
    return from_walk(Walk(graph, provenance["source"]), provenance)


def from_walk(walk: "Walk", provenance: dict[str, str]) -> Weights:
    """Return the weights that a walk finds (see `from_graph`)."""
    kind = walk.network()
    kernels = {f"{name}.conv.kernel": conv.kernel for name, conv in walk.layers.items()}
    config = walk.config(kind, *read_width(kernels, walk.path))
    tensors, is_folded = {}, False
    for name, conv in walk.layers.items():
        if is_logits(name):
            tensors |= {f"{name}.kernel": conv.kernel, f"{name}.bias": conv.bias}
            continue
        tensors[f"{name}.conv.kernel"] = conv.kernel
        if conv.norm is None:
            is_folded = True
            fields = unfolded(getattr(config, _epsilon_of(name)), conv.bias)
        else:
            fields = {field: getattr(conv.norm, field) for field in _NORM_FIELDS}
        tensors |= {f"{name}.norm.{field}": array for field, array in fields.items()}
    if is_folded:
        provenance = {**provenance, "norm": "folded"}
    tensors = {k: np.ascontiguousarray(array, np.float32) for k, array in tensors.items()}
    return Weights(tensors, config, provenance)


class Walk:
    """One pass over a graph from image to logits that names each convolution on the way."""

    def __init__(self, graph: Graph, path: str):
        self.graph = graph
        self.path = path
        self.layers: dict[str, Conv] = {}
        self.shortcuts: set[str] = set()
        self.atrous_dilations: list[int] = []

    def network(self) -> Kind:
        """Name every layer and return what the network is for."""
        features = self.backbone()
        kind: Kind = "backbone"
        if any(pool.input == features for pool in self.nodes(Pool)):
            kind = "segmentation"
            self.take("classifier", self.aspp(features), "none")
        elif any(conv.input == features for conv in self.nodes(Conv)):
            kind = "classification"
            x = self.take("head", features, "relu6").output
            self.take("classifier", self.pool(x), "none")
        if left_over := len(self.nodes(Conv)) - len(self.layers):
            raise self.other(f"{left_over} of its convolutions are left over")
        return kind

    def backbone(self) -> Tensor:
        """Name the backbone's layers and return the tensor of its features."""
        stem = self.take("backbone.stem", self.graph.input, "relu6", kernel_size=3)
        x, channels = stem.output, stem.kernel.shape[-1]
        expansions = [expansion for expansion, _, repeats, _ in STAGES for _ in range(repeats)]
        for block, expansion in zip(BLOCKS, expansions, strict=True):
            expanded = x
            if expansion > 1:
                expanded = self.take(f"{block}.expand", x, "relu6").output
            depthwise = self.take(
                f"{block}.depthwise", expanded, "relu6", kernel_size=3, depthwise=True
            )
            # Where a block keeps its shape a shortcut may run, in one of two places.
            filtered = self.summed(depthwise.output, expanded)
            # Linear in the published networks; the paper's ablation has ReLU6 there.
            project = self.take(f"{block}.project", filtered, "none", "relu6")
            output = self.summed(project.output, x)
            if output != project.output:
                self.shortcuts.add("bottleneck")
            elif filtered != depthwise.output:
                self.shortcuts.add("expansion")
            elif depthwise.stride == 1 and project.kernel.shape[-1] == channels:
                self.shortcuts.add("none")
            x, channels = output, project.kernel.shape[-1]
        return x

    def aspp(self, features: Tensor) -> Tensor:
        """Name the head's layers and return the tensor that the logits read."""
        pooled = self.take("aspp.image_pool", self.pool(features), "relu").output
        for resize in self.nodes(Resize):
            if resize.input == pooled:
                self.compare_window(features, resize)
                pooled = resize.output
        concats = [concat for concat in self.nodes(Concat) if pooled in concat.inputs]
        if len(concats) != 1:
            raise self.other("its image pooling is not concatenated")
        # Our order is image pooling, the 1x1 branch, the atrous ones.
        order = {pooled: (0, 0)}
        for tensor in concats[0].inputs:
            if tensor == pooled:
                continue
            conv = self.producer(tensor)
            depthwise = self.producer(conv.input) if conv.input != features else None
            if depthwise is None and conv.kernel.shape[0] == 1:
                branch = 0
            else:
                self.atrous_dilations.append((depthwise or conv).dilation)
                branch = len(self.atrous_dilations)
            order[tensor] = (1, branch)
            name = f"aspp.branches.{branch}"
            if depthwise is None:
                size = conv.kernel.shape[0]
                self.take(name, features, "relu", kernel_size=size, output=tensor)
            else:
                self.take(
                    f"{name}.depthwise",
                    features,
                    "relu",
                    kernel_size=3,
                    depthwise=True,
                    output=depthwise.output,
                )
                self.take(f"{name}.pointwise", depthwise.output, "relu")
        project = self.take("aspp.project", concats[0].output, "relu")
        sizes = [self.producer(self.before_resize(t)).kernel.shape[-1] for t in concats[0].inputs]
        rows = np.split(project.kernel, np.cumsum(sizes)[:-1], axis=2)
        ranked = sorted(range(len(rows)), key=lambda i: order[concats[0].inputs[i]])
        project.kernel = np.concatenate([rows[i] for i in ranked], axis=2)
        return project.output

    def config(self, kind: Kind, width_multiplier: float, divisible_by: int) -> BackboneConfig:
        """Return the settings the graph was made with, checked against its strides."""
        stem = self.layers["backbone.stem"]
        strides = [self.layers[f"{block}.depthwise"].stride for block in BLOCKS]
        output_stride = stem.stride * int(np.prod(strides))
        paddings = frozenset.intersection(*(conv.paddings for conv in self.layers.values()))
        if not paddings:
            raise self.other("its convolutions are padded by different rules")
        if len(self.shortcuts) != 1:
            raise self.other("its shortcuts are not all of one kind")
        linear = {self.layers[f"{block}.project"].activation == "none" for block in BLOCKS}
        if len(linear) != 1:
            raise self.other("its projections are not all linear")
        corners = {resize.align_corners for resize in self.nodes(Resize)} - {None}
        if len(corners) > 1:
            raise self.other("it resizes by different rules")
        config: Any = CONFIGS[kind](
            in_channels=stem.kernel.shape[2],
            output_stride=output_stride,
            width_multiplier=width_multiplier,
            divisible_by=divisible_by,
            linear_bottleneck=linear.pop(),
            shortcut=self.shortcuts.pop(),
            padding="same" if "same" in paddings else "symmetric",
        )
        self.set_input_range(config)
        self.set_epsilons(config)
        if "classifier" in self.layers:
            config.num_classes = self.layers["classifier"].kernel.shape[-1]
        if kind == "segmentation":
            config.align_corners = corners.pop() if corners else True
            config.head_channels = self.layers["aspp.project"].kernel.shape[-1]
            config.separable_aspp = "aspp.branches.1.depthwise" in self.layers
            # Rates are given for output stride 16.
            config.atrous_rates = tuple(d * output_stride // 16 for d in self.atrous_dilations)
        self.compare_dilations(config)
        return config

    def set_input_range(self, config: BackboneConfig) -> None:
        """Set the image's mean and std from a quantised input; a float one says nothing."""
        if self.graph.input_scale is None:
            return
        scale, zero_point = self.graph.input_scale
        mean, std = float(zero_point), 1 / scale
        # 127 or 128 is what quantisation makes of TensorFlow's 127.5.
        if abs(mean - 127.5) < 1 and abs(std - 127.5) < 1:
            return
        config.image_mean = (mean,) * config.in_channels
        config.image_std = (std,) * config.in_channels

    def set_epsilons(self, config: BackboneConfig) -> None:
        """Set the epsilon of each part from its norms; folded ones have none."""
        found: dict[str, set[float]] = {}
        for name, conv in self.layers.items():
            if is_logits(name) and conv.norm is not None:
                raise self.other("its logits have a norm")
            if conv.norm is not None:
                found.setdefault(_epsilon_of(name), set()).add(conv.norm.epsilon)
        for field, epsilons in found.items():
            if len(epsilons) > 1:
                part = field.removesuffix("_epsilon")
                raise self.other(f"the norms of its {part} have different epsilons")
            setattr(config, field, epsilons.pop())

    def compare_window(self, features: Tensor, resize: Resize) -> None:
        """Check that the pooling before a resizing averages all of what that restores."""
        (pool,) = (pool for pool in self.nodes(Pool) if pool.input == features)
        if pool.window and resize.size and pool.window != resize.size:
            raise self.other(f"it pools over {list(pool.window)} pixels, not over the whole image")

    def compare_dilations(self, config: BackboneConfig) -> None:
        """Check stride and dilation of every layer against our network's."""
        model = abstract_model(config)
        for path, module in nnx.iter_graph(model):
            name = ".".join(map(str, path)).removesuffix(".conv")
            if not isinstance(module, layers.Conv) or name not in self.layers:
                continue
            conv = self.layers[name]
            if (conv.stride, conv.dilation) != (module.stride, module.dilation):
                raise self.other(
                    f"{name} has stride {conv.stride} and dilation {conv.dilation}, not "
                    f"{module.stride} and {module.dilation}"
                )

    def take(
        self,
        name: str,
        source: Tensor,
        *activations: str,
        kernel_size: int = 1,
        depthwise: bool = False,
        output: Tensor | None = None,
    ) -> Conv:
        """Return the one convolution that reads `source`, and note it as layer `name`."""
        found = [
            conv
            for conv in self.nodes(Conv)
            if conv.input == source
            and conv.depthwise == depthwise
            and conv.kernel.shape[:2] == (kernel_size, kernel_size)
            and conv.activation in activations
            and output in (None, conv.output)
        ]
        if len(found) != 1:
            raise self.other(f"it has {len(found)} layers that could be {name}")
        self.layers[name] = found[0]
        return found[0]

    def summed(self, tensor: Tensor, other: Tensor) -> Tensor:
        """Return the sum of two tensors where the graph adds them, else the first."""
        for add in self.nodes(Add):
            if {*add.inputs} == {tensor, other}:
                return add.output
        return tensor

    def pool(self, source: Tensor) -> Tensor:
        pools = [pool for pool in self.nodes(Pool) if pool.input == source]
        if len(pools) != 1:
            raise self.other("its features are not pooled once")
        return pools[0].output

    def producer(self, tensor: Tensor) -> Conv:
        for conv in self.nodes(Conv):
            if conv.output == tensor:
                return conv
        raise self.other("a branch of its head is no convolution")

    def before_resize(self, tensor: Tensor) -> Tensor:
        return next((r.input for r in self.nodes(Resize) if r.output == tensor), tensor)

    def nodes(self, kind: type) -> list:
        return [node for node in self.graph.nodes if isinstance(node, kind)]

    def other(self, what: str) -> UserError:
        return UserError(f"{self.path} holds another network than this family's: {what}.")


def _epsilon_of(layer: str) -> str:
    """Return the setting that holds the epsilon of a layer's norm."""
    of_the_head = layer.startswith(("aspp", "extras", "box_heads", "class_heads"))
    return "head_epsilon" if of_the_head else "backbone_epsilon"
