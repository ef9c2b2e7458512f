"""The backbone that a config names."""

from flax import nnx

from deeplab_mnv2.config import BackboneConfig
from deeplab_mnv2.models.mobilenet_v1 import MobileNetV1
from deeplab_mnv2.models.mobilenet_v2 import MobileNetV2

# Both have `endpoints` and the channels of what the heads read of them.
Backbone = MobileNetV1 | MobileNetV2


def make_backbone(config: BackboneConfig, *, rngs: nnx.Rngs) -> Backbone:
    """Return the MobileNet of `config.version`, with random weights."""
    return (MobileNetV1 if config.version == 1 else MobileNetV2)(config, rngs=rngs)
