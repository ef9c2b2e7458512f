"""The networks: one backbone, and what each task puts on it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from deeplab_mnv2.config.checks import Section
from deeplab_mnv2.errors import UserError

# Unlabelled pixels.
IGNORE_LABEL = 255


# Hashable, because networks keep their config as static data; nothing mutates it from there on.
@dataclasses.dataclass(unsafe_hash=True)
class BackboneConfig(Section):
    """A MobileNet and the convention its weights were trained under."""

    SECTION: ClassVar[str] = "model"

    # What the head tells apart; 0 for a bare backbone.
    num_classes: int = 0
    in_channels: int = 3
    # Which MobileNet: 2 (arXiv:1801.04381), or 1 (arXiv:1704.04861), which it is compared with.
    version: int = 2
    # Input size over feature size: 8, 16 or 32.
    output_stride: int = 16
    # Strides of the stem and of the second stage; (1, 1) for images of 32 pixels.
    early_strides: tuple[int, int] = (2, 2)
    # Channel multiplier, and what channels are rounded to.
    width_multiplier: float = 1.0
    divisible_by: int = 8
    # Figure 6 of MobileNetV2's paper: no activation after the projection; where the shortcut runs
    # ("bottleneck", "expansion" or "none").
    linear_bottleneck: bool = True
    shortcut: str = "bottleneck"
    # "same" is TensorFlow's padding, "symmetric" PyTorch's.
    padding: str = "same"
    backbone_epsilon: float = 1e-3
    backbone_momentum: float = 0.997
    # Input normalisation, in grey levels 0-255: (image - mean) / std.
    image_mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    image_std: tuple[float, ...] = (127.5, 127.5, 127.5)
    # Compute type; parameters and norm statistics stay float32.
    dtype: str = "float32"
    # Round kernels and activations to 8 bits, as the int8 file does, in ranges that are measured in
    # training and stored with the weights; `train.quantize_from` trains without at first.
    quantized: bool = False
    # Recompute each block in the backward pass: less memory, a third more time.
    remat: bool = False

    @property
    def mean_pixel(self) -> tuple[int, ...]:
        """The grey levels that padding is filled with: the mean, rounded."""
        return tuple(int(value + 0.5) for value in self.image_mean)

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: one is out of range.
        """
        self.require_one_of((1, 2), "version")
        self.require_one_of((8, 16, 32), "output_stride")
        self.require(set(self.early_strides) <= {1, 2}, "early_strides", "two numbers, 1 or 2")
        self.require(0 < self.width_multiplier <= 4, "width_multiplier", "above 0 and at most 4")
        for name in ("in_channels", "divisible_by"):
            self.require(1 <= getattr(self, name) <= 4096, name, "1 to 4096")
        self.require_one_of(("same", "symmetric"), "padding")
        self.require_one_of(("bottleneck", "expansion", "none"), "shortcut")
        if self.version == 1:
            self.require(self.linear_bottleneck, "linear_bottleneck", "True with model.version=1")
            self.require(
                self.shortcut == "bottleneck", "shortcut", "'bottleneck' with model.version=1"
            )
        self.require_one_of(("float32", "bfloat16"), "dtype")
        self.require(
            self.dtype == "float32" or not self.quantized,
            "dtype",
            "'float32' with model.quantized, whose steps bfloat16 cannot hold",
        )
        self._check_norm("backbone")
        for name in ("image_mean", "image_std"):
            self.require(
                len(getattr(self, name)) == self.in_channels,
                name,
                f"one number for each of model.in_channels={self.in_channels}",
            )
        self.require(min(self.image_std) > 0, "image_std", "numbers above 0")

    def _check_norm(self, part: str) -> None:
        self.require(0 < getattr(self, f"{part}_epsilon") < 1, f"{part}_epsilon", "in (0, 1)")
        self.require(0 <= getattr(self, f"{part}_momentum") < 1, f"{part}_momentum", "in [0, 1)")


@dataclasses.dataclass(unsafe_hash=True)
class DeepLabConfig(BackboneConfig):
    """Segmentation: DeepLabv3 on a MobileNet, public as `ModelConfig`.

    Defaults are TensorFlow DeepLab's `mobilenet_v2` for PASCAL VOC, without ASPP.
    """

    num_classes: int = 21
    # ASPP rates at output stride 16, scaled with the stride; () is the mobile head.
    atrous_rates: tuple[int, ...] = ()
    separable_aspp: bool = False
    head_channels: int = 256
    # 0 pools the whole image; a crop size in pixels fixes the window to that crop's features.
    image_pool_crop: int = 0
    # DeepLabv3+ decoder (arXiv:1802.02611).
    decoder: bool = False
    dropout: float = 0.1
    align_corners: bool = True
    # Images of more than 8 bits: the values that become grey levels 0 and 255; those beyond are
    # cut. () is 0 and 65,535 for 16 bits, and refuses floating-point numbers.
    value_range: tuple[float, ...] = ()
    # Longer side that `predict` scales longer photographs down to, so that objects are as large as
    # the network knows them; 0 scales nothing. VOC's 500 pixels enlarged fourfold score 0.67 mIoU
    # at 513, 0.57 at 1025 and 0.37 unscaled, in windows (24 images, Google's weights).
    long_side: int = 513
    head_epsilon: float = 1e-5
    head_momentum: float = 0.9997

    def check(self) -> None:
        super().check()
        self.require(2 <= self.num_classes < IGNORE_LABEL, "num_classes", "2 to 254")
        self.require(self.early_strides == (2, 2), "early_strides", "(2, 2) for segmentation")
        self.require(1 <= self.head_channels <= 4096, "head_channels", "1 to 4096")
        self.require(0 <= self.dropout < 1, "dropout", "in [0, 1)")
        self.require(min(self.atrous_rates, default=1) >= 1, "atrous_rates", "numbers of 1 or more")
        self.require_at_least(0, "image_pool_crop", "long_side")
        self.require(
            not self.value_range
            or (len(self.value_range) == 2 and self.value_range[0] < self.value_range[1]),
            "value_range",
            "two increasing numbers, or ()",
        )
        self.require(
            not (self.quantized and self.image_pool_crop),
            "image_pool_crop",
            "0 with model.quantized, whose pooling covers the image",
        )
        self._check_norm("head")


ModelConfig = DeepLabConfig


@dataclasses.dataclass(unsafe_hash=True)
class ClassifierConfig(BackboneConfig):
    """Image classification, the first table of the paper."""

    num_classes: int = 1000
    output_stride: int = 32
    dropout: float = 0.1

    def check(self) -> None:
        super().check()
        self.require(2 <= self.num_classes <= 100_000, "num_classes", "2 to 100,000")
        self.require(0 <= self.dropout < 1, "dropout", "in [0, 1)")


@dataclasses.dataclass(unsafe_hash=True)
class SsdLiteConfig(BackboneConfig):
    """Object detection: SSDLite on MobileNetV2, Section 6.2 of the paper.

    Defaults are those of TensorFlow's `ssdlite_mobilenet_v2_coco`, but for the momenta.
    """

    # Without background, for which the network has one slot more, its first.
    num_classes: int = 80
    output_stride: int = 32
    # Side of the square input in pixels. Boxes shift where weights run at another than their own.
    image_size: int = 300
    # False has SSD's plain 3x3 convolutions in place of depthwise ones and 1x1 (Table 5).
    separable: bool = True
    # TensorFlow's momenta are 0.9997, which suits runs of several 100,000 steps.
    backbone_momentum: float = 0.99
    head_epsilon: float = 1e-3
    head_momentum: float = 0.99
    # What the biases of the class logits start at; -4.6, a probability of 1 %, suits `FocalBox`.
    class_bias: float = 0.0

    def check(self) -> None:
        super().check()
        self.require(1 <= self.num_classes <= 10_000, "num_classes", "1 to 10,000")
        self.require(self.output_stride == 32, "output_stride", "32 for detection")
        self.require(self.early_strides == (2, 2), "early_strides", "(2, 2) for detection")
        self.require(33 <= self.image_size <= 4096, "image_size", "33 to 4096")
        self.require(-20 <= self.class_bias <= 20, "class_bias", "-20 to 20")
        self._check_norm("head")


# Fields that weights were trained under: changing one silently costs accuracy.
CONVENTION = (
    "version",
    "in_channels",
    "early_strides",
    "width_multiplier",
    "divisible_by",
    "linear_bottleneck",
    "shortcut",
    "separable_aspp",
    "separable",
    "head_channels",
    "decoder",
    "padding",
    "align_corners",
    "backbone_epsilon",
    "head_epsilon",
    "image_mean",
    "image_std",
)
# What networks are made of: a parameter belongs to the part that its name begins with. `head` is
# the last 1x1 convolution of MobileNetV2's image classifier and of the detector.
PARTS = (
    "backbone",
    "aspp",
    "decoder",
    "head",
    "extras",
    "box_heads",
    "class_heads",
    "classifier",
)
# What `train.freeze` can name; MobileNetV1 has five stages.
FREEZABLE = (
    "backbone",
    "aspp",
    "decoder",
    "head",
    "extras",
    "box_heads",
    "class_heads",
    "classifier",
    "backbone.stem",
    *(f"backbone.stages.{index}" for index in range(7)),
)


def model_from_dict(fields: Mapping[str, Any], kind: type[BackboneConfig] = DeepLabConfig) -> Any:
    """Return the config of class `kind` that `to_dict` wrote.

    Raises:
        UserError: a field is not known to this version, or of another type.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    # Until version 0.1 a backbone's and a classifier's file held the segmentation head's too.
    dropped = {field.name for field in dataclasses.fields(DeepLabConfig)} - known
    fields = {n: value for n, value in fields.items() if n != "type" and n not in dropped}
    if unknown := sorted(fields.keys() - known):
        raise UserError(
            f"The stored model setting {unknown[0]!r} is not known to this version of "
            "deeplab_mnv2; update the package to read this file."
        )
    try:
        return kind(**fields)
    except UserError as error:
        raise UserError(
            f"The stored {str(error).removesuffix('.')}; the file is damaged."
        ) from error
